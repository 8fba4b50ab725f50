"""What the plugins found, drawn into the pictures they found it in: from results to JPEG files, nothing else."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from forgesyte_nb.client.results import Result
from forgesyte_nb.drawing.render import DARK_RGB, RGB, Image8, corners, draw_box, draw_label, draw_point
from forgesyte_nb.image.frame import Frame

MOTION_RGB: RGB = (255, 176, 32)
FACE_RGB: RGB = (45, 212, 191)
WORD_RGB: RGB = (14, 116, 144)
_QUALITY = 86
_SHEET_FRAMES, _SHEET_COLUMNS, _SHEET_WIDTH = 12, 4, 320


def motion_sheet(results: Sequence[Result]) -> bytes:
    """Frames from the whole clip, evenly spaced, with their boxes and numbers, on one sheet."""
    chosen = [results[index] for index in np.linspace(0, len(results) - 1, _SHEET_FRAMES).round().astype(int)]
    tiles = []
    for result in chosen:
        image_rgb, scale = enlarged(frame_of(result), _SHEET_WIDTH)
        for block in result["blocks"]:
            draw_box(image_rgb, block["bbox"], scale, MOTION_RGB)
        draw_label(image_rgb, f"{result.seq}", (0, image_rgb.shape[0]))
        tiles.append(image_rgb)
    gap = 6
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // _SHEET_COLUMNS)
    sheet = np.full((rows * (height + gap) - gap, _SHEET_COLUMNS * (width + gap) - gap, 3), DARK_RGB, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (height + gap) * (index // _SHEET_COLUMNS), (width + gap) * (index % _SHEET_COLUMNS)
        sheet[top : top + height, left : left + width] = tile
    return jpeg(sheet)


def faces(result: Result) -> bytes:
    """A photograph with a box, a confidence and five points for each face."""
    image_rgb, scale = enlarged(frame_of(result), 560)
    for block in result["blocks"]:
        draw_box(image_rgb, block["bbox"], scale, FACE_RGB)
        for point in block["landmarks"]:
            centre = (round(point["x"] * scale), round(point["y"] * scale))
            draw_point(image_rgb, centre, FACE_RGB)
        corner = (round(block["bbox"]["x"] * scale), round(block["bbox"]["y"] * scale))
        draw_label(image_rgb, f"face {block['confidence']:.2f}", corner)
    return jpeg(image_rgb)


def words(result: Result) -> bytes:
    """A page with a box around each word that was read."""
    image_rgb, scale = enlarged(frame_of(result), 760)
    tint = image_rgb.copy()
    for block in result["blocks"]:
        left, top, right, bottom = corners(block["bbox"], scale)
        cv2.rectangle(tint, (left, top), (right, bottom), WORD_RGB, -1)
    image_rgb = np.asarray(cv2.addWeighted(tint, 0.2, image_rgb, 0.8, 0), np.uint8)
    for block in result["blocks"]:
        left, top, right, bottom = corners(block["bbox"], scale)
        cv2.rectangle(image_rgb, (left, top), (right, bottom), WORD_RGB, 1, cv2.LINE_AA)
    return jpeg(image_rgb)


def blocks(result: Result) -> bytes:
    """The plan of a picture in blocks, each in its colour, with joints between them."""
    palette = {name: entry["rgb"] for name, entry in result["palette"].items()}
    plan = np.array([[palette[name] for name in row] for row in result["block_map"]], np.uint8)
    side = 8
    image_rgb = plan.repeat(side, axis=0).repeat(side, axis=1)
    for joint in (image_rgb[side - 1 :: side], image_rgb[:, side - 1 :: side]):
        joint[:] = (joint * 0.82).astype(np.uint8)
    return jpeg(image_rgb)


def plain(frame: Frame, width: int) -> bytes:
    """The picture itself."""
    return jpeg(enlarged(frame, width)[0])


def frame_of(result: Result) -> Frame:
    """The picture that was sent.

    Raises:
        TypeError: If it was none.
    """
    if not isinstance(result.frame, Frame):
        raise TypeError(f"{result.name} is no picture")
    return result.frame


def enlarged(frame: Frame, width: int) -> tuple[Image8, float]:
    """A copy, scaled to a width in pixels, and by how much."""
    # Pillow, since OpenCV's PNG reader complains on stderr of a colour profile in one of the photographs.
    with Image.open(io.BytesIO(frame.bytes)) as picture:
        scale = width / picture.width
        size_wh = (width, round(picture.height * scale))
        return np.array(picture.convert("RGB").resize(size_wh, Image.Resampling.LANCZOS)), scale


def jpeg(image_rgb: Image8) -> bytes:
    """The picture as a JPEG file."""
    _, encoded = cv2.imencode(".jpg", image_rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(encoded)
