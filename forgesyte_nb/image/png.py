"""PNG files: header, what their chunks may cost, the orientation, and a copy without metadata.

The header gives the number of pixels. It gives neither the length of the data after the picture is complete nor the
size of the inflated metadata: decoders inflate all of it, at seconds for each megabyte. Real files stay far below the
limits here.

Sources: W3C PNG (third edition) sections 5, 10 and 11.3; RFC 1951 (deflated data).
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged
from forgesyte_nb.image.orientation import orientation_of

MOST_TEXTS = 50
"""Compressed metadata chunks, each of which decoders unpack to some megabytes; files have a few."""

MOST_CHUNKS = 1 << 16
"""Chunks; encoders cut the pixels into pieces of some kilobytes, and decoders look at each for a microsecond."""

HARMLESS_BYTES = 512 * 1024
"""Bytes of deflated pixels: at the most 1,032 times as much (RFC 1951), inflated within half a second."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_TEXTS = (b"zTXt", b"iTXt", b"iCCP")
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_SLACK_BYTES = 64 * 1024
_MOST_TEXT_BYTES = 1 << 20
_RAW_PROFILE, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"


class Chunks(NamedTuple):
    """What the chunks of a PNG are.

    Attributes:
        data_bytes: Bytes of deflated pixels.
        pixels: Start and end of each chunk that the first picture needs, but for the last.
        metadata: Kind, start and length of what may tell the orientation.
    """

    data_bytes: int
    pixels: list[tuple[int, int]]
    metadata: list[tuple[bytes, int, int]]


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of a PNG.

    Raises:
        InvalidImage: If it does not begin with its header, or the end is missing.
    """
    if encoded[12:16] == b"CgBI":
        raise InvalidImage("PNG of Apple's own kind (CgBI), which is no PNG for other programs: save it anew as PNG")
    if encoded[8:16] != b"\0\0\0\rIHDR":
        raise damaged("PNG", "it does not start with IHDR")
    if encoded[-8:-4] != b"IEND" and b"IEND" not in encoded:
        raise cut_short("PNG", f"no IEND in its {len(encoded)} bytes")
    width = int.from_bytes(encoded[16:20], "big")
    height = int.from_bytes(encoded[20:24], "big")
    return ImageHeader("PNG", width, height, _CHANNELS.get(encoded[25], 0), encoded[24])


def check_chunks(encoded: bytes) -> Chunks:
    """Read the chunks of a PNG up to its end.

    Decoders believe the lengths of chunks: one that says 4 GB costs some seconds, whatever the file's size.

    Raises:
        InvalidImage: If a chunk is longer than the file, the end is missing, there is a second header, there are more
            than `MOST_CHUNKS` or `MOST_TEXTS`, or there are more pixels than the header says.
    """
    position, size = 8, len(encoded)
    chunks = Chunks(0, [], [])
    texts = 0
    for number in range(MOST_CHUNKS):
        if position + 12 > size:
            raise damaged("PNG", f"its chunks do not fit into its {size} bytes")
        kind = encoded[position + 4 : position + 8]
        length = int.from_bytes(encoded[position : position + 4], "big")
        if kind == b"IEND":
            _check_data_bytes(encoded, chunks.data_bytes)
            return chunks
        if kind == b"IHDR" and number:
            raise damaged("PNG", "it has two headers")
        if kind in _PIXELS:
            chunks.pixels.append((position, position + 12 + length))
            if kind == b"IDAT":
                chunks = chunks._replace(data_bytes=chunks.data_bytes + length)
        elif kind in _METADATA:
            chunks.metadata.append((kind, position + 8, length))
        texts += kind in _TEXTS
        if texts > MOST_TEXTS:
            raise InvalidImage(
                f"PNG with more than {MOST_TEXTS} compressed texts (zTXt, iTXt, iCCP): save it anew without them"
            )
        position += 12 + length
    raise InvalidImage(f"PNG of more than {MOST_CHUNKS:,} chunks: save it anew with fewer, of some kilobytes each")


def _check_data_bytes(encoded: bytes, data_bytes: int) -> None:
    """Check that there are no more deflated data than the rows can become.

    Deflate stores what it cannot shrink (RFC 1951 section 3.2.4), and its fixed codes are of 9 bits at the most. The
    rest is for encoders that write each row as a block.
    """
    width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20))
    row_bytes = 1 + (width * _CHANNELS.get(encoded[25], 4) * encoded[24] + 7) // 8
    if data_bytes > row_bytes * height * 8 // 7 + 16 * height + _SLACK_BYTES:
        raise InvalidImage("PNG whose data go on after its picture is complete: save it anew")


def first_picture(encoded: bytes, chunks: Chunks) -> bytes:
    """A PNG of the first picture alone: libpng inflates metadata, and OpenCV reads animations that are cut short."""
    parts = [encoded[start:end] for start, end in chunks.pixels]
    return b"".join((encoded[:8], *parts, b"\0\0\0\0IEND\xaeB`\x82"))


def read_orientation(encoded: bytes, chunks: Chunks) -> int:
    """The orientation, 1 to 8: by the eXIf chunk, else by the text in which ImageMagick writes EXIF, else by XMP."""
    exif = profile = xmp = b""
    for kind, start, length in chunks.metadata:
        body = encoded[start : start + length]
        if kind == b"eXIf":
            exif = exif or body
        elif body.startswith(_RAW_PROFILE + b"\0"):
            profile = profile or _text(kind, body)
        elif body.startswith(_XMP + b"\0"):
            xmp = xmp or _text(kind, body)
    if profile and not exif:
        try:
            exif = bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
        except ValueError:
            exif = b""
    return orientation_of(exif, xmp) if exif or xmp else 1


def _text(kind: bytes, body: bytes) -> bytes:
    """The text of a text chunk; empty if it cannot be inflated."""
    rest = body.partition(b"\0")[2]
    deflated = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]  # the method
    elif kind == b"iTXt":
        deflated = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    if not deflated:
        return rest
    try:
        return zlib.decompressobj().decompress(rest, _MOST_TEXT_BYTES)
    except zlib.error:
        return b""
