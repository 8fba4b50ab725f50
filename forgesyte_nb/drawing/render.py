"""Shapes drawn over a picture: pixels in, pixels out. `server/page/overlay.js` draws the same in a browser."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from forgesyte_nb.drawing.fonts import length, main_font, runs_of
from forgesyte_nb.drawing.shapes import Box, Label, Mask, Point, Shapes, Tiles, shapes_of
from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame

Image8 = NDArray[np.uint8]
RGB = tuple[int, int, int]

DARK_RGB: RGB = (8, 17, 28)
_SMALLEST_TILE = 9  # pixels; between smaller ones a line would hide their colours
_SEAM_ALPHA = 0.14
_MASK_ALPHA = 115 / 255
_MOST_CAPTIONS = 120  # of each kind; more would hide the picture
_MOST_MASK_PIXELS = 100_000_000
_CAPTION_HEIGHT = 18

Captioned = TypeVar("Captioned", Label, Box, Point, Mask)


class Rect(NamedTuple):
    """A rectangle in pixels."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Rect) -> bool:
        """True if both have an area in common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def draw_result(image_rgb: Image8, result: Any) -> Image8:
    """A copy of a picture with the shapes of a result drawn over it.

    Args:
        image_rgb: `(H, W, 3)`, red first; the picture the result is about, in its own size.
        result: As the plugin returned it, in JSON's types. Whatever is no shape is left out.

    Returns:
        uint8 `(H, W, 3)`, red first.
    """
    drawn = np.array(image_rgb, np.uint8)
    height, width = drawn.shape[:2]
    shapes = shapes_of(result).clipped(width, height)
    for tiles in shapes.tiles:
        _draw_tiles(drawn, tiles)
    covered = [(mask, _tint(drawn, mask)) for mask in shapes.masks]
    for box in shapes.boxes:
        draw_box(drawn, {"x": box.x, "y": box.y, "width": box.width, "height": box.height}, 1.0, _rgb(box.color))
    for point in shapes.points:
        draw_point(drawn, (round(point.x), round(point.y)), _rgb(point.color))
    _draw_captions(drawn, shapes, covered)
    return drawn


def _draw_captions(image_rgb: Image8, shapes: Shapes, covered: list[tuple[Mask, tuple[int, int] | None]]) -> None:
    """Draw the captions of the picture, of boxes, of points, of masks, so far as they cover no other."""
    taken: list[Rect] = []

    def draw(shape: Label | Box | Point | Mask, x: float, y: float, words: Sequence[Rect] = ()) -> None:
        place = _caption_place(shape.caption, x, y, image_rgb.shape[1])
        if not any(map(place.overlaps, (*words, *taken))):
            taken.append(place)
            _draw_caption(image_rgb, shape.caption, place, _rgb(shape.color))

    for row, label in enumerate(_captioned(shapes.labels)):
        draw(label, 10, 34 + 24 * row)
    texts = [box for box in shapes.boxes if box.text][:_MOST_CAPTIONS]
    words = [Rect(box.x + 2, box.y + 2, box.width - 4, box.height - 4) for box in texts]
    for box in _captioned(shapes.boxes):
        # The words of a page stand close: a caption that would hide others is left out.
        draw(box, box.x, box.y, words if box.text else ())
    for point in _captioned(shapes.points):
        draw(point, point.x + 6, point.y - 2)
    corners_xy = {mask: corner_xy for mask, corner_xy in covered if corner_xy is not None}
    for mask in _captioned(list(corners_xy)):
        draw(mask, *corners_xy[mask])


def _captioned(shapes: list[Captioned]) -> list[Captioned]:
    return [shape for shape in shapes if shape.caption][:_MOST_CAPTIONS]


def _draw_tiles(image_rgb: Image8, tiles: Tiles) -> None:
    """Cover the picture with tiles, and a line between them where there is room for one; in place."""
    across, down = len(tiles.rows[0]), len(tiles.rows)
    colors = {name: (*_rgb(color), 255) for name, color in tiles.palette.items()}
    grid = np.array(
        [[colors[name] if name is not None else (0, 0, 0, 0) for name in row] for row in tiles.rows], np.uint8
    )
    height, width = image_rgb.shape[:2]
    scaled = cv2.resize(grid, (width, height), interpolation=cv2.INTER_NEAREST)
    inside = scaled[..., 3] > 0
    image_rgb[inside] = scaled[inside][:, :3]
    if min(width / across, height / down) < _SMALLEST_TILE:
        return
    for seam in (
        *(image_rgb[:, round(x * width / across)] for x in range(1, across)),
        *(image_rgb[round(y * height / down)] for y in range(1, down)),
    ):
        seam[:] = _mixed(seam, DARK_RGB, _SEAM_ALPHA)


def _tint(image_rgb: Image8, mask: Mask) -> tuple[int, int] | None:
    """Colour where a mask is set, in place.

    Returns:
        The upper left corner of what it covers, in pixels; None if it covers nothing, or is no image file.
    """
    try:
        encoded = Frame(base64.b64decode(mask.png, validate=True))
        wide, high = encoded.stored_size_wh
        if wide * high > _MOST_MASK_PIXELS:
            return None
        inside = np.amax(encoded.rgb, axis=2)
    except (ValueError, InvalidImage):
        return None
    rows, columns = np.flatnonzero(inside.max(axis=1)), np.flatnonzero(inside.max(axis=0))
    if not rows.size:
        return None
    height, width = image_rgb.shape[:2]
    corner_xy = int(columns[0]) * width // wide, int(rows[0]) * height // high
    if inside.shape != (height, width):
        inside = np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    chosen = inside > 0
    image_rgb[chosen] = _mixed(image_rgb[chosen], _rgb(mask.color), _MASK_ALPHA)
    return corner_xy


def corners(bbox: dict[str, Any], scale: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a `bbox` in a picture scaled by `scale`, in pixels."""
    left, top = bbox["x"] * scale, bbox["y"] * scale
    return round(left), round(top), round(left + bbox["width"] * scale), round(top + bbox["height"] * scale)


