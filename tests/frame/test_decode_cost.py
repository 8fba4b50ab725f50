"""Files that ask for much more time than their pixels do are refused before it is spent; others are not."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.jpeg import MOST_SCANS, MOST_SEGMENTS
from forgesyte_nb.image.png import HARMLESS_BYTES, MOST_CHUNKS, MOST_TEXTS
from tests.conftest import encoded

NOISE = np.random.default_rng(1).integers(0, 256, (700, 900, 3), np.uint8)
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    pixels: np.ndarray,
    *,
    more: bytes = b"",
    interlaced: bool = False,
    notes: bytes = b"",
    cut: int = 0,
    level: int = 6,
    block_for_each_row: bool = False,
) -> bytes:
    """A PNG of colour pixels, its data followed by `more` in the same deflated stream, in chunks of `cut` bytes."""
    steps = ADAM7 if interlaced else [(0, 0, 1, 1)]
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in steps]
    rows = [b"\0" + row.tobytes() for one in passes for row in one if one.size]
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    deflate = zlib.compressobj(level)
    if block_for_each_row:
        data = b"".join(deflate.compress(row) + deflate.flush(zlib.Z_FULL_FLUSH) for row in rows)
    else:
        data = deflate.compress(b"".join(rows))
    data += deflate.compress(more) + deflate.flush()
    parts = [data[at : at + cut] for at in range(0, len(data), cut)] if cut else [data]
    chunks = b"".join(chunk(b"IDAT", part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + notes + chunks + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("cut", [0, 8192, 16])
def test_large_pngs_are_taken_however_their_data_are_cut(interlaced: bool, cut: int) -> None:
    pixels = NOISE[:300, :600] if cut == 16 else NOISE
    assert np.array_equal(Frame(png(pixels, interlaced=interlaced, cut=cut)).rgb, pixels)


def test_texts_are_not_given_to_libpng(capfd: pytest.CaptureFixture[str]) -> None:
    """It would inflate 8 MB of each, and print a line of it."""
    text = zlib.compress(bytes(1 << 24))
    notes = chunk(b"zTXt", b"n\0\0" + text) + chunk(b"iTXt", b"n\0\1\0\0\0" + text) + chunk(b"iCCP", b"n\0\0" + text)
    assert np.array_equal(Frame(png(NOISE[:8, :8], notes=notes)).rgb, NOISE[:8, :8])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"faKe"])
def test_a_png_of_very_many_chunks_is_refused(kind: bytes) -> None:
    rest = 3  # IHDR, IDAT and IEND
    notes = chunk(kind, b"" if kind == b"IDAT" else b"n\0")
    assert Frame(png(NOISE[:8, :8], notes=notes * (MOST_CHUNKS - rest))).rgb.shape == (8, 8, 3)
    with pytest.raises(InvalidImage, match="PNG of more than 65,536 chunks: save it anew"):
        _ = Frame(png(NOISE[:8, :8], notes=notes * (MOST_CHUNKS - rest + 1))).rgb


@pytest.mark.parametrize("cut", [0, 8192])
def test_a_png_with_more_data_than_its_rows_can_become_is_refused(cut: int) -> None:
    bomb = png(NOISE, more=bytes(500_000_000), cut=cut)
    with pytest.raises(InvalidImage, match="PNG whose data go on after its picture is complete"):
        _ = Frame(bomb).rgb


def test_what_goes_on_after_the_picture_is_not_inflated() -> None:
    """Four megabytes of zeros deflate to nothing, and leave room for gigabytes of them."""
    picture = np.zeros((1000, 1400, 3), np.uint8)
    whole, bomb = png(picture), png(picture, more=bytes(1_000_000_000))
    assert len(bomb) > len(whole) + 900_000
    began = time.process_time()
    assert np.array_equal(Frame(bomb).rgb, picture)
    assert time.process_time() - began < 0.7, "a gigabyte takes longer"


def test_a_large_png_is_inflated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(NOISE)
    assert len(data) > HARMLESS_BYTES
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("inflated beside the decoder"))
    assert np.array_equal(Frame(data).rgb, NOISE)
    assert np.array_equal(Frame(data).bgr, NOISE[:, :, ::-1])


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("shape", [(700, 900, 3), (60_000, 1, 3), (1, 60_000, 3)])
def test_pngs_of_noise_are_taken_however_they_are_deflated(level: int, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    assert np.array_equal(Frame(png(pixels, level=level)).rgb, pixels)
    assert np.array_equal(Frame(png(pixels, level=level, block_for_each_row=True)).rgb, pixels)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_of_very_many_compressed_notes_is_refused(kind: bytes) -> None:
    body = {b"zTXt": b"n\0\0", b"iTXt": b"n\0\1\0\0\0", b"iCCP": b"n\0\0"}[kind] + zlib.compress(bytes(1000))
    few = png(NOISE[:8, :8], notes=chunk(kind, body) * (1 if kind == b"iCCP" else MOST_TEXTS))
    assert Frame(few).rgb.shape == (8, 8, 3)
    with pytest.raises(InvalidImage, match=f"PNG with more than {MOST_TEXTS} compressed texts"):
        _ = Frame(png(NOISE[:8, :8], notes=chunk(kind, body) * (MOST_TEXTS + 1))).rgb


def test_a_png_of_many_plain_texts_is_taken() -> None:
    assert Frame(png(NOISE[:8, :8], notes=chunk(b"tEXt", b"n\0text") * 500)).rgb.shape == (8, 8, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_very_many_segments_is_refused(progressive: bool) -> None:
    whole = encoded(Image.fromarray(NOISE[:64, :64]), "JPEG", progressive=progressive)
    scan = whole.index(b"\xff\xda")
    comment = b"\xff\xfe\0\x02"
    assert Frame(whole[:scan] + comment * (MOST_SEGMENTS // 2) + whole[scan:]).rgb.shape == (64, 64, 3)
    with pytest.raises(InvalidImage, match="JPEG of more than 4,096 segments: save it anew"):
        _ = Frame(whole[:scan] + comment * MOST_SEGMENTS + whole[scan:]).rgb


def of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there so often."""
    whole = encoded(Image.fromarray(NOISE[:64, :64]), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    scans = of_scans(1).count(b"\xff\xda")
    assert Frame(of_scans(MOST_SCANS - scans + 1)).rgb.shape == (64, 64, 3)
    with pytest.raises(InvalidImage, match=f"JPEG of more than {MOST_SCANS} scans"):
        _ = Frame(of_scans(MOST_SCANS - scans + 2)).rgb


@pytest.mark.parametrize("before", [b"\xff\xc4", b"\xff\xda"])
def test_what_looks_like_the_end_within_a_segment_hides_no_scans(before: bytes) -> None:
    whole = of_scans(MOST_SCANS)
    at = whole.index(before, whole.index(b"\xff\xc2"))
    with pytest.raises(InvalidImage, match=f"JPEG of more than {MOST_SCANS} scans"):
        _ = Frame(whole[:at] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + whole[at:]).rgb


@pytest.mark.parametrize("options", [{}, {"quality": 100, "subsampling": 0}, {"restart_marker_rows": 1}])
def test_one_scan_may_hold_whatever_it_does(options: dict[str, int]) -> None:
    """What looks like the beginning of a scan after the picture's end, or in a note before it, is none."""
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 500
    whole = encoded(NOISE, "JPEG", comment=b"\xff\xda" * 500, exif=exif, **options)
    assert Frame(whole + b"\xff\xda" * 500 + b"\xff\xd9").rgb.shape == NOISE.shape


def test_a_sequential_jpeg_of_one_scan_for_each_component_again_and_again_is_refused() -> None:
    whole = encoded(Image.fromarray(NOISE[:64, :64]), "JPEG")
    start = whole.index(b"\xff\xda")
    one = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x3f\x00" + whole[start + 14 : -2]
    spoof = b"\xff\xfe" + struct.pack(">H", 10) + b"\xff\xda\x00\x0c\x03\x01\x00\x02"
    with pytest.raises(InvalidImage, match="scans, each over the whole picture"):
        _ = Frame(whole[:start] + spoof + one * 100 + b"\xff\xd9").rgb
