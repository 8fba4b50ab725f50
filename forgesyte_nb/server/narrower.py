"""Pictures encoded for a viewer: raw pixels, and pictures that are to be narrower.

Encoding costs more than all else that is done for a viewer, so it happens only on demand and in a thread. JPEGs that
are to become less than half as wide are decoded at a half, a quarter or an eighth, which libjpeg does at a fraction of
the cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from forgesyte_nb.feeds import ShownPicture
from forgesyte_nb.image.frame import Frame, encode_jpeg

if TYPE_CHECKING:
    from forgesyte_nb.image.frame import Image8

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def narrower(picture: ShownPicture, max_width: int, quality: int) -> ShownPicture:
    """Encode a picture as a JPEG of at most `max_width` pixels across; a file that cannot be decoded stays as it is.

    Args:
        picture: Its `about["width"]` says how wide it is, in pixels.
        max_width: In pixels.
        quality: Of a JPEG that is narrower, 1 to 95; at full width raw pixels have the quality of `Frame.bytes`.

    Returns:
        The picture; `width` and `height` in its header stay those of the original, to which results refer.
    """
    width = int(picture.about.get("width", 0))
    if isinstance(picture.image, Frame):
        if width <= max_width:
            return ShownPicture(picture.image.bytes, picture.content_type, picture.seq, picture.about)
        narrow = Frame.from_array(_narrowed(picture.image.rgb, max_width), copy=False)
        return ShownPicture(encode_jpeg(narrow.bgr, quality=quality), "image/jpeg", picture.seq, picture.about)
    flags = next((flag for factor, flag in _REDUCED if width // factor >= max_width), cv2.IMREAD_COLOR)
    image_bgr: Any = cv2.imdecode(np.frombuffer(picture.image, np.uint8), flags)
    if image_bgr is None:
        return picture
    encoded = encode_jpeg(_narrowed(image_bgr, max_width), quality=quality)
    return ShownPicture(encoded, "image/jpeg", picture.seq, picture.about)


def _narrowed(image: Image8, max_width: int) -> Image8:
    height, width = image.shape[:2]
    if width <= max_width:
        return image
    size_wh = (max_width, max(1, round(height * max_width / width)))
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # cv2 says MatLike
