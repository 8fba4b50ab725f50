"""BMP files: header and pixels.

OpenCV leaves the low bits of 16-bit pixels empty, reads no bit masks of a 52-byte header and garbles run lengths.
Pillow knows a few bit masks only, and its run-length decoder goes pixel by pixel. So the pixels are read here.

Sources: Microsoft "Bitmap Storage", `BITMAPCOREHEADER`, `BITMAPINFOHEADER`, `BITMAPV4HEADER`, `BITMAPV5HEADER` and
"Bitmap Compression"; the headers of 16 and 64 bytes are those of OS/2 2.x.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_RUNS = 1 << 18
"""Run-length codes of a BMP; each takes about a microsecond."""

_HEADERS_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)
_OS2_HEADERS_BYTES = (16, 64)
_FILE_HEADER_BYTES = 14
_MASKS_AT = _FILE_HEADER_BYTES + 40
_PLAIN, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)
_DEPTHS = {_PLAIN: (1, 2, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (16, 32), _ALPHA_BITFIELDS: (16, 32)}
_DEFAULT_MASKS = {16: [0x7C00, 0x3E0, 0x1F], 32: [0xFF0000, 0xFF00, 0xFF]}
_BAND_PIXELS = 1 << 20  # made at a time, which bounds the memory beside the result


class BmpHeader(NamedTuple):
    """What is needed to read the pixels.

    Attributes:
        width: Pixels.
        height: Pixels.
        top_down: True if the first row is the top one.
        bits: Bits per pixel.
        compression: `biCompression`, from 0 to 6.
        palette_at: Position of the colour table.
        palette_step: Bytes of one of its colours, 3 or 4.
        colors: Colours in the table.
        pixels_at: Position of the pixels.
    """

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    palette_at: int
    palette_step: int
    colors: int
    pixels_at: int


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of a BMP.

    Raises:
        InvalidImage: If it is damaged, or of a kind that is not decoded.
    """
    header = _parse(encoded)
    if header.bits not in _DEPTHS.get(header.compression, ()):
        raise _not_decoded(header.bits, f"compression {header.compression}")
    return ImageHeader("BMP", header.width, header.height, 1 if header.bits <= 8 else 3, min(header.bits, 8))


def _not_decoded(bits: int, compression: str) -> InvalidImage:
    return InvalidImage(
        f"BMP of {bits} bits a pixel with {compression}, a kind that is not decoded: save it uncompressed, with 8 or "
        "24 bits"
    )


