"""Files that hold two sizes: the one that is checked is the one that is decoded, or they are refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame
from tests.chaos.bombs import jpeg_behind_ff00
from tests.conftest import encoded

WIDTH, HEIGHT = 60, 40
HUGE = 12_000  # less than what Pillow refuses by itself
PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PIXELS[:, WIDTH // 2 :] = 255


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


def jpeg_frame(width: int, height: int, channels: int = 3) -> bytes:
    body = struct.pack(">BHHB", 8, height, width, channels) + b"".join(bytes([n + 1, 0x11, 0]) for n in range(channels))
    return jpeg_segment(0xC0, body)


def jpeg(*, before: bytes = b"", after: bytes = b"", end: bytes = b"", mode: str = "RGB") -> bytes:
    """A JPEG with more bytes before and after its frame header, and after its data."""
    whole = encoded(Image.fromarray(PIXELS).convert(mode), "JPEG")
    at = whole.index(b"\xff\xc0")
    stop = at + 2 + int.from_bytes(whole[at + 2 : at + 4], "big")
    return whole[:at] + before + whole[at:stop] + after + whole[stop:-2] + end + whole[-2:]


def jpeg_with_decoy(start: bytes) -> bytes:
    """A JPEG that a reader of lengths reads as huge: it skips the frame header, and finds another one in a comment."""
    decoy = jpeg_segment(0xFE, jpeg_frame(HUGE, HUGE))
    frame = jpeg_frame(WIDTH, HEIGHT)
    return jpeg(before=start + struct.pack(">H", 2 + len(frame) + 4), after=decoy)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG with more chunks before and after its data."""
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", rows) + after + chunk(b"IEND", b"")


def animation(frames: int) -> bytes:
    return chunk(b"acTL", struct.pack(">II", frames, 0))


def animation_frame(number: int) -> bytes:
    """The header of a huge frame of an animated PNG."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, HUGE, HUGE, 0, 0, 1, 1, 0, 0))


HUGE_DATA = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(bytes(HUGE)))


def gif(*, screen: tuple[int, int], second: bool = False) -> bytes:
    """A GIF whose screen is of another size than its picture, and which a huge second picture may follow."""
    whole = encoded(PIXELS, "GIF")
    more = b"," + struct.pack("<HHHHB", 0, 0, HUGE, HUGE, 0) + b"\x02\x02\x4c\x01\x00" if second else b""
    return whole[:6] + struct.pack("<HH", *screen) + whole[10:-1] + more + whole[-1:]


def bmp(height: int) -> bytes:
    whole = encoded(PIXELS, "BMP")
    return whole[:22] + struct.pack("<i", height) + whole[26:]


TIFF_SIZE = [(256, 4, 1, WIDTH), (257, 4, 1, HEIGHT)]
TIFF_REST = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, HEIGHT)]
TIFF_REST += [(279, 4, 1, WIDTH * HEIGHT)]
TIFF_HUGE = [(256, 4, 1, HUGE), (257, 4, 1, HUGE)]


def tiff(*entries: tuple[int, int, int, int], second: bool = False) -> bytes:
    """A TIFF of these tags (tag, type, count, value) and the rest, and a huge second directory."""

    def directory(tags: list[tuple[int, int, int, int]], following: int) -> bytes:
        packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        return struct.pack("<H", len(tags)) + packed + struct.pack("<I", following)

    tags = sorted([*entries, *TIFF_REST], key=lambda entry: entry[0])  # those of one tag in the order given
    start = 8 + WIDTH * HEIGHT
    following = start + len(directory(tags, 0)) if second else 0
    more = directory(TIFF_HUGE + TIFF_REST, 0) if second else b""
    return b"II*\0" + struct.pack("<I", start) + PIXELS[:, :, 0].tobytes() + directory(tags, following) + more


def webp(*chunks: bytes, canvas: tuple[int, int] | None = None, flags: int = 0) -> bytes:
    """A WebP of these chunks, which a canvas precedes if its size is given."""
    extended = b""
    if canvas is not None:
        sides = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
        extended = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides
    body = b"WEBP" + extended + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_picture(pixels: np.ndarray) -> bytes:
    """The chunk of a lossless picture."""
    return encoded(pixels, "WEBP", lossless=True)[12:]


def webp_frame(width: int, height: int, picture: bytes) -> bytes:
    """An animation of one frame."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    frame = bytes(6) + sides + bytes(4) + picture
    return b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame)) + frame


SMALL = webp_picture(PIXELS)
LARGE = webp_picture(np.zeros((2000, 2000, 3), np.uint8))
SIZE = (WIDTH, HEIGHT)

