"""Results drawn over pictures in Python: tiles, and what only looks like them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forgesyte_nb.drawing import draw_result

GRAY = np.full((40, 80, 3), 90, np.uint8)
PALETTE = {"stone": {"rgb": [126, 125, 124]}, "gold": {"rgb": [246, 208, 62]}}


def test_a_grid_of_names_covers_the_picture_in_its_palettes_colours() -> None:
    drawn = draw_result(GRAY, {"block_map": [["stone", "gold"], ["gold", "lava"]], "palette": PALETTE})
    assert drawn[10, 20].tolist() == [126, 125, 124]
    assert drawn[10, 60].tolist() == drawn[30, 20].tolist() == [246, 208, 62]
    assert drawn[30, 60].tolist() == [90, 90, 90]  # nobody knows its colour


@pytest.mark.parametrize(
    "result",
    [
        {"palette": PALETTE},
        {"block_map": [["stone"]]},
        {"block_map": [["stone"]], "palette": ["stone"]},
        {"block_map": [["stone"]], "palette": {"stone": {"rgb": "gray"}}},
        {"block_map": [[]], "palette": PALETTE},
        {"block_map": [[{"a": 1}]], "palette": PALETTE},
        {"block_map": ["stone"], "palette": PALETTE},
    ],
)
def test_what_only_looks_like_one_is_left_alone(result: dict[str, Any]) -> None:
    assert (draw_result(GRAY, result) == 90).all()
