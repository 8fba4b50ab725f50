"""Drawn moving shapes whose true places are known: for examples, tests and measuring a detector.

Deterministic: picture and truth are functions of the seed and the number alone, so any picture can be drawn
again, and its truth asked for, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.sources.base import Source, Take
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.plugins.results import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BACKGROUND = 40
_COLORS = ((230, 60, 60), (60, 200, 90), (70, 120, 240), (240, 200, 60), (200, 90, 220), (80, 220, 220))


@dataclass(frozen=True, slots=True)
class _Shape:
    """A rectangle or ellipse that moves straight and bounces off the edges; pixels, and pixels a picture."""

    label: str
    width: int
    height: int
    start_xy: tuple[float, float]
    speed_xy: tuple[float, float]
    color_rgb: tuple[int, int, int]

    def box(self, seq: int, size_wh: tuple[int, int]) -> Box:
        x = _bounce(self.start_xy[0] + self.speed_xy[0] * seq, size_wh[0] - self.width)
        y = _bounce(self.start_xy[1] + self.speed_xy[1] * seq, size_wh[1] - self.height)
        return Box(x, y, self.width, self.height, self.label)


class SyntheticSource(Source):
    """Moving shapes on a plain ground; `truth(seq)` gives their boxes. Made by `synthetic`."""

    name = "synthetic"

    def __init__(
        self, width: int, height: int, frames: int | None, shapes: int, seed: int, rate: float, **pace: Any
    ) -> None:
        """See `synthetic`."""
        super().__init__(**pace)
        if min(width, height) < 16 or shapes < 0:
            raise ValueError(f"{width}×{height} with {shapes} shapes: at least 16×16, and no negative number of shapes")
        self.size_wh = (width, height)
        self.length, self.fps = frames, rate
        self._shapes = _draw_lots(width, height, shapes, seed)

    def truth(self, seq: int) -> list[Box]:
        """Where the shapes are in picture `seq`; later ones lie on top of earlier ones."""
        return [shape.box(self._position(seq), self.size_wh) for shape in self._shapes]

    def image_rgb(self, seq: int) -> NDArray[np.uint8]:
        """Picture `seq`, uint8 `(H, W, 3)`."""
        import numpy as np

        width, height = self.size_wh
        image = np.full((height, width, 3), _BACKGROUND, np.uint8)
        for shape, box in zip(self._shapes, self.truth(seq), strict=True):
            x, y = int(box.x), int(box.y)
            area = image[y : y + shape.height, x : x + shape.width]
            if shape.label == "rectangle":
                area[:] = shape.color_rgb
            else:
                rows, columns = np.ogrid[-1 : 1 : shape.height * 1j, -1 : 1 : shape.width * 1j]
                area[rows**2 + columns**2 <= 1] = shape.color_rgb
        return image

    def _takes(self) -> Iterator[Take]:
        seq = 0
        while self.length is None or seq < self.length:
            yield self._take
            seq += 1

    def _take(self, seq: int) -> Frame:
        frame = Frame.from_array(self.image_rgb(seq), frame_id=f"{self.name}#{seq}", seq=seq)
        frame.time_s = self._position(seq) / self.fps if self.fps else None
        return frame

    def _position(self, seq: int) -> int:
        """A source that loops shows the same pictures again."""
        return seq % self.length if self.length else seq


@known_keywords()
def synthetic(
    width: int = 640,
    height: int = 480,
    frames: int | None = 300,
    shapes: int = 3,
    seed: int = 0,
    *,
    rate: float = 30.0,
    every: int = 1,
    loop: bool = False,
    fps: float | None = None,
) -> SyntheticSource:
    """Drawn moving shapes with known boxes.

    Args:
        width: Pixels.
        height: Pixels.
        frames: How many pictures; None for no end.
        shapes: How many rectangles and ellipses move in them.
        seed: Equal seeds draw equal pictures.
        rate: The pictures per second it claims.
        every: As in `open_source`.
        loop: As in `open_source`.
        fps: As in `open_source`.

    Returns:
        A `Source` with `truth(seq)`: the `Box`es of picture `seq`.

    Raises:
        ValueError: If it would be smaller than 16×16.
    """
    return SyntheticSource(width, height, frames, shapes, seed, rate, every=every, loop=loop, fps=fps)


def _draw_lots(width: int, height: int, count: int, seed: int) -> list[_Shape]:
    import random

    lots = random.Random(seed)  # noqa: S311 -- a picture, not a secret
    made = []
    for index in range(count):
        wide, high = lots.randint(width // 10, width // 4), lots.randint(height // 10, height // 4)
        made.append(
            _Shape(
                label="rectangle" if index % 2 == 0 else "ellipse",
                width=max(wide, 2),
                height=max(high, 2),
                start_xy=(lots.uniform(0, width - wide), lots.uniform(0, height - high)),
                speed_xy=(lots.uniform(-0.02, 0.02) * width, lots.uniform(-0.02, 0.02) * height),
                color_rgb=_COLORS[index % len(_COLORS)],
            )
        )
    return made


def _bounce(position: float, most: int) -> int:
    """A place on a line that runs back and forth between 0 and `most`."""
    if most <= 0:
        return 0
    around = position % (2 * most)
    return round(around if around <= most else 2 * most - around)
