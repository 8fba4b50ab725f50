"""BMPs of every header, depth and compression have the colours that were written."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.bmp import MOST_RUNS
from forgesyte_nb.image.frame import Frame

RNG = np.random.default_rng(1)


def bmp(
    width: int,
    height: int,
    bits: int,
    data: bytes,
    *,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
) -> bytes:
    """A BMP file; its palette is of blue, green, red and, but for the header of 12 bytes, nothing."""
    if header == 12:
        information = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        colors = len(palette) // 4
        information = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, 0, 0, colors, 0)
        information = information[: min(header, 40)] + struct.pack(f"<{len(masks)}I", *masks)
        information = information.ljust(header, b"\0")
    start = 14 + len(information) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + information + palette + data


def padded(rows: np.ndarray) -> bytes:
    """Rows of bytes, the bottom one first, each filled up to four bytes."""
    return b"".join(row.tobytes() + bytes(-len(row.tobytes()) % 4) for row in rows[::-1])


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x7C00, 0x3E0, 0x1F)),
        (16, (0xF00, 0xF0, 0xF)),
        (16, (0x3, 0x1C, 0x20)),
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
        (32, (0xFFE00000, 0x1FFC00, 0x3FF)),
    ],
)
def test_bit_masks(header: int, bits: int, masks: tuple[int, int, int]) -> None:
    stored = RNG.integers(0, 1 << bits, (5, 7), np.uint64).astype(f"<u{bits // 8}")
    stored[0, 0], stored[0, 1] = sum(masks), 0
    rgb = Frame(bmp(7, 5, bits, padded(stored), header=header, compression=3, masks=masks)).rgb
    assert rgb[0, 0].tolist() == [255, 255, 255], "white is white"
    assert rgb[0, 1].tolist() == [0, 0, 0]
    for channel, mask in enumerate(masks):
        exact = (stored & mask).astype(float) * 255 / mask
        assert np.abs(rgb[:, :, channel] - exact).max() <= 1


def test_16_bits_without_masks_are_5_5_5() -> None:
    stored = np.array([[0x7FFF, 0x7C00, 0x3E0, 0x1F]], "<u2")
    assert Frame(bmp(4, 1, 16, padded(stored))).rgb.tolist() == [[[255] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize("header", [12, 16, 40, 64, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [1, 7, 16])
def test_palettes(header: int, bits: int, width: int) -> None:
    palette = RNG.integers(0, 256, (1 << bits, 3), np.uint8)
    indices = RNG.integers(0, 1 << bits, (5, width), np.uint8)
    places = np.arange(8 - bits, -1, -bits)
    filled = np.pad(indices, ((0, 0), (0, -width % len(places)))).reshape(5, -1, len(places))
    rows = (filled << places).sum(axis=2).astype(np.uint8)
    table = palette[:, ::-1] if header == 12 else np.pad(palette[:, ::-1], ((0, 0), (0, 1)))
    data = bmp(width, 5, bits, padded(rows), header=header, palette=table.tobytes())
    assert np.array_equal(Frame(data).rgb, palette[indices])
    assert np.array_equal(Frame(data).bgr, palette[indices][:, :, ::-1])


@pytest.mark.parametrize("bits", [24, 32])
def test_colours_bottom_up_and_top_down(bits: int) -> None:
    pixels = RNG.integers(0, 256, (5, 7, bits // 8), np.uint8)
    for height, rows in ((5, pixels), (-5, pixels[::-1])):
        assert np.array_equal(Frame(bmp(7, height, bits, padded(rows))).rgb, pixels[:, :, 2::-1])


GRAYS = b"".join(bytes((gray, gray, gray, 0)) for gray in range(256))


@pytest.mark.parametrize(
    ("codes", "rows"),
    [
        (b"\x03\x07\0\0\x02\x09\0\1", [[9, 9, 0], [7, 7, 7]]),
        (b"\0\x03\x01\x02\x03\0\0\0\0\x03\x04\x05\x06\0\0\1", [[4, 5, 6], [1, 2, 3]]),
        (b"\0\2\1\1\x02\x08\0\1", [[0, 8, 8], [0, 0, 0]]),
        (b"\x09\x07\0\0\x01\x02\0\1", [[2, 0, 0], [7, 7, 7]]),
        (b"\x01\x07\0\1", [[0, 0, 0], [7, 0, 0]]),
        (b"\0\0\0\0\0\0\x03\x07\0\1", [[0, 0, 0], [0, 0, 0]]),
    ],
    ids=["runs", "literals", "move", "too long", "ends early", "too many rows"],
)
def test_run_lengths_of_8_bits(codes: bytes, rows: list[list[int]]) -> None:
    gray = Frame(bmp(3, 2, 8, codes, compression=1, palette=GRAYS)).rgb[:, :, 0]
    assert gray.tolist() == rows


def test_run_lengths_of_4_bits() -> None:
    codes = b"\x05\x71\0\0\0\x03\x12\x30\x02\x55\0\1"
    gray = Frame(bmp(5, 2, 4, codes, compression=2, palette=GRAYS[: 16 * 4])).rgb[:, :, 0]
    assert gray.tolist() == [[1, 2, 3, 5, 5], [7, 1, 7, 1, 7]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bmp(3, 2, 8, b"\x03\x07\0\0", compression=1, palette=GRAYS), "BMP is cut short: its run-length codes have no"),
        (bmp(3, 2, 8, b"\1\1" * 13, compression=1, palette=GRAYS), "BMP of 3×2 with more than 12 run-length codes"),
        (
            bmp(900, 900, 8, b"\1\1" * (MOST_RUNS + 1), compression=1, palette=GRAYS),
            "more than 262,144 run-length codes",
        ),
        (bmp(30, 20, 24, bytes(1000)), "BMP is cut short: 30×20 pixels need 1891 bytes, it has 1054"),
        (bmp(30, 20, 24, bytes(100), compression=4), "BMP of 24 bits a pixel with compression 4, a kind that is not"),
        (bmp(30, 20, 24, bytes(100), header=64, compression=4), "BMP of 24 bits a pixel with OS/2 compression 4"),
        (bmp(-30, 20, 24, bytes(100)), "BMP is damaged: its header says a width of -30"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InvalidImage, match=words):
        _ = Frame(data).rgb
