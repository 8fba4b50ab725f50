"""What can be set on a plot: fields, kind, window, size and theme; checked here, before anything is drawn.

Knows nothing of matplotlib, so that a plot can be made and steered without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from forgesyte_nb.workbench.plot_fields import Field, unit_of
from forgesyte_nb.workbench.plot_points import CAPACITY, Window

KINDS = ("lines", "histogram", "cumulative")
THEME_NAMES = ("light", "dark")

MOST_FIELDS = 8
"""In one plot: there are no more colours that everyone can tell apart."""

LEAST_SIZE, MOST_SIZE = (240, 120), (2400, 1200)
"""Width and height, in CSS pixels."""

MOST_SCALE = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """Size and theme of a picture.

    Attributes:
        width: In CSS pixels.
        height: In CSS pixels.
        scale: Pixels of the picture in one CSS pixel.
        theme: One of `THEME_NAMES`.
    """

    width: int = 600
    height: int = 300
    scale: float = 1.0
    theme: str = "light"


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """What a plot shows.

    Attributes:
        fields: Paths of its series.
        boolean: For each whether it is true or false.
        kind: One of `KINDS`.
        window: How much of the past.
    """

    fields: tuple[str, ...]
    boolean: tuple[bool, ...]
    kind: str
    window: Window

    def panels(self) -> list[tuple[tuple[int, ...], bool]]:
        """Series that share axes, because they share a unit; and whether they are booleans."""
        groups: dict[tuple[str, bool], list[int]] = {}
        for row, (path, boolean) in enumerate(zip(self.fields, self.boolean, strict=True)):
            apart = boolean and self.kind != "cumulative"
            groups.setdefault(("" if boolean else unit_of(path), apart), []).append(row)
        return [(tuple(rows), apart) for (_, apart), rows in groups.items()]


def checked_fields(paths: Any) -> list[Field]:
    """Fields of some paths.

    Raises:
        ValueError: If there are none, too many, or one twice.
    """
    if not isinstance(paths, Sequence) or isinstance(paths, str) or not paths:
        raise ValueError(f"fields are a list of paths, such as ['result.confidence', 'latency_ms'], not {paths!r}")
    if len(paths) > MOST_FIELDS:
        raise ValueError(
            f"{len(paths)} fields are too many for one plot, which takes {MOST_FIELDS}; make a second plot"
        )
    fields = [Field(path) for path in paths]
    twice = [path for path in paths if list(paths).count(path) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice; name each field once")
    return fields


def checked_window(value: Any) -> Window:
    """A window of {"seconds": s}, {"count": n} or None.

    Raises:
        ValueError: If it is none.
    """
    given = {} if value is None else value
    if isinstance(given, dict) and set(given) <= {"seconds", "count"} and bool not in map(type, given.values()):
        seconds, count = given.get("seconds"), given.get("count")
        if seconds is None and count is None:
            return Window()
        if count is None and isinstance(seconds, (int, float)) and 0.1 <= seconds <= 1e7:
            return Window(seconds=float(seconds))
        if seconds is None and isinstance(count, int) and 2 <= count <= CAPACITY:
            return Window(count=count)
    raise ValueError(
        f"{value!r} is no window; give {{'seconds': 30}} (at least 0.1), {{'count': 200}} (2 to {CAPACITY:,}), "
        "or null for everything that is kept"
    )


def checked_look(look: Look, *, theme: Any = None, size: Any = None) -> Look:
    """A look with another theme or size; a size out of bounds becomes the nearest within.

    Raises:
        ValueError: If there is no such theme, or the size is none.
    """
    if theme is not None:
        if theme not in THEME_NAMES:
            raise ValueError(f"there is no theme {theme!r}; there are {', '.join(THEME_NAMES)}")
        look = replace(look, theme=theme)
    if size is None:
        return look
    if not isinstance(size, dict) or not all(_is_number(size.get(key)) for key in ("width", "height")):
        raise ValueError(
            f"{size!r} is no size; give {{'width': 600, 'height': 300}} in CSS pixels, and 'scale' if not 1"
        )
    scale = size.get("scale", 1.0)
    if not _is_number(scale):
        raise ValueError(f"{scale!r} is no scale; give pixels of the picture in one CSS pixel, 1 to {MOST_SCALE:g}")
    width, height = (
        int(min(max(size[key], least), most))
        for key, least, most in zip(("width", "height"), LEAST_SIZE, MOST_SIZE, strict=True)
    )
    return replace(look, width=width, height=height, scale=float(min(max(scale, 1.0), MOST_SCALE)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
