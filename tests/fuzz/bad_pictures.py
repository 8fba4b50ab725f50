"""Image files that have been through a lot, as a hypothesis strategy, and the messages that carry them."""

from __future__ import annotations

import json
import struct
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import encoded
from tests.fuzz.mutation import mutated

VIEWS = ("rgb", "bgr", "gray", "pil", "size_wh")


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """The bytes of a file that once was a picture; some are one still."""
    seeds = seed_pictures()
    picture = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 9)) == 0:
        other = draw(st.sampled_from(seeds))
        picture = picture[: draw(st.integers(0, len(picture)))] + other[draw(st.integers(0, len(other))) :]
    return draw(mutated(picture, most=6, near=draw(st.sampled_from([32, 64, 256, 1 << 30]))))


@st.composite
def looks(draw: st.DrawFn) -> bytes:
    """A right binary message that has such a file decoded."""
    return looking(draw(st.sampled_from(VIEWS)), draw(pictures()))


def looking(view: str, picture: bytes) -> bytes:
    """A binary message that has a file decoded, and looked at as one of `VIEWS`."""
    header = {"type": "send_frame", "frame_id": "f", "plugin": "look", "options": {"view": view}}
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + picture


@cache
def seed_pictures() -> list[bytes]:
    """Small pictures of every format, in the ways in which they are written."""
    rng = np.random.default_rng(7)
    pixels = np.kron(rng.integers(0, 255, (6, 8, 3), np.uint8), np.ones((5, 5, 1), np.uint8))
    rgb = Image.fromarray(pixels)
    rgba, gray, palette = rgb.convert("RGBA"), rgb.convert("L"), rgb.convert("P")
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned: dict[str, Any] = {"exif": exif.tobytes()}
    moving: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(180), rgb]}
    return [
        encoded(rgb, "JPEG", quality=70),
        encoded(rgb, "JPEG", progressive=True, **turned),
        encoded(gray, "JPEG", restart_marker_blocks=2),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb, "PNG"),
        encoded(rgba, "PNG", **turned),
        encoded(palette, "PNG", transparency=3),
        encoded(deep, "PNG"),
        encoded(rgb, "PNG", **moving),
        encoded(palette, "GIF", transparency=1),
        encoded(rgb, "GIF", **moving),
        encoded(rgb, "BMP"),
        encoded(palette, "BMP"),
        encoded(rgba, "BMP"),
        encoded(rgb, "WEBP", quality=60),
        encoded(rgba, "WEBP", lossless=True, **turned),
        encoded(rgb, "WEBP", **moving),
        encoded(rgb, "TIFF"),
        encoded(gray, "TIFF", compression="tiff_lzw"),
        encoded(rgb, "TIFF", compression="jpeg"),
        encoded(rgba, "TIFF", compression="tiff_adobe_deflate"),
        encoded(rgb.convert("1"), "TIFF", compression="group4"),
        encoded(deep, "TIFF", save_all=True, append_images=[deep]),
    ]
