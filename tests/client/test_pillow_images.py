"""Pillow images and buffers as pictures: as the same picture's file would be, or refused with advice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import forgesyte_nb as fs
from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.pictures import as_picture
from tests.conftest import encoded

RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(8, 32)


def rgb(thing: Any) -> np.ndarray:
    picture = as_picture(thing)
    assert isinstance(picture, fs.Frame)
    return picture.rgb


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_as_the_same_file(mode: str, kind: str) -> None:
    native = Image.fromarray(RAMP)
    image = native if mode == "I;16" else native.convert("I") if mode == "I" else Image.new(mode, native.size)
    if mode in ("I;16L", "I;16B"):
        image.frombytes(RAMP.astype("<u2" if mode == "I;16L" else ">u2").tobytes())
    assert np.array_equal(rgb(image), fs.Frame(encoded(native, kind)).rgb)
    assert rgb(image)[0, 0, 0] == 0
    assert rgb(image)[-1, -1, 0] == 255


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)),
            "mode F .floats.*: scale them to 0–255",
        ),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "mode I .32-bit numbers, here 70000 to 70000.: scale"),
        (Image.fromarray(np.full((8, 8), -1, np.int32)), "mode I .32-bit numbers, here -1 to -1.: scale"),
        (Image.fromarray(np.full((8, 8), 200, np.int32)), "numbers 200 to 200, black as 16 bits: convert it to mode L"),
    ],
)
def test_numbers_without_a_range_are_refused_with_advice(image: Image.Image, words: str) -> None:
    with pytest.raises(InvalidImage, match=rf"{words}"):
        as_picture(image)


@pytest.mark.parametrize(
    "mode", [*("1", "L", "LA", "P", "PA", "RGB", "RGBA"), *("RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa")]
)
def test_every_other_mode(mode: str) -> None:
    image = Image.new("RGB", (8, 6), (200, 200, 200)).convert(
        {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)  # which Pillow makes of others alone
    )
    expected = 255 if mode == "1" else 200
    pixels = rgb(image.convert(mode))
    assert pixels.shape == (6, 8, 3)
    assert np.abs(pixels.astype(int).mean() - expected) < (256 if mode == "1" else 4)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation(orientation: int) -> None:
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[0, 0] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    places = {1: (0, 0), 3: (5, 7), 6: (0, 5), 8: (7, 0)}
    assert rgb(image)[places[orientation]].tolist() == [255] * 3


@pytest.mark.parametrize("make", [bytearray, memoryview, lambda data: memoryview(bytearray(data)), np.frombuffer])
def test_buffers_of_a_file(make: Any, astronaut: np.ndarray) -> None:
    data = encoded(astronaut[::8, ::8], "JPEG")
    buffer = make(data, np.uint8).data if make is np.frombuffer else make(data)
    frame = fs.Frame(buffer)
    assert (type(frame.bytes), frame.bytes) == (bytes, data)
    assert np.array_equal(frame.rgb, fs.Frame(data).rgb)
    assert frame.pil.size == (64, 64)
    for source in (buffer, [buffer], (one for one in [buffer])):
        frames = list(fs.open_source(source).frames())
        assert [one.bytes for one in frames] == [data]
    if isinstance(buffer, bytearray):
        buffer[:] = bytes(len(buffer))
        assert frame.bytes == data, "it must not change with the caller's buffer"


def test_buffers_reach_the_plugin(server: fs.Server, astronaut: np.ndarray) -> None:
    data = encoded(astronaut[::8, ::8], "PNG")
    with fs.BlockingClient(server.url) as client:
        for buffer in (bytearray(data), memoryview(data)):
            assert client.analyze(buffer, "image_stats").result["size"] == {"width": 64, "height": 64}


def test_pixels_are_not_asked_for_in_bytes() -> None:
    with pytest.raises(InvalidImage, match=r"for the bytes of an image file use fs\.Frame"):
        fs.Frame.from_array(bytearray(30))