def _parse(encoded: bytes) -> BmpHeader:
    pixels_at, size = struct.unpack_from("<II", encoded, 10)
    if size not in _HEADERS_BYTES or len(encoded) < _FILE_HEADER_BYTES + size:
        raise damaged("BMP", f"its header says that it has {size} bytes")
    compression = colors = 0
    if size == _HEADERS_BYTES[0]:
        width, height, _, bits = struct.unpack_from("<HHHH", encoded, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", encoded, 18)
        if size >= 40:
            (compression,) = struct.unpack_from("<I", encoded, 30)
            (colors,) = struct.unpack_from("<I", encoded, 46)
    if size in _OS2_HEADERS_BYTES and compression not in (_PLAIN, _RLE8, _RLE4):
        raise _not_decoded(bits, f"OS/2 compression {compression}")  # Huffman codes, or runs of 24 bits
    if width < 0:
        raise damaged("BMP", f"its header says a width of {width}")
    if bits <= 8:
        colors = min(colors or 1 << bits, 256)
    step = 3 if size == _HEADERS_BYTES[0] else 4
    palette_at = _FILE_HEADER_BYTES + size
    if bits <= 8 and pixels_at == palette_at:
        pixels_at += step * colors  # some writers forget the colour table
    return BmpHeader(width, abs(height), height < 0, bits, compression, palette_at, step, colors, pixels_at)


def _row_bytes(header: BmpHeader) -> int:
    return (header.width * header.bits + 31) // 32 * 4


def decode(encoded: bytes) -> NDArray[np.uint8]:
    """The pixels of a BMP whose header `read_header` accepts: uint8 `(H, W, 3)`, red first; alpha is dropped.

    Raises:
        InvalidImage: If it is cut short, or has too many run-length codes.
    """
    import numpy as np

    header = _parse(encoded)
    if header.compression in (_RLE8, _RLE4):
        rows = _run_lengths(encoded, header)
    else:
        room = _row_bytes(header) * header.height
        wanted = header.pixels_at + room - 3  # the last row need not be filled up
        if len(encoded) < wanted:
            raise cut_short("BMP", f"{header.width}×{header.height} pixels need {wanted} bytes, it has {len(encoded)}")
        body = encoded[header.pixels_at : header.pixels_at + room].ljust(room, b"\0")
        rows = np.frombuffer(body, np.uint8).reshape(header.height, -1)
    if not header.top_down:
        rows = rows[::-1]
    pixels = np.empty((header.height, header.width, 3), np.uint8)
    read_band = _reader(encoded, header)
    step = max(1, _BAND_PIXELS // header.width)
    for top in range(0, header.height, step):
        pixels[top : top + step] = read_band(rows[top : top + step])
    return pixels


def _reader(encoded: bytes, header: BmpHeader) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The function that makes colours of some rows of bytes."""
    if header.bits <= 8:
        table = _colors(encoded, header)
        return lambda rows: table.take(_indices(rows, header), axis=0)  # a third of the time of table[…]
    if header.bits == 24:
        return lambda rows: rows[:, : header.width * 3].reshape(len(rows), header.width, 3)[:, :, ::-1]
    masks = _masks(encoded, header)
    return lambda rows: _masked(rows, header, masks)


def _colors(encoded: bytes, header: BmpHeader) -> NDArray[np.uint8]:
    """The colour table, `(256, 3)`, red first; indices beyond it are black."""
    import numpy as np

    step = header.palette_step
    stored = encoded[header.palette_at : header.palette_at + step * header.colors].ljust(step * 256, b"\0")
    return np.frombuffer(stored, np.uint8).reshape(256, step)[:, 2::-1]


def _indices(rows: NDArray[np.uint8], header: BmpHeader) -> NDArray[np.uint8]:
    import numpy as np

    if header.bits == 8 or header.compression in (_RLE8, _RLE4):
        return rows[:, : header.width]
    shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)
    parts = (rows[:, :, None] >> shifts) & np.uint8((1 << header.bits) - 1)
    return parts.reshape(len(rows), -1)[:, : header.width]


def _masks(encoded: bytes, header: BmpHeader) -> list[int]:
    """The bits of red, green and blue."""
    if header.compression == _PLAIN:
        return _DEFAULT_MASKS[header.bits]
    used = (1 << header.bits) - 1
    places = range(_MASKS_AT, _MASKS_AT + 12, 4)
    return [int.from_bytes(encoded[at : at + 4], "little") & used for at in places]


def _masked(rows: NDArray[np.uint8], header: BmpHeader, masks: list[int]) -> NDArray[np.uint8]:
    """The channels that bit masks say, each scaled so that all its bits set are 255."""
    import numpy as np

    stored = np.ascontiguousarray(rows).view(f"<u{header.bits // 8}")[:, : header.width]
    pixels = np.zeros((len(rows), header.width, 3), np.uint8)
    for channel, mask in enumerate(masks):
        if not mask:
            continue
        lowest = (mask & -mask).bit_length() - 1
        lowest += max(0, (mask >> lowest).bit_length() - 8)  # the upper 8 bits of more
        most = mask >> lowest
        scaled = ((np.arange(256) & most) * 255 + most // 2) // most
        pixels[:, :, channel] = scaled.astype(np.uint8)[(stored & mask) >> lowest]
    return pixels


def _run_lengths(encoded: bytes, header: BmpHeader) -> NDArray[np.uint8]:
    """Palette indices `(H, W)` in the stored order of rows; pixels that no code paints are 0."""
    import numpy as np

    width, height, packed = header.width, header.height, header.compression == _RLE4
    pixels = np.zeros(width * height, np.uint8)  # the system gives memory to what is painted, and only then
    painted = pixels.data
    position, x, y = header.pixels_at, 0, 0
    most = min(MOST_RUNS, (width + 2) * height + 2)  # a code for each pixel, and a move and an end for each row
    for _ in range(most):
        if position + 2 > len(encoded):
            raise cut_short("BMP", "its run-length codes have no end")
        count, value = encoded[position], encoded[position + 1]
        position += 2
        if count:
            run = bytes((value >> 4, value & 15)) * (-(-count // 2)) if packed else bytes((value,)) * count
        elif value == 0:
            x, y = 0, y + 1
            continue
        elif value == 1:
            return pixels.reshape(height, width)
        elif value == 2:
            right, up = encoded[position : position + 2].ljust(2, b"\0")
            x, y, position = x + right, y + up, position + 2
            continue
        else:
            count, size = value, -(-value // 2) if packed else value
            run = _unpacked(encoded[position : position + size]) if packed else encoded[position : position + size]
            position += size + size % 2
        if y < height and x < width:
            run = run[: width - x]
            at = y * width + x
            painted[at : at + len(run)] = run
        x += count
    raise InvalidImage(f"BMP of {width}×{height} with more than {most:,} run-length codes: save it uncompressed")


def _unpacked(body: bytes) -> bytes:
    return bytes(half for byte in body for half in (byte >> 4, byte & 15))
