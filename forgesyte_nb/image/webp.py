"""WebP files: size, whether it is animated, and the orientation.

Source: RFC 9649, sections 2.3 to 2.7 (container), 3.4 (lossless header); RFC 6386 section 9.1 (lossy header).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged
from forgesyte_nb.image.orientation import orientation_of

MOST_CHUNKS = 65_536
"""Chunks of a WebP; an animation has one for each of its pictures."""

_ANIMATED = 0x02  # flag in VP8X
_BEFORE_PICTURE = 64  # chunks; files have at most ICCP, ANIM and ALPH


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of a WebP.

    Raises:
        InvalidImage: If it is damaged or cut short, or its picture is not of the size of its canvas.
    """
    declared = struct.unpack_from("<I", encoded, 4)[0] + 8
    if declared > len(encoded):
        raise cut_short("WebP", f"its header says {declared} bytes, it has {len(encoded)}")
    kind = encoded[12:16]
    if kind != b"VP8X":
        width, height = _picture_size(encoded, 12, kind)
        return ImageHeader("WEBP", width, height, 3, 8)
    if len(encoded) < 30:
        raise damaged("WebP", "its first chunk is cut")
    canvas = (1 + int.from_bytes(encoded[24:27], "little"), 1 + int.from_bytes(encoded[27:30], "little"))
    for number, (at, kind) in enumerate(_chunks(encoded)):
        if kind == b"ANMF" or number > _BEFORE_PICTURE:
            break
        if kind in (b"VP8 ", b"VP8L"):
            size = _picture_size(encoded, at, kind)
            if size != canvas and not encoded[20] & _ANIMATED:
                raise damaged("WebP", f"its canvas is {canvas[0]}×{canvas[1]}, its picture {size[0]}×{size[1]}")
            break
    return ImageHeader("WEBP", *canvas, 3, 8)


def _picture_size(encoded: bytes, at: int, kind: bytes) -> tuple[int, int]:
    body = encoded[at + 8 : at + 18]
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) == 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF  # the upper two bits are a scale for display
    if kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise damaged("WebP", f"no picture follows its chunk {kind!r}")


def _chunks(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Position and name of each chunk."""
    position, end = 12, min(len(encoded), struct.unpack_from("<I", encoded, 4)[0] + 8)
    for _ in range(MOST_CHUNKS):
        if position + 8 > end:
            return
        yield position, encoded[position : position + 4]
        size = int.from_bytes(encoded[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    raise InvalidImage(f"WebP of more than {MOST_CHUNKS:,} chunks: save it anew with fewer")


def is_animated(encoded: bytes) -> bool:
    """True if it is an animation by its flags."""
    return encoded[12:16] == b"VP8X" and bool(encoded[20] & _ANIMATED)


def read_orientation(encoded: bytes) -> int:
    """The orientation, 1 to 8, by its first chunks of EXIF and XMP."""
    found: dict[bytes, bytes] = {}
    if encoded[12:16] == b"VP8X":
        for at, kind in _chunks(encoded):
            if kind in (b"EXIF", b"XMP ") and kind not in found:
                size = int.from_bytes(encoded[at + 4 : at + 8], "little")
                found[kind] = encoded[at + 8 : at + 8 + size]
    return orientation_of(found.get(b"EXIF", b""), found.get(b"XMP ", b""))
