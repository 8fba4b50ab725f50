"""Pictures made narrower for viewers that asked for it.

Encoding costs more than all else that is done for a viewer, so it happens only on demand and in a thread. JPEGs that
are to become less than half as wide are decoded at a half, a quarter or an eighth, which libjpeg does at a
fraction of the cost.
"""

from __future__ import annotations

import cv2
import numpy as np

from forgesyte_nb.feeds import ShownPicture

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def narrower(picture: ShownPicture, max_width: int, quality: int) -> ShownPicture:
    """A picture as a JPEG of at most `max_width` pixels across; as it is, if it cannot be decoded.

    Args:
        picture: Its `about["width"]` says how wide it is, in pixels.
        max_width: In pixels.
        quality: Of the JPEG, 1 to 95.

    Returns:
        The picture; `width` and `height` in its header stay those of the original, to which results refer.
    """
    width = int(picture.about.get("width", 0))
    flags = next((flag for factor, flag in _REDUCED if width // factor >= max_width), cv2.IMREAD_COLOR)
    image_bgr = cv2.imdecode(np.frombuffer(picture.payload, np.uint8), flags)
    if image_bgr is None:
        return picture
    height = max(1, round(image_bgr.shape[0] * max_width / image_bgr.shape[1]))
    if image_bgr.shape[1] > max_width:
        image_bgr = cv2.resize(image_bgr, (max_width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return ShownPicture(encoded.tobytes(), "image/jpeg", picture.seq, picture.about)
