"""JPEGs whose header decoders and naive readers see differently: the size is the decoder's, or they are refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.header import read_header
from forgesyte_nb.image.jpeg import MOST_STRAY_BYTES
from tests.conftest import encoded

HALF = np.zeros((40, 60, 3), np.uint8)
HALF[:, 30:] = 255
WHOLE = encoded(HALF, "JPEG")
BEFORE = [WHOLE.index(marker) for marker in (b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda")]


def size(data: bytes) -> tuple[int, int]:
    header = read_header(data, max_pixels=50_000_000)
    return header.width, header.height


def frame_header(width: int, height: int, marker: int = 0xC0, bits: int = 8, channels: int = 1) -> bytes:
    body = struct.pack(">BHHB", bits, height, width, channels) + b"\x01\x11\x00" * channels
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("at", BEFORE)
@pytest.mark.parametrize(
    "stray", [b"\0", b"\xff\0", b"\xff\xff\xff", b"\xff\0\xff\0" + bytes(300), b"0123456789abcdef"]
)
def test_stray_bytes_between_segments(at: int, stray: bytes) -> None:
    data = WHOLE[:at] + stray + WHOLE[at:]
    assert size(data) == (60, 40)
    assert np.array_equal(Frame(data).rgb, Frame(WHOLE).rgb)


@pytest.mark.parametrize("at", BEFORE[:2])
def test_very_many_stray_bytes_are_refused(at: int) -> None:
    with pytest.raises(InvalidImage, match="JPEG is damaged: over 65,536 bytes between its segments"):
        size(WHOLE[:at] + bytes(MOST_STRAY_BYTES + 1) + WHOLE[at:])


@pytest.mark.parametrize("at", BEFORE[:3])
def test_stray_bytes_of_many_segments_are_counted_together(at: int) -> None:
    one = b"\xff\xe5\0\2" + bytes(1000)
    assert Frame(WHOLE[:at] + one * 60 + WHOLE[at:]).rgb.shape == HALF.shape
    with pytest.raises(InvalidImage, match="over 65,536 bytes between its segments"):
        _ = Frame(WHOLE[:at] + one * 70 + WHOLE[at:]).rgb


@pytest.mark.parametrize("hidden", [b"\xff\0\0\x0f", b"\xff\0\0\x13\0\0", b"\xff\x01\0\x0f", b"\xff\xd0\0\x0f"])
def test_the_size_is_that_of_the_frame_that_a_decoder_finds(hidden: bytes) -> None:
    """What seems a segment holds a frame header; decoders find that, a reader of lengths the next one."""
    data = WHOLE[:2] + hidden + frame_header(3200, 2000) + WHOLE[2:]
    assert size(data) == (3200, 2000)
    with pytest.raises(InvalidImage, match="megapixels is over the limit"):
        Frame(data, max_pixels=1_000_000)


def test_what_a_segment_holds_is_not_read() -> None:
    note = b"\xff\xfe" + struct.pack(">H", 2 + 13) + frame_header(3200, 2000)
    data = WHOLE[:2] + note + WHOLE[2:]
    assert size(data) == (60, 40)
    assert Frame(data).rgb.shape == HALF.shape


@pytest.mark.parametrize("length", [0, 1])
def test_lengths_below_their_own_size(length: int) -> None:
    data = WHOLE[:2] + b"\xff\xe5" + struct.pack(">H", length) + WHOLE[2:]
    assert size(data) == (60, 40)
    assert Frame(data).rgb.shape == HALF.shape


@pytest.mark.parametrize("early", [b"\xff\xd8", b"\xff\xd9", b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"])
def test_markers_that_may_not_stand_before_the_frame(early: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"JPEG is damaged: marker FF D. stands before its frame header"):
        size(WHOLE[:2] + early + WHOLE[2:])


def lossless(bits: int) -> bytes:
    """A lossless JPEG (ITU-T T.81 annex H) of 16×16 pixels without differences, which is even gray."""
    codes = b"\xff\xc4" + struct.pack(">HB", 20, 0) + bytes([1, *[0] * 15, 0])
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x00\x00"
    return b"\xff\xd8" + frame_header(16, 16, 0xC3, bits) + codes + scan + bytes(32) + b"\xff\xd9"


@pytest.mark.parametrize(
    "data", [lossless(16), lossless(12), WHOLE.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")]
)
def test_more_than_8_bits_are_refused_rather_than_black(data: bytes) -> None:
    with pytest.raises(
        InvalidImage, match=r"JPEG of 1[26] bits a channel: JPEGs of 8 bits are accepted; save it as PNG"
    ):
        _ = Frame(data).rgb


def test_lossless_of_8_bits_is_gray_or_refused() -> None:
    try:
        assert (Frame(lossless(8)).rgb == 128).all()
    except InvalidImage as error:
        assert "JPEG of 16×16" in str(error)  # noqa: PT017 -- older OpenCV does not know it


@pytest.mark.parametrize("marker", [0xC5, 0xC7, 0xCB, 0xCD, 0xCF])
def test_kinds_that_are_not_decoded(marker: int) -> None:
    with pytest.raises(InvalidImage, match=rf"not decoded \(frame type {marker - 0xC0}, 3 channels"):
        size(WHOLE.replace(b"\xff\xc0", bytes([0xFF, marker])))


def test_two_channels_are_refused() -> None:
    with pytest.raises(InvalidImage, match=r"not decoded \(frame type 0, 2 channels"):
        size(b"\xff\xd8" + frame_header(16, 16, channels=2) + WHOLE[BEFORE[2] :])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_by_xmp_as_pillow_reads_it(kind: str, orientation: int) -> None:
    packet = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98} if kind == "JPEG" else {}
    if kind == "PNG":
        note = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        whole = encoded(HALF, "PNG")
        data = whole[:33] + struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note)) + whole[33:]
    else:
        data = encoded(HALF, kind, xmp=packet, **options)
    exif = Image.fromarray(HALF)
    exif.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(exif))
    assert Frame(data).rgb.shape == upright.shape
    assert np.abs(Frame(data).rgb.astype(int) - upright).mean() < 2
