"""`image_stats` on pictures whose numbers are known without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source

PLUGIN_FILE = Path(__file__).parents[2] / "plugins" / "image_stats.py"


@pytest.fixture(scope="module", name="plugin")
def _plugin() -> Any:
    (plugin,) = load_source(PLUGIN_FILE.read_text(encoding="utf-8"), str(PLUGIN_FILE))
    return plugin


@pytest.fixture(name="image_stats")
def _image_stats(plugin: Any) -> Any:
    return plugin.target


def test_a_flat_colour_has_no_contrast_no_edges_and_no_entropy(image_stats: Any) -> None:
    flat_rgb = np.full((30, 40, 3), (200, 100, 50), np.uint8)

    assert image_stats(fs.Frame.from_array(flat_rgb), bins=4) == {
        "size": {"width": 40, "height": 30},
        "mean": {"r": 200.0, "g": 100.0, "b": 50.0},
        "std": {"r": 0.0, "g": 0.0, "b": 0.0},
        "min": {"r": 200, "g": 100, "b": 50},
        "max": {"r": 200, "g": 100, "b": 50},
        "brightness": 0.4863,  # (0.299·200 + 0.587·100 + 0.114·50) / 255, luma rounded to 124
        "contrast": 0.0,
        "sharpness": 0.0,
        "entropy": 0.0,
        "histogram": [0, 1200, 0, 0],
        "dominant_colors": [{"rgb": [200, 100, 50], "share": 1.0}],
    }


def test_half_black_half_white_has_the_highest_contrast_and_one_bit(image_stats: Any) -> None:
    halves_rgb = np.zeros((20, 20, 3), np.uint8)
    halves_rgb[:, 10:] = 255

    result = image_stats(fs.Frame.from_array(halves_rgb), bins=2)

    assert (result["brightness"], result["contrast"], result["entropy"]) == (0.5, 0.5, 1.0)
    assert result["histogram"] == [200, 200]
    assert result["std"] == {"r": 127.5, "g": 127.5, "b": 127.5}
    assert result["dominant_colors"] == [
        {"rgb": [0, 0, 0], "share": 0.5},
        {"rgb": [255, 255, 255], "share": 0.5},
    ]


def test_all_levels_equally_frequent_are_eight_bits(image_stats: Any) -> None:
    ramp_gray = np.arange(256, dtype=np.uint8)[None].repeat(4, axis=0)

    result = image_stats(fs.Frame.from_array(ramp_gray), bins=3)

    assert result["entropy"] == 8.0
    assert result["histogram"] == [4 * 86, 4 * 85, 4 * 85]


def test_sharpness_is_the_variance_of_the_laplacian(image_stats: Any) -> None:
    dot_gray = np.zeros((10, 10), np.uint8)
    dot_gray[5, 5] = 255

    # One pixel of -4·255 and four of 255 among 100: mean 0, mean square (16 + 4)·255²/100.
    assert image_stats(fs.Frame.from_array(dot_gray))["sharpness"] == 13005.0


def test_a_photograph_and_its_blurred_copy(image_stats: Any) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photograph")
    image_rgb = data.astronaut()

    sharp = image_stats(fs.Frame.from_array(image_rgb))
    blurred = image_stats(fs.Frame.from_array(cv2.GaussianBlur(image_rgb, (9, 9), 0)))

    assert sharp["mean"] == {"r": 141.56, "g": 105.76, "b": 96.48}
    assert sharp["max"] == {"r": 255, "g": 255, "b": 255}
    assert sum(sharp["histogram"]) == 512 * 512
    assert sharp["sharpness"] > 800
    assert blurred["sharpness"] < 20
    assert blurred["brightness"] == pytest.approx(sharp["brightness"], abs=0.002)


def test_dominant_colors_are_few_repeatable_and_optional(image_stats: Any) -> None:
    rng = np.random.default_rng(7)
    frame = fs.Frame.from_array(rng.integers(0, 256, (100, 100, 3), np.uint8))

    first, again = image_stats(frame), image_stats(frame)

    assert len(first["dominant_colors"]) == 5
    assert first == again
    assert image_stats(frame, colors=0)["dominant_colors"] == []


def test_one_pixel(image_stats: Any) -> None:
    result = image_stats(fs.Frame.from_array(np.full((1, 1, 3), 255, np.uint8)))

    assert (result["brightness"], result["contrast"], result["sharpness"]) == (1.0, 0.0, 0.0)


def test_every_number_is_a_plain_one(image_stats: Any) -> None:
    result = image_stats(fs.Frame.from_array(np.zeros((8, 8, 3), np.uint8)))

    assert json.loads(json.dumps(result)) == result


def test_options(plugin: Any) -> None:
    assert plugin.schema.keywords(b"{}") == {"bins": 16, "colors": 5}
    with pytest.raises(fs.InvalidOptions, match="bins: 1 is less than 2"):
        plugin.schema.keywords(b'{"bins": 1}')