def draw_box(image_rgb: Image8, bbox: dict[str, Any], scale: float, colour_rgb: RGB) -> None:
    """A rectangle that can be seen on light and dark, in place; it lies in the picture."""
    left, top, right, bottom = corners(bbox, scale)
    height, width = image_rgb.shape[:2]
    first, last = (max(1, left), max(1, top)), (min(width - 2, right), min(height - 2, bottom))
    cv2.rectangle(image_rgb, first, last, DARK_RGB, 4, cv2.LINE_AA)
    cv2.rectangle(image_rgb, first, last, colour_rgb, 2, cv2.LINE_AA)


def draw_point(image_rgb: Image8, centre_xy: tuple[int, int], colour_rgb: RGB) -> None:
    """A dot that can be seen on light and dark, in place."""
    cv2.circle(image_rgb, centre_xy, 5, DARK_RGB, -1, cv2.LINE_AA)
    cv2.circle(image_rgb, centre_xy, 3, colour_rgb, -1, cv2.LINE_AA)


def draw_label(image_rgb: Image8, text: str, corner_xy: tuple[int, int]) -> None:
    """A text in white on a dark ground, above a corner or below it where there is no room, in place."""
    place = _caption_place(text, *corner_xy, image_rgb.shape[1])
    _draw_caption(image_rgb, text, place, DARK_RGB, (255, 255, 255))


def _caption_place(caption: str, x: float, y: float, limit: int) -> Rect:
    """Where a caption goes: standing on `y`, or hanging below it where there is no room above."""
    width = length(caption) + 10
    top = y - _CAPTION_HEIGHT - 1 if y >= _CAPTION_HEIGHT + 1 else y + 1
    return Rect(max(0, min(x - 1, limit - width)), top, width, _CAPTION_HEIGHT)


def _draw_caption(image_rgb: Image8, caption: str, place: Rect, colour_rgb: RGB, ink_rgb: RGB = DARK_RGB) -> None:
    """Draw it at its place, so far as that lies in the picture."""
    picture = Image.new("RGB", (round(place.width), _CAPTION_HEIGHT), colour_rgb)
    draw, left, (ascent, descent) = ImageDraw.Draw(picture), 5.0, main_font().getmetrics()
    for run, font in runs_of(caption):
        draw.text((left, (_CAPTION_HEIGHT + ascent - descent) / 2), run, ink_rgb, font, anchor="ls")
        left += font.getlength(run)
    x, y = round(place.x), round(place.y)
    covered = image_rgb[y : y + picture.height, x : x + picture.width]
    covered[:] = np.asarray(picture)[: covered.shape[0], : covered.shape[1]]


def _mixed(pixels_rgb: Image8, colour_rgb: RGB, alpha: float) -> Image8:
    return np.asarray((1 - alpha) * pixels_rgb + alpha * np.array(colour_rgb), np.uint8)


def _rgb(color: str) -> RGB:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
