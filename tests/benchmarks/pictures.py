"""The pictures that are sent: textured 640×480 JPEGs of about 47 KB, and larger ones of the same texture.

All are made from photographs in the scikit-image wheel, so every machine sends the same bytes. A picture of k times
the area is cut from the same mosaic at the same scale, so its file is about k times as large.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

BASE_WH = (640, 480)
JPEG_BYTES = 47_000
"""Size aimed at for 640×480; the quality that comes nearest is used for all sizes."""


def size_wh(area: int) -> tuple[int, int]:
    """Width and height of a picture of `area` times the base's area, in pixels."""
    side = math.sqrt(area)
    return round(BASE_WH[0] * side), round(BASE_WH[1] * side)


@functools.cache
def _mosaic() -> NDArray[np.uint8]:
    """BGR `(2048, 2048, 3)`: a photograph and its mirror images."""
    from skimage import data

    photograph = cv2.resize(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), (1024, 1024))
    row = np.hstack((photograph, photograph[:, ::-1]))
    return np.vstack((row, row[::-1]))


def _crop(area: int, shift: int = 0) -> NDArray[np.uint8]:
    width, height = size_wh(area)
    return np.ascontiguousarray(_mosaic()[shift : shift + height, shift : shift + width])


@functools.cache
def _quality() -> int:
    sizes = {quality: len(_jpeg(_crop(1), quality)) for quality in range(50, 100)}
    return min(sizes, key=lambda quality: abs(sizes[quality] - JPEG_BYTES))


def _jpeg(image_bgr: NDArray[np.uint8], quality: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


@functools.cache
def stills(area: int = 1) -> list[bytes]:
    """Eight different JPEGs."""
    return [_jpeg(_crop(area, shift), _quality()) for shift in range(0, 64, 8)]


@functools.cache
def walk(area: int = 1) -> list[bytes]:
    """Sixteen JPEGs of a scene that stands still but for two things that move through it, back and forth."""
    width, height = size_wh(area)
    scene, steps = _crop(area), 8
    side = height // 6
    there = []
    for step in range(steps):
        picture = scene.copy()
        x = (width - side) * step // (steps - 1)
        picture[height // 4 : height // 4 + side, x : x + side] = (40, 60, 220)
        picture[height // 2 : height // 2 + side, width - side - x : width - x] = (210, 200, 60)
        there.append(_jpeg(picture, _quality()))
    return there + there[::-1]


@functools.cache
def page(area: int = 1) -> list[bytes]:
    """A photographed page of print as a PNG; `area` enlarges it."""
    from skimage import data

    side = math.sqrt(area)
    picture = cv2.resize(data.page(), None, fx=side, fy=side, interpolation=cv2.INTER_CUBIC)
    _, encoded = cv2.imencode(".png", picture)
    return [encoded.tobytes()]
