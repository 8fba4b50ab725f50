"""Decodes image files to 8-bit colour, upright.

OpenCV decodes JPEG, PNG and WebP, fast. Pillow decodes what OpenCV decodes wrongly or without limits: CMYK JPEGs, large
PNGs (it stops inflating where the picture is complete), animations, GIF, and TIFF (OpenCV gives black for damaged data
and multiplies colours by alpha). BMP is decoded by `bmp.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image import bmp, jpeg, png, tiff, webp
from forgesyte_nb.image.formats import ImageHeader
from forgesyte_nb.image.orientation import UPRIGHT, turn_upright
from forgesyte_nb.image.pillow import PILLOW_ERRORS, open_image, pixels_rgb
from forgesyte_nb.image.tiff_tags import Directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image8 = NDArray[np.uint8]

_MISSING = 128
"""Value of all channels where a JPEG has no data: coefficients of 0 (ITU-T T.81 section A.3.1, the level shift)."""

_MORE_DATA = b"".join(bytes(range(1, 255)) + bytes([0xFF, 0xD0 + number % 8]) for number in range(16))
"""Noise for a JPEG decoder, with the restart markers that it may be waiting for (ITU-T T.81 table B.1)."""


def decode(encoded: bytes, header: ImageHeader, *, rgb: bool = True) -> Image8:
    """Decode an image file to 8-bit colour, upright.

    Alpha is dropped; of 16 bits the upper 8 are taken. The first picture of an animation is decoded. A JPEG whose data
    end early is refused even if it has an end marker. Not noticed, since no decoder here does: a progressive JPEG that
    lacks its last scans (it is less sharp), a CMYK one whose data end early, and damage within a JPEG that leaves it
    decodable.

    Args:
        encoded: Bytes of the file.
        header: What `read_header` returned for it.
        rgb: True for red first, False for blue first.

    Returns:
        uint8 `(H, W, 3)`, read-only.

    Raises:
        InvalidImage: If the data are damaged, or are a picture of another size than the header's.
    """
    decoder: Callable[[bytes, ImageHeader, bool], tuple[Image8, int]] = _DECODERS[header.format]
    pixels, orientation = decoder(encoded, header, rgb)
    height, width = pixels.shape[:2]
    _check_size(header, width, height)
    if orientation != UPRIGHT:
        pixels = turn_upright(pixels, orientation)
    pixels.flags.writeable = False
    return pixels


def _check_size(header: ImageHeader, width: int, height: int) -> None:
    """Check that a decoder has found a picture of the header's size; Pillow turns TIFFs upright by itself."""
    expected = (header.width, header.height)
    if (width, height) != expected and not (header.format == "TIFF" and (height, width) == expected):
        raise InvalidImage(
            f"{header.format} of {header.width}×{header.height} by its header holds a picture of {width}×{height}: it "
            "is damaged, or made to do harm; save it anew with another program"
        )


def _decode_jpeg(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    jpeg.check_scans(encoded)
    pixels = None if header.channels == 4 else _with_opencv(encoded, rgb)
    if pixels is None:
        pixels = _with_pillow(encoded, header, rgb)
    elif _may_be_cut(pixels) and _is_cut(encoded):
        raise InvalidImage(
            f"JPEG of {header.width}×{header.height} is cut short: its data end before the picture does; "
            "send the whole file"
        )
    return pixels, jpeg.read_orientation(encoded)


def _decode_png(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    chunks = png.check_chunks(encoded)
    first = png.first_picture(encoded, chunks)
    pixels = None if chunks.data_bytes > png.HARMLESS_BYTES else _with_opencv(first, rgb)
    if pixels is None:
        pixels = _with_pillow(first, header, rgb)
    return pixels, png.read_orientation(encoded, chunks)


def _decode_webp(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    pixels = None if webp.is_animated(encoded) else _with_opencv(encoded, rgb)
    if pixels is None:
        pixels = _with_pillow(encoded, header, rgb)
    return pixels, webp.read_orientation(encoded)


def _decode_gif(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    return _with_pillow(encoded, header, rgb), UPRIGHT


def _decode_bmp(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    return _in_order(bmp.decode(encoded), rgb), UPRIGHT


def _decode_tiff(encoded: bytes, header: ImageHeader, rgb: bool) -> tuple[Any, int]:
    found = tiff.parse(encoded)
    pixels = _with_opencv(Directory(encoded).without_others(), rgb) if found.for_opencv else None
    if pixels is not None:
        return pixels, found.orientation
    return _with_pillow(encoded, header, rgb), UPRIGHT


_DECODERS = {
    "JPEG": _decode_jpeg,
    "PNG": _decode_png,
    "WEBP": _decode_webp,
    "GIF": _decode_gif,
    "BMP": _decode_bmp,
    "TIFF": _decode_tiff,
}


def _with_opencv(encoded: bytes, rgb: bool) -> Any:
    """uint8 `(H, W, 3)` as stored; None if OpenCV cannot decode it."""
    import cv2
    import numpy as np

    flags = (cv2.IMREAD_COLOR_RGB if rgb else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        return None


def _with_pillow(encoded: bytes, header: ImageHeader, rgb: bool) -> Any:
    from PIL import UnidentifiedImageError

    try:
        with open_image(encoded) as picture:
            _check_size(header, *picture.size)  # Pillow takes memory for the size that it has read
            picture.load()
            pixels = pixels_rgb(picture)
    except UnidentifiedImageError as error:
        kind = tiff.parse(encoded).kind if header.format == "TIFF" else ""
        raise _not_read(header, kind) from error
    except PILLOW_ERRORS as error:
        raise InvalidImage(f"{header.format} of {header.width}×{header.height} is damaged: {error}") from error
    return _in_order(pixels, rgb)


def _not_read(header: ImageHeader, kind: str) -> InvalidImage:
    size = f"{header.format} of {header.width}×{header.height}"
    if not kind:
        return InvalidImage(f"{size} is damaged: it cannot be read")
    return InvalidImage(f"{size} ({kind}) is not read: save it as 8-bit RGB")


def _in_order(pixels: Image8, rgb: bool) -> Any:
    import cv2

    return pixels if rgb else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)


def _may_be_cut(pixels: Any) -> bool:
    """True if a corner (any: a picture may be turned) has the gray that libjpeg puts where data are missing."""
    return bool(
        pixels[-1, -1, 0] == _MISSING
        or pixels[0, 0, 0] == _MISSING
        or pixels[-1, 0, 0] == _MISSING
        or pixels[0, -1, 0] == _MISSING
    )


def _is_cut(encoded: bytes) -> bool:
    """True if a decoder that finds more data before the end marker makes another picture of them."""
    end = jpeg.find_end(encoded)
    longer = encoded[:end].rstrip(b"\xff") + _MORE_DATA + encoded[end:]  # 0xFF may fill up before a marker
    try:
        # By Pillow: OpenCV would print of each gray picture that there are extraneous bytes in it.
        with open_image(encoded) as found, open_image(longer) as more:
            for picture in (found, more):
                picture.draft("L", (1, 1))  # an eighth of the size: the same data are read, and little is computed
            return found.tobytes() != more.tobytes()
    except PILLOW_ERRORS:
        return True
