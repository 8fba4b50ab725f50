"""What decoding a file may cost beyond its size in pixels: time that a small file asks for, found out before it goes.

A header tells the pixels. It does not tell how often a JPEG paints over all of them, how much a PNG's data go on after
the picture is complete, or what its notes unpack to: decoders do all of that, at seconds for each megabyte. No real
file comes near the limits here. Bytes in, nothing or `InvalidImage` out.

Sources: JPEG ITU-T T.81 sections B.2.3 and G.1; PNG W3C PNG (third edition) sections 5, 10 and 11.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image_header import JPEG_MARKER, MOST_JPEG_MARKERS, find_jpeg_marker, jpeg_frame_header

MOST_SCANS = 50
"""Scans of a JPEG, each of which may paint every pixel; encoders write one, or some ten."""

MOST_NOTES = 50
"""Compressed notes of a PNG, each of which decoders unpack to some megabytes; files have a few."""

MOST_CHUNKS = 1 << 16
"""Chunks of a PNG; encoders cut its data into pieces of some kilobytes, and decoders look at each for a microsecond."""

_HARMLESS_BYTES = 512 * 1024  # of deflated data: at the most 1,032 times as much (RFC 1951), unpacked within a second
_SOS, _EOI = 0xDA, 0xD9
_START_OF_SCAN = frozenset({_SOS})
_ONE_PASS = (0xC0, 0xC1, 0xC9)  # start-of-frame markers of JPEGs that are not progressive
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by a PNG's colour type
_NOTES = (b"zTXt", b"iTXt", b"iCCP")
_PIECE_BYTES = 16 * 1024
_UNPACK_BYTES = 256 * 1024
_SLACK_BYTES = 64 * 1024


def check_jpeg_scans(encoded: bytes) -> None:
    """See that a JPEG does not paint its picture over and over.

    Raises:
        InvalidImage: If it has more than `MOST_SCANS`, or more than `MOST_JPEG_MARKERS` markers.
    """
    frame = jpeg_frame_header(encoded)
    if encoded[frame + 1] in _ONE_PASS:
        first = find_jpeg_marker(encoded, frame, _START_OF_SCAN)
        if first >= 0 and encoded[first + 4] == encoded[frame + 9]:
            return  # all components are in the first scan: decoders are done after it
    position, scans = frame, 0
    for _ in range(MOST_JPEG_MARKERS):
        found = JPEG_MARKER.search(encoded, position)
        if found is None or encoded[found.start() + 1] == _EOI:
            return
        at = found.start()
        scans += encoded[at + 1] == _SOS
        if scans > MOST_SCANS:
            raise InvalidImage(
                f"JPEG of more than {MOST_SCANS} scans, each over the whole picture: save it anew with fewer"
            )
        position = at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")  # what a segment holds is no marker
    raise InvalidImage(f"JPEG of more than {MOST_JPEG_MARKERS:,} segments: save it anew without most of them")


def check_png_chunks(encoded: bytes) -> bool:
    """Whether a PNG is animated.

    Decoders believe the lengths of chunks: one that says 4 GB costs some seconds, whatever the file's size.

    Raises:
        InvalidImage: If a chunk is longer than the file, the end is missing, there are more than `MOST_CHUNKS` or
            `MOST_NOTES`, or the picture's data go on after the picture.
    """
    position, size = 8, len(encoded)
    animated, notes = False, 0
    data: list[tuple[int, int]] = []
    for _ in range(MOST_CHUNKS):
        if position + 12 > size:
            raise InvalidImage(f"PNG is damaged: its chunks do not fit into its {size} bytes")
        kind = encoded[position + 4 : position + 8]
        length = int.from_bytes(encoded[position : position + 4], "big")
        if kind == b"IEND":
            _check_png_data(encoded, data)
            return animated
        if kind == b"IDAT":
            data.append((position + 8, length))
        elif kind in _NOTES:
            notes += 1
            if notes > MOST_NOTES:
                raise InvalidImage(
                    f"PNG with more than {MOST_NOTES} compressed notes (zTXt, iTXt, iCCP): save it anew without them"
                )
        animated = animated or kind == b"acTL"
        position += 12 + length
    raise InvalidImage(f"PNG of more than {MOST_CHUNKS:,} chunks: save it anew with fewer, of some kilobytes each")


def _check_png_data(encoded: bytes, data: list[tuple[int, int]]) -> None:
    """Unpack much data as far as the picture goes, and see that they end there."""
    if sum(length for _, length in data) <= _HARMLESS_BYTES:
        return
    left = _png_picture_bytes(encoded) + _SLACK_BYTES
    unpacker = zlib.decompressobj()
    try:
        for rest in _pieces(encoded, data):
            while len(rest) and not unpacker.eof:
                left -= len(unpacker.decompress(rest, _UNPACK_BYTES))
                rest = unpacker.unconsumed_tail
                if left < 0:
                    raise InvalidImage("PNG whose data go on after its picture is complete: save it anew")
    except zlib.error:
        return  # damaged, as the decoder will say


def _pieces(encoded: bytes, data: list[tuple[int, int]]) -> Iterator[memoryview | bytes]:
    """Small ones: what the unpacker has not come to is copied each time."""
    view = memoryview(encoded)
    for start, length in data:
        for at in range(start, start + length, _PIECE_BYTES):
            yield view[at : min(at + _PIECE_BYTES, start + length)]


def _png_picture_bytes(encoded: bytes) -> int:
    """Bytes of all rows, unpacked; of an interlaced picture a little more than they are."""
    width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20))
    depth, colour, interlaced = encoded[24], encoded[25], encoded[28]
    row = 1 + (width * _CHANNELS.get(colour, 4) * depth + 7) // 8
    return row * height + (8 * height if interlaced else 0)
