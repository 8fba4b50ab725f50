"""The shapes in a plugin's result: the rules of drawing, for Python and for the browser.

`server/page/shapes.js` implements the same rules; `tests/drawing_cases.json` holds both to them.

| an object in the result | is drawn as |
|---|---|
| has a rectangle as `bbox`, `box`, `bbox_xyxy` or `bbox_xywh`, or is one itself | a box |
| has numbers `x` and `y` | a point |
| has a text `mask`, an image file in base64, zero outside | a mask over the whole picture, beside a box or point |
| has a `label` or `text`, and none of the above | a label of the picture, in its upper left corner |
| is the result, with a list of lists of names whose `rgb` is in `palette` | tiles over the whole picture |

- A rectangle is an object with `x, y, width, height`, `x, y, w, h`, `x0, y0, x1, y1`, `x1, y1, x2, y2`,
  `xmin, ymin, xmax, ymax` or `left, top, right, bottom`, or a list of four numbers: two corners; in `bbox_xywh` one
  corner and the size. A negative size makes it invalid.
- Numbers are finite. Boxes are cut at the edges of the picture; boxes and points outside are left out.
- The caption is `text`, else `label` and `confidence`, in one line of at most 60 characters. A label may be a whole
  number. `name` replaces a missing `label` where there is a place, `score` a missing `confidence`.
- A caption stands on the corner of its box, beside its point, or on the upper left corner of what its mask covers.
  The colour depends on the label alone.
- Objects are found at any place, 6 levels deep, at most 5000. In an object that has a place only lists are searched,
  since the `center` of a box repeats the box. A result that is itself a label or text has at most two fields; an
  object with a `text` alone has no lists and objects in it.
- Order: tiles, masks, boxes, points, then captions of the picture, of boxes, of points, of masks. A caption that would
  cover another one is left out, as is the caption of a text that would cover the place of another text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

COLORS = ("#2dd4bf", "#fbbf24", "#f472b6", "#60a5fa", "#a3e635", "#fb923c", "#c084fc", "#f87171")
_MOST_SHAPES = 5000
_DEEPEST = 6
_MOST_CHARACTERS = 60  # of a caption
_MOST_SCANNED = 3000  # characters of a text
_MOST_CONFIDENCE = 1e6
_LARGEST_INTEGER = 2**53 - 1  # that JavaScript tells from its neighbours
_BOX_FIELDS = ("bbox", "box", "bbox_xyxy", "bbox_xywh")
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile("[\\0-\u0020\u007f-\u00a0\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Tiles:
    """A grid over the whole picture: rows of equal length, of names in `palette`; None stays clear."""

    rows: list[list[str | None]]
    palette: dict[str, str]


@dataclass(frozen=True, slots=True)
class Mask:
    """A region; `png` is an image file in base64, zero outside."""

    png: str
    caption: str
    color: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; `text` is True if the caption is what is written there."""

    x: float
    y: float
    width: float
    height: float
    caption: str
    color: str
    text: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A point in pixels."""

    x: float
    y: float
    caption: str
    color: str


@dataclass(frozen=True, slots=True)
class Label:
    """A label or text of the whole picture."""

    caption: str
    color: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """All shapes of a result. Colours are "#rrggbb"; a caption may be empty, that of a `Label` is not."""

    tiles: list[Tiles] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of shapes, without tiles."""
        return len(self.masks) + len(self.boxes) + len(self.points) + len(self.labels)

    def clipped(self, width: int, height: int) -> Shapes:
        """What lies in a picture of this size: boxes cut at its edges, points outside left out."""
        boxes = []
        for box in self.boxes:
            x, y = max(0, box.x), max(0, box.y)
            right, bottom = min(width, box.x + box.width), min(height, box.y + box.height)
            if right >= x and bottom >= y:
                boxes.append(replace(box, x=x, y=y, width=right - x, height=bottom - y))
        points = [point for point in self.points if 0 <= point.x <= width and 0 <= point.y <= height]
        return replace(self, boxes=boxes, points=points)


def shapes_of(result: Any) -> Shapes:
    """The shapes of a result, in JSON's types."""
    shapes = Shapes(tiles=_tiles_of(result))
    _collect(result, shapes, 0)
    return shapes


def _collect(found: Any, shapes: Shapes, depth: int) -> None:
    if depth > _DEEPEST:
        return
    if isinstance(found, list):
        # A list of numbers or names is not worth a walk.
        if found and (found[0] is None or isinstance(found[0], (dict, list))):
            for item in found:
                _collect(item, shapes, depth + 1)
    elif isinstance(found, dict) and shapes.count < _MOST_SHAPES:
        has_place = _add_shape(found, shapes, depth)
        for value in found.values():
            # A point inside a shape, such as the `center` of a box, repeats the shape; a list of points does not.
            if not has_place or isinstance(value, list):
                _collect(value, shapes, depth + 1)


