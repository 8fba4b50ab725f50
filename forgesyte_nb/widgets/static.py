"""What stands in a widget's place where there is no kernel: small pictures, since they are saved with the notebook.

Photographs become JPEG, drawings PNG with a palette; neither is wider than a page shows.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MOST_WIDE = 640  # pixels
_QUALITY = 80  # of JPEG: boxes and captions stay sharp
_COLOURS = 128  # of a plot: lines with smooth edges on one ground


class StaticPicture(NamedTuple):
    """A picture for a saved notebook.

    Attributes:
        content_type: "image/jpeg" or "image/png".
        encoded: Bytes of the file.
    """

    content_type: str
    encoded: bytes

    @property
    def text(self) -> str:
        """As notebooks keep it."""
        return base64.b64encode(self.encoded).decode()


def photograph(picture: PILImage) -> StaticPicture:
    """A small JPEG."""
    return StaticPicture("image/jpeg", _encoded(_narrow(picture.convert("RGB")), "JPEG", quality=_QUALITY))


def drawing(picture: PILImage) -> StaticPicture:
    """A small PNG."""
    few = picture.convert("RGB").quantize(_COLOURS)
    return StaticPicture("image/png", _encoded(few, "PNG", optimize=True))


def _narrow(picture: PILImage) -> PILImage:
    if picture.width <= MOST_WIDE:
        return picture
    return picture.resize((MOST_WIDE, max(1, round(picture.height * MOST_WIDE / picture.width))))


def _encoded(picture: PILImage, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()