READ: dict[str, Callable[[], bytes]] = {
    "JPEG, FF 00 with a length before its frame header": lambda: jpeg_with_decoy(b"\xff\x00"),
    "JPEG, TEM with a length before its frame header": lambda: jpeg_with_decoy(b"\xff\x01"),
    "JPEG, RST0 with a length before its frame header": lambda: jpeg_with_decoy(b"\xff\xd0"),
    "JPEG, a segment of length 0 before its frame header": lambda: jpeg(before=b"\xff\xe5\0\0"),
    "JPEG, a frame header in a comment": lambda: jpeg(before=jpeg_segment(0xFE, jpeg_frame(HUGE, HUGE))),
    "JPEG, a height after its data (DNL)": lambda: jpeg(end=jpeg_segment(0xDC, struct.pack(">H", HUGE))),
    "JPEG, a second picture": lambda: jpeg() + b"\xff\xd8" + jpeg_frame(HUGE, HUGE) + b"\xff\xd9",
    "PNG, a frame of another size": lambda: png(before=animation(1) + animation_frame(0)),
    "PNG, a second frame": lambda: png(before=animation(2), after=animation_frame(0) + HUGE_DATA),
    "PNG, an animation after its data": lambda: png(after=animation(2) + animation_frame(0) + HUGE_DATA),
    "PNG, the header of a frame without an animation": lambda: png(before=animation_frame(0)),
    "PNG, a frame without an animation": lambda: png(after=animation_frame(0) + HUGE_DATA),
    "GIF, a smaller screen": lambda: gif(screen=(8, 8)),
    "GIF, no screen": lambda: gif(screen=(0, 0)),
    "GIF, a second picture": lambda: gif(screen=SIZE, second=True),
    "TIFF, a second size": lambda: tiff(*TIFF_SIZE, *TIFF_HUGE),
    "TIFF, a second directory": lambda: tiff(*TIFF_SIZE, second=True),
    "TIFF, a short width in four bytes": lambda: tiff((256, 3, 1, WIDTH | 0x7000_0000), TIFF_SIZE[1]),
    "WebP, a second picture": lambda: webp(SMALL, LARGE, canvas=SIZE),
    "WebP, a second picture without a canvas": lambda: webp(SMALL, LARGE),
    "WebP, a second canvas": lambda: webp(webp(canvas=(HUGE, HUGE))[12:], SMALL, canvas=SIZE),
}
"""Pictures of 60×40 in which a naive reader could find another size."""

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG, two frame headers": (lambda: jpeg(after=jpeg_frame(HUGE, HUGE)), "holds a picture of 12000×12000"),
    "JPEG of CMYK, two frame headers": (
        lambda: jpeg(after=jpeg_frame(HUGE, HUGE, 4), mode="CMYK"),
        "JPEG of 60×40 by its header holds a picture of 12000×12000",
    ),
    "JPEG, its height only after its data (DNL)": (
        lambda: b"\xff\xd8" + jpeg_frame(WIDTH, 0) + jpeg(end=jpeg_segment(0xDC, struct.pack(">H", HEIGHT)))[2:],
        "JPEG without pixels",
    ),
    "PNG, two headers": (lambda: png(before=png()[8:33]), "PNG is damaged: it has two headers"),
    "GIF, a larger screen": (lambda: gif(screen=(HUGE, HUGE)), "over the limit"),
    "BMP, a larger height": (lambda: bmp(-HUGE), "BMP is cut short: 60×12000 pixels"),
    "BMP, the lowest height": (lambda: bmp(-(2**31)), "no side may be over"),
    "TIFF, its first size huge": (lambda: tiff(*TIFF_HUGE, *TIFF_SIZE), "over the limit"),
    "TIFF, a width of one byte in four": (
        lambda: tiff((256, 1, 1, WIDTH | 0x7000_0000), (257, 1, 1, HEIGHT | 0x7000_0000)),
        "TIFF of 60×40 ",
    ),
    "TIFF, a width of two numbers": (lambda: tiff((256, 3, 2, WIDTH | HUGE << 16), TIFF_SIZE[1]), "tag 256 has 2"),
    "TIFF, a signed width": (lambda: tiff((256, 9, 1, WIDTH), TIFF_SIZE[1]), "tag 256 is no whole number"),
    "WebP, a larger canvas": (lambda: webp(SMALL, canvas=(2000, 2000)), "its canvas is 2000×2000, its picture 60×40"),
    "WebP, a smaller canvas": (lambda: webp(LARGE, canvas=SIZE), "its canvas is 60×40, its picture 2000×2000"),
    "WebP, a larger picture far behind": (
        lambda: webp(b"ABCD\0\0\0\0" * 70, LARGE, canvas=SIZE),
        "WEBP of 60×40 is damaged",
    ),
    "WebP, a frame larger than its canvas": (
        lambda: webp(webp_frame(2000, 2000, LARGE), canvas=SIZE, flags=2),
        "WEBP of 60×40 is damaged",
    ),
    "WebP, a picture larger than its frame": (
        lambda: webp(webp_frame(WIDTH, HEIGHT, LARGE), canvas=SIZE, flags=2),
        "WEBP of 60×40 is damaged",
    ),
}
"""Files that are no picture of one size, and words of what is said of them."""


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_picture_of_the_size_that_was_checked_is_decoded(name: str, order: str) -> None:
    frame = Frame(READ[name](), max_pixels=1_000_000)
    assert frame.stored_size_wh == SIZE
    assert np.abs(getattr(frame, order).astype(int) - PIXELS).mean() < 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_one_size_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(InvalidImage) as refused:
        _ = Frame(make(), max_pixels=5_000_000).rgb
    assert words in str(refused.value)


def test_a_large_picture_that_seems_small_counts_as_large() -> None:
    frame = Frame(jpeg_behind_ff00(1000, 800))
    assert frame.stored_size_wh == (1000, 800)
    assert frame.rgb.shape == (800, 1000, 3)
    with pytest.raises(InvalidImage, match=r"JPEG of 1000×800 = 0\.8 megapixels is over the limit"):
        Frame(jpeg_behind_ff00(1000, 800), max_pixels=700_000)
