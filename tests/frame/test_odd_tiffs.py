"""TIFFs of every kind are read as they are meant, or refused in words; what their tags claim costs nothing."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.header import read_header
from tests.conftest import encoded

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (64, 64), np.uint8)
COMPRESSIONS = ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate"]
SHORT, LONG, RATIONAL, BYTES = 3, 4, 5, 7


def tiff(
    pixels: np.ndarray,
    *,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    tags: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """An uncompressed TIFF of `(H, W)` or `(H, W, samples)`, in one strip or one for each sample."""
    deep = pixels.reshape(*pixels.shape[:2], -1)
    samples = deep.shape[2]
    planes = [deep[:, :, index] for index in range(samples)] if planar else [deep]
    strips = [plane.astype(f"{order}u{pixels.itemsize}").tobytes() for plane in planes]
    start, places = 16 if big else 8, []
    for strip in strips:
        places.append(start)
        start += len(strip)
    all_tags: dict[int, tuple[int, list[int]]] = {
        256: (LONG, [deep.shape[1]]),
        257: (LONG, [deep.shape[0]]),
        258: (SHORT, [8 * pixels.itemsize] * samples),
        259: (SHORT, [1]),
        262: (SHORT, [2 if samples > 2 else 1]),
        273: (LONG, places),
        277: (SHORT, [samples]),
        278: (LONG, [deep.shape[0]]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [2 if planar else 1]),
        **(tags or {}),
    }
    body = b"".join(strips)
    body += bytes(start % 2)
    values, entries, inline, word = b"", b"", 8 if big else 4, "Q" if big else "I"
    values_at = start + start % 2
    for tag, (kind, numbers) in sorted(all_tags.items()):
        stored = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        if len(stored) > inline:
            place = struct.pack(order + word, values_at + len(values))
            values += stored
        else:
            place = stored.ljust(inline, b"\0")
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(numbers)) + place
    folder = struct.pack(order + ("Q" if big else "H"), len(all_tags)) + entries + bytes(inline)
    mark = b"II" if order == "<" else b"MM"
    first = values_at + len(values)
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HI", 42, first)
    return mark + head + body + values + folder


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 3])
def test_every_layout(samples: int, dtype: Any, planar: bool, order: str, big: bool) -> None:
    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, (20, 30, samples), dtype)
    rgb = Frame(tiff(pixels, order=order, big=big, planar=planar)).rgb
    expected = np.broadcast_to(pixels >> (8 * (pixels.itemsize - 1)), (20, 30, 3))
    assert np.abs(rgb.astype(int) - expected).max() <= (1 if order == ">" and big else 0)  # OpenCV rounds


@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_not_multiplied_in(mode: str, compression: str | None) -> None:
    pixels = np.dstack([np.full((8, 8), value, np.uint8) for value in (200, 100, 50, 64)][: 4 if mode == "RGBA" else 2])
    rgb = Frame(encoded(Image.fromarray(pixels, mode), "TIFF", compression=compression)).rgb
    assert rgb[0, 0].tolist() == ([200, 100, 50] if mode == "RGBA" else [200, 200, 200])


@pytest.mark.parametrize("samples", [2, 4])
def test_colours_that_were_multiplied_by_alpha_are_divided_by_it(samples: int) -> None:
    pixels = np.full((8, 8, samples), 100, np.uint8)
    pixels[:, :, -1] = 128
    frame = Frame(tiff(pixels, tags={338: (SHORT, [1])}))
    if samples == 2 and int(PIL.__version__.split(".")[0]) < 13:  # which knows no gray of this kind
        with pytest.raises(InvalidImage, match=r"2 samples of 8 bits, .* is not read: save it as 8-bit RGB"):
            _ = frame.rgb
        return
    rgb = frame.rgb
    assert np.abs(rgb.astype(int) - 100 * 255 // 128).max() <= 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_damage_of_compressed_data_is_not_black_with_success(compression: str, at: float) -> None:
    whole = encoded(GRAY, "TIFF", compression=compression)
    damaged = bytearray(whole)
    start = int(len(damaged) * at)
    damaged[start : start + 60] = b"\xff" * 60 if compression != "packbits" else b"\x80" * 60
    try:
        rgb = Frame(bytes(damaged)).rgb
    except InvalidImage as error:
        assert str(error).startswith("TIFF of 64×64 is damaged: ")  # noqa: PT017 -- either outcome is right
    else:
        assert compression == "packbits"
        assert rgb[20:].any(axis=(1, 2)).all(), "no row is black"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(dtype: Any) -> None:
    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, (20, 30), dtype)
    rgb = Frame(tiff(pixels, tags={262: (SHORT, [0])})).rgb
    assert np.array_equal(rgb[:, :, 0], 255 - (pixels >> (8 * (pixels.itemsize - 1))))


def test_12_bits() -> None:
    numbers = RNG.integers(0, 4096, (20, 30), np.uint16)
    first, second = numbers[:, ::2], numbers[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    data = tiff(packed.reshape(20, 45), tags={256: (LONG, [30]), 258: (SHORT, [12])})
    assert np.array_equal(Frame(data).rgb[:, :, 0], numbers >> 4)


@pytest.mark.parametrize(
    ("itemsize", "sample_format", "samples", "words"),
    [
        (2, 2, 1, "TIFF of signed 16-bit numbers, of which nothing says"),
        (2, 2, 3, "TIFF of signed 16-bit numbers, of which nothing says"),
        (4, 1, 1, "TIFF of 32-bit numbers, of which nothing says"),
        (4, 3, 3, "TIFF of floats, of which nothing says"),
        (8, 3, 1, "TIFF of floats, of which nothing says"),
        (4, 5, 1, "TIFF of complex numbers, of which nothing says"),
    ],
)
def test_numbers_without_a_range_are_called_by_their_name(
    itemsize: int, sample_format: int, samples: int, words: str
) -> None:
    pixels = np.zeros((8, 8, samples), f"u{itemsize}")
    with pytest.raises(InvalidImage, match=words):
        Frame(tiff(pixels, tags={339: (SHORT, [sample_format] * samples)}))


def test_a_kind_that_is_not_read_is_named() -> None:
    compressed = tiff(GRAY, order=">", big=True, tags={259: (SHORT, [5])})
    with pytest.raises(InvalidImage, match=r"big-endian BigTIFF, 1 samples of 8 bits, .*, compression 5\) is not read"):
        _ = Frame(compressed).rgb


def claims(count: int, *, tag: int = 273, kind: int = LONG, size: int = 4, more: int = 0) -> bytes:
    """A TIFF with a tag of so many values, and `more` such tags that nobody knows, all in the same place."""
    room = bytes(count * size)
    tags = [(256, LONG, 1, 8), (257, LONG, 1, 8), (258, SHORT, 1, 8), (262, SHORT, 1, 1), (278, LONG, 1, 1)]
    tags += [(tag + number, kind, count, 8) for number in range(1 + more)]
    entries = b"".join(struct.pack("<HHII", *one) for one in sorted(tags))
    folder = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(room)) + room + folder


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (claims(5_900_000), "TIFF of 5,900,000 strips or tiles: at most 262,144 are read"),
        (claims(1_000_000, tag=282, kind=RATIONAL, size=8), "TIFF whose tags hold more than 262,144 numbers"),
        (claims(5_000, tag=282, kind=RATIONAL, size=8), "TIFF whose tags hold more than 262,144 numbers"),
        (claims(10_000_000, tag=512, kind=BYTES, size=1, more=9), "its tags claim more bytes than the file has"),
        (claims(4, tag=40000, more=5000), "TIFF of 5,006 tags: at most 4,096 are read"),
    ],
    ids=["strips", "numbers", "fractions", "overlapping bytes", "tags"],
)
def test_what_tags_claim_is_refused_at_once(data: bytes, words: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidImage, match=words):
        read_header(data, max_pixels=50_000_000)
    assert time.process_time() - began < 0.1


UNKNOWN = {
    "numbers": tiff(GRAY, tags={65000: (LONG, [1] * 600_000)}),
    "many": tiff(GRAY, tags={tag: (LONG, [1]) for tag in range(40_000, 44_000)}),
    "of no type": tiff(GRAY, tags={65000: (99, [1])}),
    "big": tiff(GRAY, order=">", big=True, tags={tag: (LONG, [1]) for tag in range(40_000, 40_010)}),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_tags_that_pixels_do_not_need_are_not_given_to_decoders(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff would print a line of each, and take a millisecond for ten."""
    assert np.array_equal(Frame(UNKNOWN[name]).rgb[:, :, 0], GRAY)
    assert Frame(UNKNOWN[name]).pil.size == (64, 64)
    assert capfd.readouterr().err == ""


def test_resolution_and_profile_reach_pil() -> None:
    data = encoded(GRAY, "TIFF", dpi=(300, 300), icc_profile=b"a profile", software="tests")
    info = Frame(data).pil.info
    assert info["dpi"] == (300, 300)
    assert info["icc_profile"] == b"a profile"


def test_metadata_directories_are_not_read() -> None:
    """Pillow would make a fraction of each number."""
    pointer = len(tiff(GRAY, tags={34665: (LONG, [0])}))
    whole = tiff(GRAY, tags={34665: (LONG, [pointer])})
    count = 1_000_000
    exif = struct.pack("<HHHII", 1, 0x829A, RATIONAL, count, pointer + 18) + bytes(4) + bytes(8 * count)
    began = time.process_time()
    assert np.array_equal(Frame(whole + exif).rgb[:, :, 0], GRAY)
    assert time.process_time() - began < 0.5
