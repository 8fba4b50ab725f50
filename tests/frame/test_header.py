"""The header: what the door learns of an image without decoding it, and what it refuses."""

from __future__ import annotations

import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import FORMATS
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.header import read_header
from forgesyte_nb.image.jpeg import find_end
from tests.conftest import encoded

LIMIT = 50_000_000


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def refused(data: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(InvalidImage) as caught:
        read_header(data, max_pixels=max_pixels)
    return str(caught.value)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says what we like."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_format_and_size(kind: str) -> None:
    header = read_header(encoded(picture(), kind), max_pixels=LIMIT)
    assert (header.format, header.width, header.height) == (kind, 40, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_progressive_and_interlaced_headers(kind: str) -> None:
    data = encoded(picture(300, 200), kind, progressive=True, optimize=True)
    assert read_header(data, max_pixels=LIMIT)[1:3] == (300, 200)


def test_a_cmyk_jpeg_is_known_by_its_four_channels() -> None:
    assert read_header(encoded(picture().convert("CMYK"), "JPEG"), max_pixels=LIMIT).channels == 4
    assert read_header(encoded(picture().convert("L"), "JPEG"), max_pixels=LIMIT).channels == 1


def test_empty_and_small() -> None:
    assert "empty (0 bytes)" in refused(b"")
    assert refused(b"\xff") == "Image too small (1 bytes)"
    assert refused(b"\x89PNG\r\n\x1a\n" + b"\0" * 10) == "Image too small (18 bytes)"
    for kind in FORMATS:
        data = encoded(picture(), kind)
        for length in range(1, 26):
            assert refused(data[:length]) == f"Image too small ({length} bytes)", kind


@pytest.mark.parametrize("data", [b"hello", b"\0", b"x" * 25])
def test_what_is_small_and_no_picture_is_told_the_formats(data: bytes) -> None:
    text = refused(data)
    assert text.startswith(f"Image too small ({len(data)} bytes), and no picture by its start ({data[:8].hex(' ')})")
    assert text.endswith("send the bytes of a JPEG, PNG, GIF, BMP, WEBP or TIFF file")


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 50,
        bytes(50),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>",
        b"%PDF-1.7 " + bytes(100),
        b"RIFF\x30\0\0\0WAVEfmt " + bytes(50),
        random.Random(1).randbytes(1000),
    ],
    ids=["letters", "zeros", "svg", "pdf", "wave", "random"],
)
def test_what_is_no_picture_is_told_the_formats(data: bytes) -> None:
    text = refused(data)
    assert f"({len(data)} bytes starting " in text
    assert all(kind in text for kind in FORMATS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a" + bytes(50), "GIF is cut short: no picture in its 56 bytes; send the whole file"),
        (b"GIF80a" + bytes(50), "GIF is damaged: its version is b'80a'"),
        (b"RIFF\x30\0\0\0WEBPVP8 " + bytes(50), "WebP is damaged: no picture follows its chunk b'VP8 '"),
        (b"RIFF\xff\0\0\0WEBPVP8 " + bytes(50), "WebP is cut short: its header says 263 bytes, it has 66"),
        (b"II*\0" + b"\xff" * 50, "TIFF is cut short: its header lies beyond its 54 bytes"),
        (b"BM" + b"\xff" * 50, "BMP is damaged: its header says that it has 4294967295 bytes"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(50), "PNG of Apple's own kind (CgBI)"),
    ],
)
def test_what_begins_as_a_picture_is_told_where_it_ends_to_be_one(data: bytes, words: str) -> None:
    assert refused(data).startswith(words)


def test_what_is_a_picture_of_another_format_is_refused() -> None:
    assert "send the bytes of a JPEG" in refused(encoded(picture(), "PPM"))
    assert "send the bytes of a JPEG" in refused(encoded(picture(), "ICO"))


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 9), (9, 0)])
def test_no_pixels(width: int, height: int) -> None:
    assert f"without pixels: its header says {width}×{height}" in refused(png(width, height))


@pytest.mark.parametrize(("width", "height"), [(1 << 20, 1), (1, 1 << 20)])
def test_the_longest_side(width: int, height: int) -> None:
    assert read_header(png(width, height), max_pixels=LIMIT)[1:3] == (width, height)
    longer = png(width + (width > 1), height + (height > 1))
    assert "no side may be over 1,048,576 pixels" in refused(longer)


