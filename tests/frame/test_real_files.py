"""Public test files that were once read wrongly, with their right values; they are not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from forgesyte_nb.image.frame import Frame

SHARED = Path(os.environ.get("FORGESYTE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def rgb(name: str) -> np.ndarray:
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip(f"shared media absent: cases/{name} (set FORGESYTE_SHARED)")
    return Frame(path.read_bytes()).rgb


def test_a_webp_whose_exif_has_the_prefix_of_jpeg_is_turned() -> None:
    corner = rgb("hopper_orientation_6.webp")[:32, :32]
    assert corner.mean(axis=(0, 1)) == pytest.approx([52.0, 48.9, 83.6], abs=0.1)


def test_a_jpeg_with_stray_bytes_between_its_segments() -> None:
    pixels = rgb("photoshop-200dpi-broken.jpg")
    assert pixels.shape == (200, 200, 3)
    assert pixels.mean() == pytest.approx(92.1, abs=0.1)


def test_white_in_a_bmp_of_5_6_5_bits() -> None:
    assert (rgb("rgb16-565.bmp").max(axis=(0, 1)) == 255).all()


def test_the_alpha_of_a_tiff_is_dropped() -> None:
    assert rgb("seq-4c-8b-rgba-unassoc-50969cda.tiff").mean(axis=(0, 1)) == pytest.approx([126, 127, 128], abs=1)


def test_a_big_endian_bigtiff() -> None:
    pixels = rgb("BigTIFFMotorola.tif")
    assert pixels.shape == (64, 64, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(pixels, tifffile.imread(SHARED / "cases" / "BigTIFFMotorola.tif"))
