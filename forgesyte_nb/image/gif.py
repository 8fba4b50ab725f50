"""GIF files: the size of the first picture.

Source: GIF89a specification, sections 18 to 26. As in Pillow, a picture that is larger than its screen enlarges it.
"""

from __future__ import annotations

import struct

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged

MOST_BLOCKS = 16_384
"""Blocks of up to 255 bytes before the first picture: comments, metadata; real files have some hundreds."""

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of a GIF up to its first picture.

    Raises:
        InvalidImage: If there is no picture, or more than `MOST_BLOCKS` before it.
    """
    if encoded[:6] not in (b"GIF87a", b"GIF89a"):
        raise damaged("GIF", f"its version is {encoded[3:6]!r}")
    width, height, flags = struct.unpack_from("<HHB", encoded, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    size, blocks = len(encoded), 0
    while position + 10 <= size:
        kind = encoded[position]
        if kind == _IMAGE:
            left, top, wide, high = struct.unpack_from("<HHHH", encoded, position + 1)
            return ImageHeader("GIF", max(width, left + wide), max(height, top + high), 1, 8)
        if kind == _TRAILER:
            raise damaged("GIF", "it has no picture")
        position += 1
        blocks += 1
        if kind == _EXTENSION:
            position += 1
            while position < size and encoded[position] and blocks <= MOST_BLOCKS:
                position += 1 + encoded[position]
                blocks += 1
            position += 1
        if blocks > MOST_BLOCKS:
            raise InvalidImage(
                f"GIF with more than {MOST_BLOCKS:,} blocks of comments and metadata before its picture: save it "
                "anew without them"
            )
    raise cut_short("GIF", f"no picture in its {size} bytes")