def _add_shape(found: dict[str, Any], shapes: Shapes, depth: int) -> bool:
    """Add the shape that an object describes; True if it has a place in the picture."""
    box, x, y = _box_of(found), _number(found.get("x")), _number(found.get("y"))
    mask, text = found.get("mask"), found.get("text")
    has_place = box is not None or (x is not None and y is not None) or isinstance(mask, str)
    label = _label_of(found.get("label")) or (_label_of(found.get("name")) if has_place else "")
    caption = _cut(text if isinstance(text, str) else _caption_of(label, found))
    color = _color_of(label)
    if box is not None:
        shapes.boxes.append(Box(*box, caption, color, isinstance(text, str)))
    elif x is not None and y is not None:
        shapes.points.append(Point(x, y, caption, color))
    elif has_place:
        shapes.masks.append(Mask(str(mask), caption, color))
        return True
    elif caption and _is_label(found, label, depth):
        shapes.labels.append(Label(caption, color))
    if isinstance(mask, str):
        shapes.masks.append(Mask(mask, "", color))
    return has_place


def _is_label(found: dict[str, Any], label: str, depth: int) -> bool:
    """True for a label or text of the whole picture, False for a result or part of one that has other fields."""
    if depth == 0 and len(found) > 2:
        return False
    if label:
        return True
    return isinstance(found.get("text"), str) and not any(isinstance(value, (dict, list)) for value in found.values())


Rectangle = tuple[float, float, float, float]
"""`x`, `y`, `width`, `height`."""


def _box_of(found: dict[str, Any]) -> Rectangle | None:
    for name in _BOX_FIELDS:
        value = found.get(name)
        corners = name != "bbox_xywh"
        box = _rectangle(value, corners=corners) if isinstance(value, list) else _rectangle_in(value)
        if box is not None:
            return box
    return _rectangle_in(found)


def _rectangle_in(found: Any) -> Rectangle | None:
    if not isinstance(found, dict):
        return None
    for forms, corners in ((_SIZES, False), (_CORNERS, True)):
        for names in forms:
            box = _rectangle([found.get(name) for name in names], corners=corners)
            if box is not None:
                return box
    return None


def _rectangle(values: list[Any], *, corners: bool) -> Rectangle | None:
    if len(values) != 4:
        return None
    x, y, third, fourth = (_number(value) for value in values)
    if x is None or y is None or third is None or fourth is None:
        return None
    width, height = (third - x, fourth - y) if corners else (third, fourth)
    return (x, y, width, height) if width >= 0 and height >= 0 else None


def _number(value: Any) -> float | None:
    """A finite number as a float, as JavaScript reads it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _label_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    number = _number(value)
    return str(int(number)) if number is not None and number.is_integer() and abs(number) <= _LARGEST_INTEGER else ""


def _caption_of(label: str, found: dict[str, Any]) -> str:
    sure = _number(found.get("confidence"))
    if sure is None:
        sure = _number(found.get("score"))
    shown = sure is not None and abs(sure) <= _MOST_CONFIDENCE
    # Halves are rounded up, as by JavaScript's toFixed; there is no minus zero.
    part = str(Decimal((sure or 0.0) + 0.0).quantize(Decimal("0.01"), ROUND_HALF_UP)) if shown else ""
    return " ".join(filter(None, (label, part)))


def _cut(text: str) -> str:
    """One line of valid text."""
    # Of a long text only the beginning is looked at.
    line = _SPACE.sub(" ", _SURROGATE.sub("\ufffd", text[:_MOST_SCANNED])).strip(" ")
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"


def _color_of(label: str) -> str:
    """The same label has the same colour in every picture."""
    hashed = 0
    for character in label:
        hashed = (hashed * 31 + ord(character)) & 0xFFFFFFFF
    return COLORS[hashed % len(COLORS)]


def _tiles_of(result: Any) -> list[Tiles]:
    palette = result.get("palette") if isinstance(result, dict) else None
    if not isinstance(palette, dict):
        return []
    colors = {name: color for name, entry in palette.items() if (color := _hex_of(entry)) is not None}

    def known(name: Any) -> str | None:
        return name if isinstance(name, str) and name in colors else None

    for grid in result.values():
        if isinstance(grid, list) and grid and isinstance(grid[0], list) and grid[0] and known(grid[0][0]) is not None:
            width = len(grid[0])
            named = [[known(name) for name in row[:width]] if isinstance(row, list) else [] for row in grid]
            return [Tiles([row + [None] * (width - len(row)) for row in named], colors)]
    return []


def _hex_of(entry: Any) -> str | None:
    rgb = entry.get("rgb") if isinstance(entry, dict) else None
    if not isinstance(rgb, list) or len(rgb) != 3:
        return None
    channels = [_number(channel) for channel in rgb]
    if None in channels:
        return None
    return "#" + "".join(f"{min(255, max(0, round(channel))):02x}" for channel in channels if channel is not None)
