"""Header, decoder and Pillow agree on every picture, whole or damaged, or it is refused; within bounds of time."""

from __future__ import annotations

import io
import random
import time
import warnings
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import FORMATS, ImageHeader
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.header import read_header
from forgesyte_nb.image.pillow import pixels_rgb
from tests.conftest import encoded
from tests.fuzz.bad_pictures import seed_pictures

MAX_PIXELS = 1_000_000
FIELDS = [*(b"\0", b"\1", b"\xff", b"\x7f\xff", b"\0\0", b"\xff\0"), b"\xff\xc0", b"\xff\xff\xff\xff", b"\x10\0\0\0"]


def pictures_of_libraries() -> list[Path]:
    """The pictures in the wheels of scikit-image and matplotlib."""
    suffixes = {".png", ".jpg", ".gif", ".tif", ".bmp", ".webp"}
    names = [name for library in ("scikit-image", "matplotlib") for name in files(library) or ()]
    return sorted(Path(str(name.locate())) for name in names if name.suffix in suffixes)


@pytest.mark.parametrize("path", pictures_of_libraries(), ids=lambda path: path.name)
def test_pictures_of_libraries(path: Path) -> None:
    data = path.read_bytes()
    if path.name == "multipage_rgb.tif":
        with pytest.raises(InvalidImage, match="TIFF of floats"):
            read_header(data, max_pixels=50_000_000)
        return
    header = read_header(data, max_pixels=50_000_000)
    with Image.open(io.BytesIO(data)) as picture:
        assert (header.format, header.width, header.height) == (picture.format, *picture.size)
        expected = pixels_rgb(ImageOps.exif_transpose(picture))
    assert np.abs(Frame(data).rgb.astype(int) - expected).mean() < 1


def changed(random_: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    near = random_.choice([40, 100, 400, len(data)])
    for _ in range(random_.choice([1, 1, 2, 4])):
        at, change = random_.randrange(min(len(data), near)), random_.randrange(5)
        if change == 0:
            data[at] ^= 1 << random_.randrange(8)
        elif change == 1:
            field = random_.choice(FIELDS)
            data[at : at + len(field)] = field
        elif change == 2:
            del data[at : at + random_.randrange(1, 20)]
        elif change == 3:
            data[at:at] = random_.randbytes(random_.randrange(1, 9))
        else:
            data[at:at] = data[at : at + random_.randrange(1, 64)]
        data = data or bytearray(whole)
    return bytes(data)


@pytest.mark.parametrize("number", range(len(seed_pictures())))
def test_damaged_pictures(number: int) -> None:
    random_ = random.Random(number)
    whole = seed_pictures()[number]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            data = changed(random_, whole)
            began = time.process_time()
            try:
                header = read_header(data, max_pixels=MAX_PIXELS)
                assert time.process_time() - began < 0.2
                assert header.format in FORMATS
                height, width = Frame(data, max_pixels=MAX_PIXELS).rgb.shape[:2]
            except InvalidImage as refused:
                assert 0 < len(str(refused)) < 1000  # noqa: PT017 -- either outcome is right
            else:
                assert sorted((width, height)) == sorted((header.width, header.height))
            assert time.process_time() - began < 2


@pytest.mark.parametrize("size_wh", [(8, 8), (29, 40)], ids=["smaller", "a column less"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_decoder_that_sees_another_size_than_the_header(
    kind: str, size_wh: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file does it today; whoever finds one must not get past the limits, which are the header's."""
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[:20] = 255
    data = encoded(pixels, kind)
    header = read_header(data, max_pixels=MAX_PIXELS)
    wrong = ImageHeader(*(kind, *size_wh, *header[3:]))
    monkeypatch.setattr("forgesyte_nb.image.frame.read_header", lambda *_, **__: wrong)
    with pytest.raises(InvalidImage, match=rf"{kind} of {size_wh[0]}×{size_wh[1]} by its header .* of 30×40"):
        _ = Frame(data).rgb
