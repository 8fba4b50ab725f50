"""The header check: format and size of an image file, read without decoding a pixel.

A server refuses by this what a decoder must not be given: no picture, a format that is not accepted, no pixels, too
many pixels, a file cut short. Each format has a reader of its own, bounded in time and memory whatever the bytes: it
runs on the event loop. What takes longer to find out is checked where the picture is decoded.
"""

from __future__ import annotations

from collections.abc import Callable

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image import bmp, gif, jpeg, png, tiff, webp
from forgesyte_nb.image.formats import ACCEPTED, ImageHeader

MAX_SIDE = 1 << 20
"""Longest side in pixels; OpenCV decodes no longer one (its `CV_IO_MAX_IMAGE_WIDTH` and `_HEIGHT`)."""

_SMALLEST_BYTES = 26  # a BMP header; no complete file of any of the formats is shorter
_READERS: tuple[tuple[bytes, Callable[[bytes], ImageHeader]], ...] = (
    (b"\xff\xd8\xff", jpeg.read_header),
    (b"\x89PNG\r\n\x1a\n", png.read_header),
    (b"GIF8", gif.read_header),
    (b"BM", bmp.read_header),
    (b"RIFF", webp.read_header),
    (b"II*\0", tiff.read_header),
    (b"MM\0*", tiff.read_header),
    (b"II+\0", tiff.read_header),
    (b"MM\0+", tiff.read_header),
)
"""The first bytes of each accepted format, and the reader of its header."""

_BASE64_STARTS = (b"data:", b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"SUkqA", b"TU0AK")
"""Of a `data:` URL, and of JPEG, PNG, GIF, WebP and TIFF files in base64."""


def read_header(encoded: bytes, *, max_pixels: int) -> ImageHeader:
    """Read and check the header of an image file.

    Args:
        encoded: The file's bytes.
        max_pixels: Largest width × height.

    Raises:
        InvalidImage: If it is empty, no picture, of a format not accepted, without pixels, too large, or cut short.
    """
    if len(encoded) < _SMALLEST_BYTES:
        raise InvalidImage(_describe_small(encoded))
    header = _reader_of(encoded)(encoded)
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


def _reader_of(encoded: bytes) -> Callable[[bytes], ImageHeader]:
    for start, reader in _READERS:
        if encoded.startswith(start) and (start != b"RIFF" or encoded[8:12] == b"WEBP"):
            return reader
    if encoded.startswith(_BASE64_STARTS):
        raise InvalidImage(f"{len(encoded)} bytes of base64 text, not of an image file: give base64.b64decode(…)")
    raise InvalidImage(
        f"No picture that can be read ({len(encoded)} bytes starting {_start_of(encoded)}): send the bytes of a "
        f"{ACCEPTED} file"
    )


def _describe_small(encoded: bytes) -> str:
    """The error message for too few bytes: none, a picture that was cut, or no picture."""
    if not encoded:
        return "Image is empty (0 bytes): nothing was sent"
    text = f"Image too small ({len(encoded)} bytes)"
    if any(encoded.startswith(start) or start.startswith(encoded) for start, _ in _READERS):
        return text
    return f"{text}, and no picture by its start ({_start_of(encoded)}): send the bytes of a {ACCEPTED} file"


def _start_of(encoded: bytes) -> str:
    return " ".join(f"{byte:02x}" for byte in encoded[:8])
