"""What an image file says of itself, read without decoding a pixel: format, size, and whether it is whole.

The door refuses by this what a decoder must not be given: no picture, a refused format, no pixels, too many
pixels, a file cut short. JPEG and PNG, nearly all of the traffic, are read here in some microseconds; the other
formats are read by Pillow, which opens lazily. Bytes in, `ImageHeader` or `InvalidImage` out. What takes longer to find
out, `decode_cost.py` asks where the picture is decoded.

Sources: JPEG markers ITU-T T.81 table B.1; PNG chunks W3C PNG (third edition) section 5.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""Formats taken, by Pillow's names."""

# What Pillow logs of damaged files would be printed in the notebook if nobody listens; who does, still hears it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MAX_SIDE = 1 << 20
"""Longest side in pixels; OpenCV decodes no longer one (its `CV_IO_MAX_IMAGE_WIDTH` and `_HEIGHT`)."""

_NO_RANGE = {"F": "floats", "I": "32-bit numbers"}  # Pillow's modes

_SMALLEST_BYTES = 26  # a BMP header; no complete file of any of the formats is shorter
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")  # of files of `FORMATS`
_TAKEN = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_JPEG_END = b"\xff\xd9"
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""Any marker but those that may stand in a scan's data."""

MOST_JPEG_MARKERS = 4096
"""Markers of a JPEG before its frame header, and after it; real files have some tens."""

_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length


class ImageHeader(NamedTuple):
    """What the header says.

    Attributes:
        format: One of `FORMATS`.
        width: Pixels, as stored (an EXIF orientation may turn the picture later).
        height: Pixels, as stored.
        channels: Components as stored: 1, 3, 4 …; 0 where the header was not asked. A JPEG of 4 is CMYK.
    """

    format: str
    width: int
    height: int
    channels: int


def read_header(encoded: bytes, *, max_pixels: int) -> ImageHeader:
    """Read and check the header of an image file.

    Args:
        encoded: The file's bytes.
        max_pixels: Largest width × height.

    Raises:
        InvalidImage: If it is empty, no picture, of a format not taken, without pixels, too large, or cut short.
    """
    if len(encoded) < _SMALLEST_BYTES:
        raise InvalidImage(_what_is_small(encoded))
    if encoded[:3] == b"\xff\xd8\xff":
        header = _read_jpeg(encoded)
    elif encoded[:8] == b"\x89PNG\r\n\x1a\n":
        header = _read_png(encoded)
    else:
        header = _read_with_pillow(encoded)
    pixels = header.width * header.height
    if pixels <= 0:
        raise InvalidImage(f"{header.format} without pixels: its header says {header.width}×{header.height}")
    if max(header.width, header.height) > MAX_SIDE:
        raise InvalidImage(
            f"{header.format} of {header.width}×{header.height}: no side may be over {MAX_SIDE:,} pixels"
        )
    if pixels > max_pixels:
        raise InvalidImage(
            f"{header.format} of {header.width}×{header.height} = {pixels / 1e6:.1f} megapixels is over the limit "
            f"of {max_pixels / 1e6:.1f}: scale it down, or raise max_image_pixels in the server's Settings"
        )
    return header


def _what_is_small(encoded: bytes) -> str:
    """What is wrong with too few bytes: there are none, a picture was cut, or they never were one."""
    if not encoded:
        return "Image is empty (0 bytes): nothing was sent"
    text = f"Image too small ({len(encoded)} bytes)"
    if any(encoded.startswith(start) or start.startswith(encoded) for start in _STARTS):
        return text
    return f"{text}, and no picture by its start ({_start_of(encoded)}): send the bytes of a {_TAKEN} file"


def _start_of(encoded: bytes) -> str:
    return " ".join(f"{byte:02x}" for byte in encoded[:8])


def jpeg_end(encoded: bytes) -> int:
    """Where the end marker of a JPEG's (first) picture is, past the thumbnails that may stand before its data.

    Raises:
        InvalidImage: If there is no frame header or no end marker.
    """
    # The marker cannot stand in the picture's data, only in what a segment holds; telephones append whole videos
    # after it.
    position = jpeg_frame_header(encoded)
    for _ in range(MOST_JPEG_MARKERS):
        found = JPEG_MARKER.search(encoded, position)
        if found is None:
            break
        at = found.start()
        if encoded[at + 1] == _JPEG_END[1]:
            return at
        position = at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    if encoded[-2:] == _JPEG_END:
        return len(encoded) - 2  # markers in damaged data have led past it
    raise InvalidImage(f"JPEG is cut short: no end marker in its {len(encoded)} bytes; send the whole file")


def _read_jpeg(encoded: bytes) -> ImageHeader:
    position = jpeg_frame_header(encoded)
    if encoded[-2:] != _JPEG_END:
        jpeg_end(encoded)
    height = (encoded[position + 5] << 8) | encoded[position + 6]
    width = (encoded[position + 7] << 8) | encoded[position + 8]
    return ImageHeader("JPEG", width, height, encoded[position + 9])


def jpeg_frame_header(encoded: bytes) -> int:
    """Where the start-of-frame marker of a JPEG is.

    Raises:
        InvalidImage: If there is none.
    """
    position = find_jpeg_marker(encoded, 2, _JPEG_SOF)
    if position < 0:
        raise InvalidImage(f"JPEG is damaged or cut short: no frame header in its {len(encoded)} bytes")
    return position


def find_jpeg_marker(encoded: bytes, start: int, wanted: frozenset[int]) -> int:
    """Where the first of the wanted markers is, going from marker to marker; -1 if that does not lead to one."""
    position, size = start, len(encoded)
    for _ in range(MOST_JPEG_MARKERS):
        if position + 9 >= size or encoded[position] != 0xFF:
            break
        marker = encoded[position + 1]
        if marker in wanted:
            return position
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + ((encoded[position + 2] << 8) | encoded[position + 3])
    return -1


def _read_png(encoded: bytes) -> ImageHeader:
    if encoded[12:16] != b"IHDR":
        raise InvalidImage("PNG is damaged: it does not start with IHDR")
    if encoded[-8:-4] != b"IEND" and b"IEND" not in encoded:
        raise InvalidImage(f"PNG is cut short: no IEND in its {len(encoded)} bytes; send the whole file")
    width = int.from_bytes(encoded[16:20], "big")
    height = int.from_bytes(encoded[20:24], "big")
    return ImageHeader("PNG", width, height, 0)


def _read_with_pillow(encoded: bytes) -> ImageHeader:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow's own limit of size, and what it thinks of damaged notes: nobody reads that here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
                if picture.mode in _NO_RANGE:
                    raise InvalidImage(
                        f"{picture.format} of {_NO_RANGE[picture.mode]}, of which nothing says what is black and "
                        "what white: scale them to 0–255 and save them as 8 bits"
                    )
                return ImageHeader(picture.format or "?", picture.width, picture.height, len(picture.getbands()))
    except Image.DecompressionBombError as error:
        raise InvalidImage(f"Image is far over the limit of pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, OverflowError, EOFError) as error:
        raise InvalidImage(
            f"No picture that can be read ({len(encoded)} bytes starting {_start_of(encoded)}): send the bytes of a "
            f"{_TAKEN} file"
        ) from error
