"""Decoding: every format and mode comes out as upright 8-bit colour; what is damaged raises `InvalidImage`."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import FORMATS
from forgesyte_nb.image.frame import Frame
from tests.conftest import encoded


@pytest.fixture(scope="module")
def photo(astronaut: np.ndarray) -> Image.Image:
    """A photograph of 96×128 (width × height): no side or corner like another."""
    return Image.fromarray(astronaut[::4, :384:4])


def far(pixels: Any, reference: Any) -> float:
    """Mean absolute difference."""
    return float(np.abs(np.asarray(pixels, np.int16) - np.asarray(reference, np.int16)).mean())


FAITHFUL: dict[str, dict[str, Any]] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]
TAKES = {
    "JPEG": {"1", "L", "RGB", "CMYK", "YCbCr"},
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    "GIF": {"1", "L", "P", "RGB"},
    "BMP": {"1", "L", "P", "RGB", "RGBA"},
    "WEBP": {"L", "P", "RGB", "RGBA"},
    "TIFF": {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"},
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind in FORMATS for mode in MODES if mode in TAKES[kind]])
def test_every_mode_of_every_format(photo: Image.Image, kind: str, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        picture = photo.convert(mode)
    reference = photo.convert(mode if mode in ("1", "P") else "L" if mode in ("L", "LA", "I;16") else "RGB").convert(
        "RGB"
    )
    frame = Frame(encoded(picture, kind, **FAITHFUL.get(kind, {})))
    assert frame.rgb.shape == (128, 96, 3)
    assert frame.rgb.dtype == np.uint8
    assert far(frame.rgb, reference) < (12 if mode == "1" and kind == "JPEG" else 4)
    assert frame.format == kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_the_picture_upright(photo: Image.Image, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif.tobytes()}
    data = encoded(photo, kind, **options, **FAITHFUL.get(kind, {}))
    tagged = photo.copy()
    tagged.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(tagged)
    frame = Frame(data)
    assert frame.size_wh == upright.size == ((96, 128) if orientation < 5 else (128, 96))
    assert far(frame.rgb, upright) < 4
    assert far(Frame(data).bgr[:, :, ::-1], upright) < 4
    assert far(Frame(data).pil, upright) < 4
    assert far(Frame(data).gray, upright.convert("L")) < 4


def test_a_cmyk_jpeg_turned_by_exif(photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo.convert("CMYK"), "JPEG", exif=exif.tobytes(), **FAITHFUL["JPEG"])
    assert far(Frame(data).rgb, photo.rotate(-90, expand=True)) < 4
    assert far(Frame(data).bgr[:, :, ::-1], photo.rotate(-90, expand=True)) < 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture(kind: str) -> None:
    pictures = [Image.fromarray(np.full((40, 60, 3), shade, np.uint8)) for shade in (10, 120, 240)]
    data = encoded(pictures[0], kind, save_all=True, append_images=pictures[1:])
    assert Frame(data).rgb.shape == (40, 60, 3)
    assert far(Frame(data).rgb, pictures[0]) < 2


def test_sixteen_bits_of_colour_become_eight() -> None:
    import cv2

    ramp = np.linspace(0, 65535, 256 * 3).reshape(16, 16, 3).astype(np.uint16)
    done, data = cv2.imencode(".png", ramp)
    assert done
    assert far(Frame(data.tobytes()).bgr, ramp / 257) <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_what_follows_the_picture_does_not_matter(photo: Image.Image, kind: str) -> None:
    data = encoded(photo, kind)
    assert far(Frame(data + b"\0" * 100_000).rgb, Frame(data).rgb) == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_truncation_raises_or_gives_a_whole_array(photo: Image.Image, kind: str) -> None:
    data = encoded(photo, kind)
    refused = 0
    for length in [*range(0, 60, 3), *range(60, len(data), len(data) // 40)]:
        try:
            assert Frame(data[:length]).rgb.shape == (128, 96, 3)
        except InvalidImage as error:
            refused += 1
            assert str(error)  # noqa: PT017 -- either outcome is right
    assert refused > 40


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_raises_invalid_image_or_gives_pixels(kind: str) -> None:
    random_ = random.Random(kind)
    data = encoded(np.random.default_rng(1).integers(0, 255, (20, 24, 3), dtype=np.uint8), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(random_.choice((1, 3, 10))):
                damaged[random_.randrange(len(data))] = random_.randrange(256)
            try:
                frame = Frame(bytes(damaged), max_pixels=10_000)
                assert frame.rgb.shape[2] == 3
                assert frame.pil.mode == "RGB"
            except InvalidImage as error:
                assert str(error)  # noqa: PT017 -- either outcome is right


def test_views_agree_and_are_read_only(jpeg: bytes) -> None:
    frame = Frame(jpeg)
    assert frame.decode_ms == 0
    assert np.asarray(frame) is not None
    assert far(frame.bgr[:, :, ::-1], frame.rgb) == 0
    assert far(np.asarray(frame), frame.rgb) == 0
    assert far(frame.gray, np.asarray(frame.pil.convert("L"))) < 1
    assert frame.decode_ms > 0
    for view in (frame.rgb, frame.bgr, frame.gray):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 0
    assert frame.bytes is jpeg


def test_the_file_notes_reach_pil(photo: Image.Image) -> None:
    assert Frame(encoded(photo, "PNG", dpi=(300, 300))).pil.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_from_array() -> None:
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert Frame.from_array(gray).rgb.tolist() == np.dstack([gray] * 3).tolist()
    rgba = np.dstack([gray, gray + 1, gray + 2, gray * 0])
    frame = Frame.from_array(rgba, frame_id="f", seq=3)
    assert frame.rgb.tolist() == rgba[:, :, :3].tolist()
    rgba[:] = 0
    assert frame.rgb.any(), "it must not change with the caller's array"
    assert (frame.size_wh, frame.format, frame.frame_id, frame.seq) == ((4, 3), "array", "f", 3)
    assert Frame(frame.bytes).rgb.shape == (3, 4, 3)
    assert Frame.from_array(gray[:, :, None]).rgb.tolist() == np.dstack([gray] * 3).tolist()


def test_lossless_every_pixel_stays_as_it_is() -> None:
    labels = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    frame = Frame.from_array(labels, lossless=True)
    assert np.array_equal(Frame(frame.bytes).rgb, labels)
    assert not np.array_equal(Frame(Frame.from_array(labels).bytes).rgb, labels)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floats"), (np.int32, "32-bit numbers")])
def test_a_tiff_whose_numbers_have_no_range_is_refused(dtype: Any, kind: str) -> None:
    picture = Image.fromarray(np.ones((30, 40), dtype))
    with pytest.raises(InvalidImage, match=f"TIFF of {kind}, .*: scale them to 0–255 and save them as 8 bits"):
        Frame(encoded(picture, "TIFF"))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 4)), "Array of float64"),
        (np.zeros((3, 4), bool), "Array of bool"),
        (np.zeros((3, 4, 3), np.int8), "Array of int8"),
        (np.zeros((3, 4, 2), np.uint8), "shape (3, 4, 2)"),
        (np.zeros((3,), np.uint8), "shape (3,)"),
        (np.zeros((2, 3, 4, 3), np.uint8), "shape (2, 3, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "shape (0, 4, 3)"),
        (np.zeros((0, 0), np.uint8), "shape (0, 0)"),
        ("picture.png", "takes pixels"),
        (None, "Array of object"),
    ],
)
def test_what_is_no_picture_array(array: Any, reason: str) -> None:
    with pytest.raises(InvalidImage) as caught:
        Frame.from_array(array)
    assert reason in str(caught.value)


def test_real_pages_and_pictures(shared_data: Any) -> None:
    files = sorted(path for path in shared_data.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png", ".tif"))[:8]
    assert files
    for path in files:
        frame = Frame(path.read_bytes())
        with Image.open(path) as opened:
            assert far(frame.rgb, ImageOps.exif_transpose(opened).convert("RGB")) < 2


def cut_with_an_end(data: bytes, share: float) -> bytes:
    """The first part of a JPEG and an end marker, as a program writes it that ran out of data."""
    start = data.index(b"\xff\xda") + 20
    return data[: start + int(share * (len(data) - start))] + b"\xff\xd9"


CUT: dict[str, dict[str, Any]] = {
    "plain": {},
    "444": {"subsampling": 0},
    "fine": {"quality": 98},
    "restarts": {"restart_marker_blocks": 4},
    "optimized": {"optimize": True},
}


@pytest.mark.parametrize("rgb", [True, False], ids=["rgb", "bgr"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("kind", CUT)
def test_a_jpeg_whose_data_end_early_is_refused_in_spite_of_its_end_marker(
    photo: Image.Image, kind: str, share: float, rgb: bool
) -> None:
    for turned in (1, 2, 3, 4, 5, 6, 7, 8):
        exif = Image.Exif()
        exif[0x0112] = turned
        for picture in (photo, photo.convert("L")):
            whole = encoded(picture, "JPEG", exif=exif, **CUT[kind])
            frame = Frame(cut_with_an_end(whole, share) + b"what telephones append")
            with pytest.raises(InvalidImage, match="JPEG of 96×128 is cut short: its data end before the picture does"):
                _ = frame.rgb if rgb else frame.bgr


@pytest.mark.parametrize("shade", [127, 128, 129])
@pytest.mark.parametrize("kind", CUT)
def test_gray_pictures_are_not_taken_to_be_cut(photo: Image.Image, kind: str, shade: int) -> None:
    gray = np.full((40, 60, 3), shade, np.uint8)
    corner = np.array(photo)
    corner[-40:, -40:] = shade
    for pixels in (gray, gray[:, :, 0], corner, gray[:1, :1]):
        data = encoded(pixels, "JPEG", **CUT[kind])
        thumbnail = Image.Exif()
        thumbnail[0x010E] = "\xff\xd8\xff\xd9"
        for whole in (data, data + b"\xff\xd9 appended", encoded(pixels, "JPEG", exif=thumbnail, **CUT[kind])):
            assert Frame(whole).rgb.shape[:2] == pixels.shape[:2]


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body) if length is None else length)
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
    )


def test_a_png_whose_chunks_lie_about_their_length_is_refused_before_memory_is_taken_for_them(
    photo: Image.Image,
) -> None:
    whole = encoded(photo)
    at = whole.index(b"IDAT") - 4
    for length in (0xFFFFFFFF, 0x7FFFFFFF, len(whole)):
        lying = whole[:at] + struct.pack(">I", length) + whole[at + 4 :]
        with pytest.raises(InvalidImage, match="PNG is damaged: its chunks do not fit into its"):
            _ = Frame(lying).rgb
    with pytest.raises(InvalidImage, match="PNG is damaged"):
        _ = Frame(whole[: whole.index(b"IEND") + 2] + b"IEND" + bytes(40)).rgb


@pytest.mark.parametrize("animated", [False, True])
def test_a_png_with_less_data_than_its_header_says_is_refused(animated: bool) -> None:
    size = struct.pack(">II", 2000, 1000)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0")
    if animated:
        head += chunk(b"acTL", struct.pack(">II", 5, 0)) + chunk(b"fcTL", bytes(4) + size + bytes(8) + b"\0\1\0\1\0\0")
    short = head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(InvalidImage, match="PNG of 2000×1000 is damaged"):
        _ = Frame(short).rgb


def test_what_pillow_cannot_identify_is_told_without_its_objects() -> None:
    whole = encoded(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InvalidImage, match=r"PNG of 8×8 is damaged: it cannot be read$"):
        _ = Frame(whole[:24] + b"\x07" + whole[25:]).rgb
