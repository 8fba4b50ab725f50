"""WebPs as other programs write them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from forgesyte_nb.image.frame import Frame
from tests.conftest import encoded

HALF = np.zeros((40, 60, 3), np.uint8)
HALF[:, 30:] = 255


def with_exif(chunk: bytes) -> bytes:
    """A lossless WebP with this EXIF chunk."""
    whole = encoded(HALF, "WEBP", lossless=True, exif=bytes(8))
    start = whole[: whole.index(b"EXIF")]
    body = start[8:] + b"EXIF" + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"], ids=["bare", "prefix of JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_with_and_without_the_prefix_of_jpeg(prefix: bytes, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    bare = exif.tobytes().removeprefix(b"Exif\0\0")
    picture = Image.fromarray(HALF)
    picture.getexif()[0x0112] = orientation
    assert np.array_equal(Frame(with_exif(prefix + bare)).rgb, np.asarray(ImageOps.exif_transpose(picture)))
