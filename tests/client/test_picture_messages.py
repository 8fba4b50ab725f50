"""What is said of things that are no picture: short, and with the way out."""

from __future__ import annotations

import base64
import random

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.image.pictures import RawImage, as_picture
from tests.conftest import encoded

PNG = encoded(np.zeros((8, 8, 3), np.uint8))
TEXT = base64.b64encode(PNG).decode()
LARGE = base64.b64encode(random.Random(1).randbytes(300_000)).decode()


@pytest.mark.parametrize("text", [TEXT, LARGE, f"data:image/png;base64,{TEXT}", f"data:image/png;base64,{LARGE}"])
def test_base64_text_is_named_as_such(text: str) -> None:
    picture = as_picture(text)
    assert isinstance(picture, RawImage)
    assert "is base64 text: give base64.b64decode(text" in picture.unreadable
    assert len(picture.unreadable) < 300


def test_a_url_is_named_without_its_secrets() -> None:
    picture = as_picture("http://user:pass@host/x.jpg?token=secret")
    assert isinstance(picture, RawImage)
    assert picture.unreadable.startswith("http://host/x.jpg is a URL, not a path: download")
    assert "fs.stream(url)" in picture.unreadable
    assert "secret" not in picture.unreadable


@pytest.mark.parametrize("path", ["x" * 5000 + ".png", "a.b/" * 3000])
def test_a_long_path_gives_a_short_message(path: str) -> None:
    picture = as_picture(path)
    assert isinstance(picture, RawImage)
    assert "…: File name too long; give" in picture.unreadable
    assert len(picture.unreadable) < 300


@pytest.mark.parametrize("image", [TEXT.encode(), f"data:image/png;base64,{TEXT}".encode()])
def test_bytes_of_base64_text_are_named_as_such(image: bytes) -> None:
    with pytest.raises(fs.InvalidImage, match=r"bytes of base64 text, not of an image file: .*base64\.b64decode"):
        fs.Frame(image)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("uint16", "(array >> 8).astype('uint8')"),
        ("int64", "array.clip(0, 255).astype('uint8')"),
        ("uint32", "array.clip(0, 255).astype('uint8')"),
        ("bool", "array.astype('uint8') * 255"),
        ("float32", "(array * 255).round().astype('uint8')"),
    ],
)
def test_arrays_of_other_types_say_how_to_scale(dtype: str, advice: str) -> None:
    with pytest.raises(fs.InvalidImage, match=dtype) as caught:
        as_picture(np.zeros((8, 8), dtype))
    assert str(caught.value).endswith(advice)
    assert len(str(caught.value)) < 300
