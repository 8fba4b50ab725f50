"""A plugin's result drawn over its picture, in Python: for snapshots, saved notebooks and reports.

Finds in any result what has the fields of a Box, Text, Mask, Keypoint or Label (`plugins/results.py`), wherever
it stands, and a grid of names with a palette of their colours, as `overlay.js` does in a browser. Pixels in, pixels
out; nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]
RGB = tuple[int, int, int]

COLOURS_RGB: tuple[RGB, ...] = (
    (45, 212, 191),
    (251, 191, 36),
    (244, 114, 182),
    (96, 165, 250),
    (163, 230, 53),
    (251, 146, 60),
    (192, 132, 252),
    (248, 113, 113),
)
"""Of boxes, by label: the same label has the same colour in every picture."""

DARK_RGB: RGB = (12, 18, 26)
MOST_SHAPES = 5000
MOST_CAPTIONS = 120
_DEEPEST = 6


def draw_result(image_rgb: Image8, result: dict[str, Any]) -> Image8:
    """A copy of a picture with the shapes of a result drawn over it.

    Args:
        image_rgb: `(H, W, 3)`, red first; the picture the result is about, in its own size.
        result: As the plugin returned it, in JSON's types.

    Returns:
        uint8 `(H, W, 3)`, red first.
    """
    drawn = np.array(image_rgb, np.uint8)
    _tile(drawn, result)
    captions: list[tuple[str, tuple[int, int]]] = []
    rows = 0
    for shape in _shapes(result):
        colour_rgb = _colour(str(shape.get("label", "")))
        if "mask" in shape:
            _tint(drawn, shape["mask"], colour_rgb)
        elif "bbox" in shape:
            draw_box(drawn, shape["bbox"], 1.0, colour_rgb)
            captions.append((_caption(shape), (round(shape["bbox"]["x"]), round(shape["bbox"]["y"]))))
        elif "x" in shape:
            centre = (round(shape["x"]), round(shape["y"]))
            cv2.circle(drawn, centre, 5, DARK_RGB, -1, cv2.LINE_AA)
            cv2.circle(drawn, centre, 3, colour_rgb, -1, cv2.LINE_AA)
        else:
            rows += 1
            captions.append((_caption(shape), (8, 26 * rows)))
    for text, corner_xy in [caption for caption in captions if caption[0]][:MOST_CAPTIONS]:
        draw_label(drawn, text, corner_xy)
    return drawn


def _tile(image_rgb: Image8, result: dict[str, Any]) -> None:
    """Cover the picture with the tiles of a grid of names, in the colours of the result's palette; in place."""
    palette = result.get("palette")
    colours = {name: _colour_of(entry) for name, entry in palette.items()} if isinstance(palette, dict) else {}
    rows = next((value for value in result.values() if _is_grid(value, colours)), None)
    if rows is None:
        return
    grid = np.zeros((len(rows), len(rows[0]), 4), np.uint8)
    for y, row in enumerate(rows):
        for x, name in enumerate(row[: len(rows[0])]):
            colour_rgb = colours.get(name)
            if colour_rgb is not None:
                grid[y, x] = (*colour_rgb, 255)
    height, width = image_rgb.shape[:2]
    tiles = cv2.resize(grid, (width, height), interpolation=cv2.INTER_NEAREST)
    image_rgb[tiles[..., 3] > 0] = tiles[tiles[..., 3] > 0][:, :3]


def _is_grid(value: Any, colours: dict[str, RGB | None]) -> bool:
    rows = isinstance(value, list) and value and isinstance(value[0], list) and value[0]
    return bool(rows) and isinstance(value[0][0], str) and colours.get(value[0][0]) is not None


def _colour_of(entry: Any) -> RGB | None:
    rgb = entry.get("rgb") if isinstance(entry, dict) else None
    if not (isinstance(rgb, list) and len(rgb) == 3 and all(_is_number(channel) for channel in rgb)):
        return None
    red, green, blue = (min(255, max(0, round(channel))) for channel in rgb)
    return red, green, blue


