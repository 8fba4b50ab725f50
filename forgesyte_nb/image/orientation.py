"""The orientation of a picture, from EXIF and XMP metadata, and turning pixels upright.

Reads the same metadata as Pillow's `ImageOps.exif_transpose`: EXIF first, then XMP.

Sources: CIPA DC-008 (Exif 2.32) section 4.6.4, tag 0x0112; Adobe XMP part 2, `tiff:Orientation`.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UPRIGHT = 1
"""Value of the orientation tag for pixels stored as they are shown; the others are 2 to 8."""

ORIENTATION_TAG = 0x0112
"""Of EXIF and TIFF."""

_MOST_ENTRIES = 1000
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF field types by number: BYTE, SHORT, LONG
_EXIF_PREFIX = b"Exif\0\0"
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_of(exif: bytes, xmp: bytes) -> int:
    """The orientation, 1 to 8.

    Args:
        exif: A TIFF structure, with or without the prefix `Exif\\0\\0`; empty if there is none.
        xmp: An XMP packet; empty if there is none.
    """
    found = _from_exif(exif.removeprefix(_EXIF_PREFIX))
    if found is None:
        match = _XMP.search(xmp)
        found = int(match[1]) if match else UPRIGHT
    return found if 1 <= found <= 8 else UPRIGHT


def _from_exif(exif: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (position,) = struct.unpack_from(f"{order}I", exif, 4)
    if position + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, position)
    entry = struct.Struct(f"{order}HHI")
    for at in range(position + 2, position + 2 + 12 * min(count, _MOST_ENTRIES), 12):
        if at + 12 > len(exif):
            return None
        tag, kind, values = entry.unpack_from(exif, at)
        if tag == ORIENTATION_TAG and kind in _INTEGERS and values == 1:
            return int(struct.unpack_from(order + _INTEGERS[kind], exif, at + 8)[0])
    return None


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror uint8 pixels `(H, W, 3)` by the value of an orientation tag, 1 to 8."""
    import cv2

    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)  # type: ignore[assignment]  # rows become columns
    # Mirrored left to right (1), top to bottom (0), both (-1): OpenCV's codes.
    code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if code is None else cv2.flip(pixels, code)  # type: ignore[return-value]
