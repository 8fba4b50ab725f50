"""`block_mapper` on colours whose nearest block is known, and on a photograph."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source

PLUGIN_FILE = Path(__file__).parents[2] / "plugins" / "block_mapper.py"


@pytest.fixture(scope="module", name="plugin")
def _plugin() -> Any:
    (plugin,) = load_source(PLUGIN_FILE.read_text(encoding="utf-8"), str(PLUGIN_FILE))
    return plugin


@pytest.fixture(name="block_mapper")
def _block_mapper(plugin: Any) -> Any:
    return plugin.target


def test_four_quarters_become_four_blocks(block_mapper: Any) -> None:
    image_rgb = np.zeros((160, 80, 3), np.uint8)
    image_rgb[:80, :40] = (207, 213, 214)
    image_rgb[:80, 40:] = (140, 30, 35)
    image_rgb[80:, :40] = (250, 210, 60)
    image_rgb[80:, 40:] = (126, 126, 126)

    result = block_mapper(fs.Frame.from_array(image_rgb), width=8, height=16)

    assert result == {
        "block_map": [["white_concrete"] * 4 + ["red_concrete"] * 4] * 8 + [["gold_block"] * 4 + ["stone"] * 4] * 8,
        "palette": {
            "white_concrete": {"count": 32, "percentage": 25.0, "rgb": [207, 213, 214]},
            "red_concrete": {"count": 32, "percentage": 25.0, "rgb": [142, 33, 33]},
            "stone": {"count": 32, "percentage": 25.0, "rgb": [126, 126, 126]},
            "gold_block": {"count": 32, "percentage": 25.0, "rgb": [246, 208, 62]},
        },
        "dimensions": {"width": 8, "height": 16},
        "total_blocks": 128,
        "unique_blocks": 4,
        "original_size": {"width": 80, "height": 160},
    }


def test_every_block_maps_to_itself(block_mapper: Any) -> None:
    blocks: dict[str, tuple[int, int, int]] = block_mapper.__globals__["BLOCK_RGB"]
    stripes_rgb = np.repeat(np.array(list(blocks.values()), np.uint8)[:, None], 8, axis=1)

    result = block_mapper(fs.Frame.from_array(stripes_rgb), width=8, height=len(blocks))

    assert [row[0] for row in result["block_map"]] == list(blocks)
    assert result["unique_blocks"] == len(blocks) == 35


def test_distance_is_redmean_and_not_plain_rgb(block_mapper: Any) -> None:
    # Plain RGB says yellow_concrete: 9² + 35² + 1² = 1307, against 4² + 2² + 42² = 1784.
    # Redmean weighs green most and blue least: 2.96·9² + 4·35² + 2.04·1² = 5142, against 3640.
    image_rgb = np.full((8, 8, 3), (250, 210, 20), np.uint8)

    assert block_mapper(fs.Frame.from_array(image_rgb), width=8, height=8)["block_map"][0][0] == "gold_block"


def test_all_pixels_agree_with_the_formula_taken_one_at_a_time(block_mapper: Any) -> None:
    image_rgb = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
    blocks: dict[str, tuple[int, int, int]] = block_mapper.__globals__["BLOCK_RGB"]

    def nearest(rgb: list[int]) -> str:
        def distance(name: str) -> float:
            red_mean = (rgb[0] + blocks[name][0]) / 2
            red, green, blue = (mine - theirs for mine, theirs in zip(rgb, blocks[name], strict=True))
            return (2 + red_mean / 256) * red**2 + 4 * green**2 + (2 + (255 - red_mean) / 256) * blue**2

        return min(blocks, key=distance)

    result = block_mapper(fs.Frame.from_array(image_rgb), width=16, height=16)

    assert result["block_map"] == [[nearest(rgb) for rgb in row] for row in image_rgb.tolist()]


def test_dithering_mixes_two_grays_where_flat_mapping_takes_one(block_mapper: Any) -> None:
    # 150 lies between stone (126) and smooth_stone (159), whose border is at 142.5: of 64 steps of 0.75 from
    # 126.375 on, the first 22 lie below it.
    frame = fs.Frame.from_array(np.full((64, 64, 3), 150, np.uint8))

    flat = block_mapper(frame, width=16, height=16)
    mixed = block_mapper(frame, width=16, height=16, dithering=True)

    assert {name: entry["count"] for name, entry in flat["palette"].items()} == {"smooth_stone": 256}
    assert {name: entry["count"] for name, entry in mixed["palette"].items()} == {
        "smooth_stone": 4 * 42,
        "stone": 4 * 22,
    }
    assert mixed["block_map"][:8] == mixed["block_map"][8:]  # the pattern repeats every 8 blocks


def test_a_photograph(block_mapper: Any) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photograph")
    frame = fs.Frame.from_array(data.astronaut())

    result = block_mapper(frame)

    names = Counter(name for row in result["block_map"] for name in row)
    assert {name: entry["count"] for name, entry in result["palette"].items()} == names
    assert list(result["palette"])[:3] == ["black_concrete", "white_concrete", "white_terracotta"]
    assert [len(row) for row in result["block_map"]] == [64] * 64
    assert sum(entry["percentage"] for entry in result["palette"].values()) == pytest.approx(100, abs=0.2)
    assert result["original_size"] == {"width": 512, "height": 512}
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("dithering", [False, True])
def test_a_single_pixel_fills_the_largest_and_an_odd_grid(block_mapper: Any, dithering: bool) -> None:
    frame = fs.Frame.from_array(np.zeros((1, 1, 3), np.uint8))

    for width, height in ((256, 256), (9, 11)):
        result = block_mapper(frame, width=width, height=height, dithering=dithering)
        assert (len(result["block_map"]), len(result["block_map"][0])) == (height, width)


def test_options(plugin: Any) -> None:
    assert plugin.schema.keywords(b"{}") == {"width": 64, "height": 64, "dithering": False}
    with pytest.raises(fs.InvalidOptions, match="width: 512 is greater than 256"):
        plugin.schema.keywords(b'{"width": 512}')