def _shapes(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Masks first, so that lines stand on them."""
    found: list[dict[str, Any]] = []
    _collect(result, found, 0)
    yield from (shape for shape in found if "mask" in shape)
    yield from (shape for shape in found if "mask" not in shape)


def _collect(thing: Any, found: list[dict[str, Any]], depth: int) -> None:
    if depth > _DEEPEST or len(found) >= MOST_SHAPES:
        return
    if isinstance(thing, list):
        for item in thing if thing and isinstance(thing[0], (dict, list)) else ():
            _collect(item, found, depth + 1)
    elif isinstance(thing, dict):
        shape = _is_shape(thing, depth)
        if shape:
            found.append(thing)
        for value in thing.values():
            # A point inside a shape, such as the `center` of a box, says nothing new; a list of them does.
            if not shape or isinstance(value, list):
                _collect(value, found, depth + 1)


def _is_shape(thing: dict[str, Any], depth: int) -> bool:
    if _is_rectangle(thing.get("bbox")) or isinstance(thing.get("mask"), str):
        return True
    if _is_rectangle(thing):
        return False
    if _is_number(thing.get("x")) and _is_number(thing.get("y")):
        return True
    return isinstance(thing.get("label"), str) and (depth > 0 or len(thing) <= 2)


def _is_rectangle(thing: Any) -> bool:
    return isinstance(thing, dict) and all(_is_number(thing.get(name)) for name in ("x", "y", "width", "height"))


def _is_number(thing: Any) -> bool:
    return isinstance(thing, (int, float)) and not isinstance(thing, bool)


def _caption(shape: dict[str, Any]) -> str:
    text = shape.get("text")
    if isinstance(text, str):
        return text[:60]
    confidence = shape.get("confidence")
    parts = [str(shape.get("label") or ""), f"{confidence:.2f}" if _is_number(confidence) else ""]
    return " ".join(part for part in parts if part)[:60]


def _colour(label: str) -> RGB:
    return COLOURS_RGB[zlib.crc32(label.encode()) % len(COLOURS_RGB)] if label else COLOURS_RGB[0]


def _tint(image_rgb: Image8, mask_png: str, colour_rgb: RGB) -> None:
    """Colour where a mask is set; what is no mask of a picture is left out."""
    try:
        encoded = np.frombuffer(base64.b64decode(mask_png, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        return
    mask = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if encoded.size else None
    if mask is None:
        return
    height, width = image_rgb.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    chosen = mask > 0
    image_rgb[chosen] = (0.55 * image_rgb[chosen] + 0.45 * np.array(colour_rgb)).astype(np.uint8)


def corners(bbox: dict[str, Any], scale: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a `bbox` in a picture scaled by `scale`, in pixels."""
    left, top = bbox["x"] * scale, bbox["y"] * scale
    return round(left), round(top), round(left + bbox["width"] * scale), round(top + bbox["height"] * scale)


def draw_box(image_rgb: Image8, bbox: dict[str, Any], scale: float, colour_rgb: RGB) -> None:
    """A rectangle that can be seen on light and dark, in place."""
    left, top, right, bottom = corners(bbox, scale)
    height, width = image_rgb.shape[:2]
    first, last = (max(1, left), max(1, top)), (min(width - 2, right), min(height - 2, bottom))
    cv2.rectangle(image_rgb, first, last, DARK_RGB, 4, cv2.LINE_AA)
    cv2.rectangle(image_rgb, first, last, colour_rgb, 2, cv2.LINE_AA)


def draw_label(image_rgb: Image8, text: str, corner_xy: tuple[int, int]) -> None:
    """A text on a dark ground, above a corner or below it where there is no room, in place."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's fonts have nothing else
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    left = max(0, min(corner_xy[0], image_rgb.shape[1] - width - 10))
    top = corner_xy[1] - height - 10
    top = top if top >= 0 else corner_xy[1]
    cv2.rectangle(image_rgb, (left, top), (left + width + 10, top + height + 10), DARK_RGB, -1)
    origin = (left + 5, top + height + 5)
    cv2.putText(image_rgb, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
