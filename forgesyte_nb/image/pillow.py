"""Pillow images to 8-bit pixels, and opening files with Pillow."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import FORMATS
from forgesyte_nb.image.tiff_tags import Directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, OverflowError),
    AssertionError,  # a palette is missing
)
"""What Pillow raises for damaged files."""

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF 6.0
_BAND_PIXELS = 1 << 20  # converted at a time: Pillow's copies take 4 to 11 bytes a pixel beside the result
_ADVICE = "scale them to 0–255 and convert the image to mode L or RGB"

_opening = threading.Lock()  # held while Pillow's setting is changed

# What Pillow logs of damaged files would be printed in the notebook if there is no handler; handlers still get it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def open_image(encoded: bytes) -> Iterator[PILImage]:
    """Open an image file whose header was checked; within the block its pixels can be read.

    Raises:
        OSError: If it cannot be read; other errors of `PILLOW_ERRORS`, too.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which were checked, and of damaged metadata
        try:
            with _open(encoded) as picture:
                yield picture
        except Image.DecompressionBombError as error:
            raise OSError(f"Pillow takes no picture of that size: {error}") from error


def _open(encoded: bytes) -> PILImage:
    """Open a file, a TIFF without its metadata and so that libtiff decodes it.

    Pillow's own reader of uncompressed TIFFs takes tens of microseconds for each strip, and mixes up 16-bit samples in
    planes.
    """
    from PIL import Image, TiffImagePlugin

    if encoded[:2] not in (b"II", b"MM"):
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    encoded = Directory(encoded).without_others()
    with _opening:
        before, TiffImagePlugin.READ_LIBTIFF = TiffImagePlugin.READ_LIBTIFF, True
        try:
            return Image.open(io.BytesIO(encoded), formats=FORMATS)
        finally:
            TiffImagePlugin.READ_LIBTIFF = before


def pixels_rgb(picture: PILImage) -> NDArray[np.uint8]:
    """The pixels of a Pillow image of any mode, 8 bits a channel, not turned by its orientation.

    Of the modes of 16 bits the upper 8 are taken, as of the same picture in a PNG or TIFF file; alpha is dropped.

    Returns:
        uint8 `(H, W, 3)`, red first.

    Raises:
        InvalidImage: If its numbers have no range that is black to white (mode F, mode I beyond 16 bits).
    """
    import numpy as np

    if picture.mode == "F":
        raise InvalidImage(f"Pillow image of mode F (floats), of which nothing says what white is: {_ADVICE}")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return np.repeat(_gray_of_16_bits(picture)[:, :, None], 3, axis=2)
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // max(1, picture.width))
    for top in range(0, picture.height, step):
        box = (0, top, picture.width, min(top + step, picture.height))
        pixels[top : box[3]] = np.asarray(_rgb(picture if step >= picture.height else picture.crop(box)))
    return pixels


def _rgb(picture: PILImage) -> PILImage:
    if picture.mode == "La":
        picture = picture.convert("LA")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise InvalidImage(f"Pillow image of mode {picture.mode} is not converted: give mode RGB ({error})") from error


def _gray_of_16_bits(picture: PILImage) -> NDArray[np.uint8]:
    import numpy as np

    picture.load()
    numbers = np.asarray(picture)
    if picture.mode == "I":
        _check_range(numbers)
    tags = getattr(picture, "tag_v2", {})  # a TIFF's: Pillow keeps 12 bits, and white that is zero, as they are
    gray: NDArray[np.uint8] = (numbers >> tags.get(_BITS, (16,))[0] - 8).astype(np.uint8)
    return ~gray if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def _check_range(numbers: NDArray[np.int32]) -> None:
    """Check that the numbers of mode I are those of 16 bits."""
    least, most = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    if least < 0 or most > 0xFFFF:
        raise InvalidImage(f"Pillow image of mode I (32-bit numbers, here {least} to {most}): {_ADVICE}")
    if 0 < most <= 0xFF:
        raise InvalidImage(
            f"Pillow image of mode I with numbers {least} to {most}, black as 16 bits: convert it to mode L if white "
            "is 255, to I;16 if it is 65,535"
        )