def test_a_jpeg_without_pixels() -> None:
    data = bytearray(encoded(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = bytes(4)
    assert "JPEG without pixels" in refused(bytes(data))


def test_a_bomb_of_177_megapixels_is_refused_by_its_header() -> None:
    bomb = png(13_300, 13_300, zlib.compress(bytes(1000)))
    text = refused(bomb)
    assert "13300×13300 = 176.9 megapixels is over the limit of 50.0" in text
    assert "max_image_pixels" in text
    assert read_header(bomb, max_pixels=200_000_000).width == 13_300


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP"])
def test_the_limit_holds_for_every_format_and_is_exact(kind: str) -> None:
    data = encoded(picture(40, 30), kind)
    assert read_header(data, max_pixels=1200).width == 40
    assert f"{kind} of 40×30" in refused(data, 1199)


def test_a_gigapixel_header_of_a_bmp() -> None:
    data = bytearray(encoded(picture(), "BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert "over the limit" in refused(bytes(data))


def test_pillow_says_nothing_on_the_screen_about_damaged_or_large_files() -> None:
    tiff = bytearray(encoded(picture(), "TIFF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(8, len(tiff), 7):
            damaged = bytes(tiff[:at]) + b"\xff" + bytes(tiff[at + 1 :])
            try:
                read_header(damaged, max_pixels=LIMIT)
            except InvalidImage:
                continue


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_truncation_is_refused_at_the_door(kind: str) -> None:
    data = encoded(picture(), kind)
    for length in range(len(data) - (1 if kind == "JPEG" else 8)):
        text = refused(data[:length])
        assert any(word in text for word in ("too small", "empty", "cut short", "damaged", "No picture")), text


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("garbage", [1, 1000, 300_000])
def test_what_follows_the_picture_does_not_matter(kind: str, garbage: int) -> None:
    data = encoded(picture(), kind) + b"\0" * garbage
    assert read_header(data, max_pixels=LIMIT)[:3] == (kind, 40, 30)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("fill", [b"", b"\xff\xff"])
@pytest.mark.parametrize("before", [b"\xff\xda", b"\xff\xc4"])
def test_an_end_marker_in_what_a_segment_holds_is_not_the_end(before: bytes, fill: bytes, progressive: bool) -> None:
    data = encoded(picture(), "JPEG", progressive=progressive)
    at = data.rindex(before)  # after the frame header; of a progressive one, between scans
    data = data[:at] + segment(0xFE, b"\xff\xd9 \xff\xd9") + fill + data[at:-2] + fill + data[-2:]
    end = data.rindex(b"\xff\xd9")
    assert find_end(data) == end
    video = b"\0\0\0\x18ftypmp42\xff\xd9 and more"
    assert find_end(data + video) == end
    assert read_header(data + video, max_pixels=LIMIT).format == "JPEG"
    with pytest.raises(InvalidImage, match="JPEG is cut short: no end marker"):
        _ = Frame(data[:end]).rgb


def test_the_end_of_damaged_data_is_that_of_the_file() -> None:
    data = encoded(picture(), "JPEG")
    damaged = data[:-10] + b"\xff\xee\xff\x00" + data[-2:]
    assert find_end(damaged) == len(damaged) - 2


def test_very_many_segments_after_the_frame_header_are_not_looked_through() -> None:
    data = encoded(picture(), "JPEG")
    at = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match="no end marker"):
        _ = Frame(data[:at] + segment(0xFE, b"") * 100_000 + data[at:] + b"more").rgb


def test_a_thumbnail_within_does_not_make_a_cut_jpeg_whole() -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd8\xff\xd9"
    data = encoded(picture(), "JPEG", exif=exif.tobytes() + b"\xff\xd8\xff\xd9")
    assert "cut short" in refused(data[:-40])


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_refused_or_read_and_nothing_else(kind: str) -> None:
    random_ = random.Random(kind)
    data = encoded(picture(), kind)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random_.choice((1, 3, 10))):
            damaged[random_.randrange(min(len(data), 120))] = random_.choice((0, 1, 127, 128, 255))
        try:
            header = read_header(bytes(damaged[: random_.randrange(1, len(data))]), max_pixels=LIMIT)
        except InvalidImage:
            continue
        assert 0 < header.width * header.height <= LIMIT
