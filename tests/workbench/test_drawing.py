"""Results drawn over pictures in Python: the rules of drawing, and the pixels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.drawing import draw_result
from forgesyte_nb.drawing.shapes import COLORS, shapes_of

GRAY = np.full((40, 80, 3), 90, np.uint8)
PAGE = np.full((80, 100, 3), 90, np.uint8)
PALETTE = {"stone": {"rgb": [126, 125, 124]}, "gold": {"rgb": [246, 208, 62]}}
CASES = json.loads(Path(__file__).parents[1].joinpath("drawing_cases.json").read_text(encoding="utf-8"))
"""`tests/client_js/overlay.test.mjs` runs the same cases through the browser's implementation."""

NONE: dict[str, Any] = {"tiles": [], "masks": [], "boxes": [], "points": [], "labels": []}
by_name = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])


@by_name
def test_the_shapes_of_a_result(case: dict[str, Any]) -> None:
    assert dataclasses.asdict(shapes_of(case["result"]).clipped(100, 80)) == NONE | case["shapes"]


@pytest.mark.filterwarnings("ignore:captions show some letters")  # as the fonts of the machine are
@by_name
def test_every_result_can_be_drawn(case: dict[str, Any]) -> None:
    drawn = draw_result(PAGE, case["result"])
    assert (drawn.shape, drawn.dtype) == (PAGE.shape, PAGE.dtype)
    assert (drawn != PAGE).any() == any(key != "masks" for key in case["shapes"])


@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), float("nan"), 10**400], ids=["inf", "-inf", "nan", "10**400"]
)
def test_numbers_that_json_does_not_have_are_no_coordinates(value: Any) -> None:
    result = {"found": [{"bbox": [0, 0, value, 5]}, {"x": value, "y": 1}, {"label": "cat", "confidence": value}]}
    assert dataclasses.asdict(shapes_of(result)) == NONE | {"labels": [{"caption": "cat", "color": COLORS[6]}]}
    draw_result(GRAY, result)


def test_a_result_has_at_most_5000_shapes() -> None:
    shapes = shapes_of({"points": [{"x": 1, "y": 2}] * 4000, "boxes": [{"bbox": [1, 2, 3, 4]}] * 4000})
    assert (len(shapes.points), len(shapes.boxes)) == (4000, 1000)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (300, 1, 3), (7, 9, 3)])
def test_pictures_smaller_than_their_captions(shape: tuple[int, int, int]) -> None:
    mask = fs.Mask(np.ones(shape[:2]), "mask").to_json()
    result = {
        "found": [{"label": "whole"}, {"bbox": [0, 0, 9, 9], "label": "box"}, {"x": 0, "y": 0, "label": "p"}, mask]
    }
    assert draw_result(np.full(shape, 90, np.uint8), result).shape == shape


def test_a_box_has_the_colour_of_its_label_and_a_caption_in_it() -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    drawn = draw_result(picture, {"faces": [{"label": "a", "bbox": [20, 40, 120, 100]}]})
    amber = [0xFB, 0xBF, 0x24]
    assert drawn[100, 60].tolist() == drawn[70, 20].tolist() == drawn[70, 120].tolist() == amber  # lower, left, right
    assert drawn[70, 60].tolist() == [90, 90, 90]
    caption = drawn[21:39, 19:34]
    assert caption[0, 0].tolist() == amber
    assert caption.min() < 40  # dark letters


def test_letters_that_are_not_ascii_differ_from_each_other() -> None:
    captions = [draw_result(PAGE, {"text": text})[15:33, 9:40] for text in ("ä", "д", "λ", "?", "→")]
    for index, one in enumerate(captions):
        assert all((one != other).any() for other in captions[:index])


def test_a_mask_is_tinted_and_labelled_at_its_corner() -> None:
    inside = np.zeros((120, 160), bool)
    inside[60:100, 80:150] = True
    picture = np.full((120, 160, 3), 90, np.uint8)
    drawn = draw_result(picture, {"ground": fs.Mask(inside, "road").to_json()})
    assert (drawn[70:100, 80:150] == drawn[80, 100]).all()
    assert drawn[80, 100].tolist() != [90, 90, 90]
    assert (drawn[41, 79:110] != 90).any()  # the caption stands on the corner
    without = draw_result(picture, {"ground": fs.Mask(inside).to_json()})
    assert (without[:60] == 90).all()


def test_a_mask_of_another_size_covers_the_whole_picture() -> None:
    drawn = draw_result(GRAY, {"all": fs.Mask(np.array([[0, 1]])).to_json()})
    assert (drawn[:, :40] == 90).all()
    assert (drawn[:, 40:] != 90).any(axis=2).all()


@pytest.mark.parametrize("png", ["", "no base64 ", "AA==", "iVBORw0KGgo=", "ä"])
def test_a_mask_that_is_no_picture_is_left_out(png: str) -> None:
    assert (draw_result(GRAY, {"found": [{"mask": png, "label": "sky"}]}) == 90).all()


def test_captions_do_not_cover_each_other() -> None:
    found = [{"label": "same", "bbox": [5, 30, 50, 70]}, {"label": "another", "bbox": [5, 30, 60, 75]}]
    both, first = draw_result(PAGE, {"found": found}), draw_result(PAGE, {"found": found[:1]})
    assert (both[:26] == first[:26]).all()
    assert (first[:26] != 90).any()


def test_a_grid_of_names_covers_the_picture_in_its_palettes_colours() -> None:
    drawn = draw_result(GRAY, {"block_map": [["stone", "gold"], ["gold", "lava"]], "palette": PALETTE})
    assert drawn[10, 20].tolist() == [126, 125, 124]
    assert drawn[10, 60].tolist() == drawn[30, 20].tolist() == [246, 208, 62]
    assert drawn[30, 60].tolist() == [90, 90, 90]  # its colour is not known
    assert drawn[10, 40].tolist() != drawn[10, 41].tolist()  # a seam
