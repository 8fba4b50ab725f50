"""JPEG files: size and channels as libjpeg reads them, the number of scans, the end, the orientation.

Markers are found as in libjpeg's `next_marker`: bytes that belong to no segment are skipped, and so are `FF` fill bytes
and `FF 00`. The size that is read here is therefore the size that is decoded.

Sources: ITU-T T.81 table B.1 and sections B.2.3 and G.1; libjpeg-turbo 3 `jdmarker.c`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged
from forgesyte_nb.image.orientation import UPRIGHT, orientation_of

MOST_SEGMENTS = 4096
"""Segments of a JPEG before its frame header, and after it; real files have some tens."""

MOST_STRAY_BYTES = 64 * 1024
"""Bytes between segments that belong to none; Pillow reads them one at a time, in 0.2 µs each."""

MOST_SCANS = 50
"""Scans of a JPEG, each of which may paint every pixel; encoders write one, or some ten."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # any but those that may stand in a scan's data
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_SOI, _EOI, _SOS, _APP1, _FF = 0xD8, 0xD9, 0xDA, 0xE1, 0xFF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_DECODED_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})
_ONE_PASS = frozenset({0xC0, 0xC1, 0xC3, 0xC9})  # frames that are not progressive
_END = b"\xff\xd9"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of a JPEG.

    Raises:
        InvalidImage: If there is no frame header or no end marker, or if the pixels are of a kind that is not decoded.
    """
    position = _frame_header(encoded)
    if encoded[-2:] != _END and encoded.rfind(_END, position) < 0:
        raise _without_end(encoded)
    marker, bits, channels = encoded[position + 1], encoded[position + 4], encoded[position + 9]
    height = (encoded[position + 5] << 8) | encoded[position + 6]
    width = (encoded[position + 7] << 8) | encoded[position + 8]
    if bits != 8:
        raise InvalidImage(f"JPEG of {bits} bits a channel: JPEGs of 8 bits are accepted; save it as PNG or TIFF")
    if marker not in _DECODED_FRAMES or channels not in (1, 3, 4):
        raise InvalidImage(
            f"JPEG of a kind that is not decoded (frame type {marker - 0xC0}, {channels} channels): save it as a "
            "baseline JPEG in gray or colour"
        )
    return ImageHeader("JPEG", width, height, channels, bits)


def _without_end(encoded: bytes) -> InvalidImage:
    return cut_short("JPEG", f"no end marker in its {len(encoded)} bytes")


def _frame_header(encoded: bytes) -> int:
    """The position of the start-of-frame marker."""
    size = len(encoded)
    for position in _segments(encoded, 2):
        if position + 10 > size:
            break
        marker = encoded[position + 1]
        if marker in _FRAMES:
            return position
        if marker in (_SOI, _EOI, _SOS):
            raise damaged("JPEG", f"marker FF {marker:02X} stands before its frame header")
    raise InvalidImage(f"JPEG is damaged or cut short: no frame header in its {size} bytes")


def _segments(encoded: bytes, position: int) -> Iterator[int]:
    """Positions of markers; what a segment holds is skipped. `position` is where a segment ends."""
    stray, last = 0, len(encoded) - 1
    for _ in range(MOST_SEGMENTS):
        # Nearly always a marker follows at once; searching takes longer.
        if position >= last or encoded[position] != _FF or not 0 < encoded[position + 1] < _FF:
            found = _next_marker(encoded, position)
            if found < 0:
                return
            stray += found - position
            if stray > MOST_STRAY_BYTES:
                raise _too_many_stray_bytes()
            position = found
        yield position
        position = _after_segment(encoded, position)
    raise _too_many_segments()


def _next_marker(encoded: bytes, position: int) -> int:
    """The position of the next marker; -1 if the file ends before."""
    found = _MARKER.search(encoded, position, position + MOST_STRAY_BYTES)
    if found is not None:
        return found.start()
    if position + MOST_STRAY_BYTES < len(encoded):
        raise _too_many_stray_bytes()
    return -1


def _too_many_stray_bytes() -> InvalidImage:
    return damaged("JPEG", f"over {MOST_STRAY_BYTES:,} bytes between its segments")


def _after_segment(encoded: bytes, position: int) -> int:
    if encoded[position + 1] in _BARE:
        return position + 2
    # A length counts itself, two bytes; libjpeg takes smaller ones as that.
    return position + 2 + max(2, int.from_bytes(encoded[position + 2 : position + 4], "big"))


def _too_many_segments() -> InvalidImage:
    return InvalidImage(f"JPEG of more than {MOST_SEGMENTS:,} segments: save it anew without most of them")


def check_scans(encoded: bytes) -> None:
    """Check that a JPEG has its end, and does not paint its picture over and over.

    Raises:
        InvalidImage: If it has more than `MOST_SCANS` scans or `MOST_SEGMENTS` segments, no scan, or no end marker
            but in what a segment holds.
    """
    if encoded[-2:] != _END:
        find_end(encoded)
    frame = _frame_header(encoded)
    position = _after_segment(encoded, frame)
    if encoded[frame + 1] in _ONE_PASS:
        first = _first_scan(encoded, position)
        if encoded[first + 4] == encoded[frame + 9]:
            return  # all components are in the first scan: decoders are done after it
    scans = 0
    for _ in range(MOST_SEGMENTS):
        found = _MARKER_IN_SCAN.search(encoded, position)
        if found is None or encoded[found.start() + 1] == _EOI:
            return
        scans += encoded[found.start() + 1] == _SOS
        if scans > MOST_SCANS:
            raise InvalidImage(
                f"JPEG of more than {MOST_SCANS} scans, each over the whole picture: save it anew with fewer"
            )
        position = _after_segment(encoded, found.start())
    raise _too_many_segments()


def _first_scan(encoded: bytes, after_frame: int) -> int:
    for position in _segments(encoded, after_frame):
        if position + 5 > len(encoded) or encoded[position + 1] == _EOI:
            break
        if encoded[position + 1] == _SOS:
            return position
    raise cut_short("JPEG", f"no picture data in its {len(encoded)} bytes")


def find_end(encoded: bytes) -> int:
    """The position of the end marker of the (first) picture; telephones append whole videos after it.

    Raises:
        InvalidImage: If there is no frame header or no end marker.
    """
    # The marker cannot stand in the picture's data, only in what a segment holds: thumbnails, comments.
    position = _after_segment(encoded, _frame_header(encoded))
    for _ in range(MOST_SEGMENTS):
        found = _MARKER_IN_SCAN.search(encoded, position)
        if found is None:
            break
        if encoded[found.start() + 1] == _EOI:
            return found.start()
        position = _after_segment(encoded, found.start())
    if encoded[-2:] == _END:
        return len(encoded) - 2  # markers in damaged data have led past it
    raise _without_end(encoded)


def read_orientation(encoded: bytes) -> int:
    """The orientation, 1 to 8, by the first EXIF and XMP segments before the frame header."""
    exif = xmp = b""
    for position in _segments(encoded, 2):
        if encoded[position + 1] in _FRAMES:
            break
        if encoded[position + 1] == _APP1:
            body = encoded[position + 4 : _after_segment(encoded, position)]
            if not exif and body.startswith(_EXIF):
                exif = body
            elif body.startswith(_XMP):
                xmp = body
    return orientation_of(exif, xmp) if exif or xmp else UPRIGHT
