"""How plots look: themes, colours, fonts and where the panels lie, so that nothing is left to matplotlib's rcParams.

rcParams belong to the notebook's cells and change at any moment, also while the drawing thread draws; `rc_context`
would undo what a cell sets meanwhile. So every property of every artist is set explicitly, after it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from forgesyte_nb.workbench.plot_settings import Look

DPI = 100
FONT_PT = 8.0
HEADER_PX = 17
"""Height of a row of names and values."""

ABOVE_TICKS_PX = 7
"""Room between names and the number at the top of an axis under them."""

# Okabe and Ito, "Color Universal Design" (2008), as in Wong, "Points of view: color blindness", Nature Methods 8:441
# (2011); in each theme those first that stand out from its background.
_BLUE, _VERMILLION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_ORANGE, _SKY, _YELLOW, _BLACK, _WHITE = "#E69F00", "#56B4E9", "#F0E442", "#000000", "#FFFFFF"


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a plot, as "#RRGGBB"."""

    background: str
    text: str
    faint: str
    grid: str
    series: tuple[str, ...]


THEMES = {
    "light": Theme(
        "#FFFFFF", "#1A1A1A", "#5F5F5F", "#DEDEDE",
        (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, _BLACK, _YELLOW),
    ),
    "dark": Theme(
        "#111111", "#F0F0F0", "#A6A6A6", "#333333",
        (_SKY, _ORANGE, _GREEN, _PURPLE, _YELLOW, _VERMILLION, _WHITE, _BLUE),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel lies, in CSS pixels from the top left corner: its axes, and the row of names above them."""

    left: float
    top: float
    width: float
    height: float

    def of_figure(self, look: Look) -> tuple[float, float, float, float]:
        """Left, bottom, width, height as shares of the figure."""
        bottom = look.height - self.top - self.height
        return self.left / look.width, bottom / look.height, self.width / look.width, self.height / look.height


_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX, _BETWEEN_PX = 52, 20, 5, 22, 6
_LEAST_PX = 10


def rows_of_panels(look: Look, header_rows: Sequence[int], weights: Sequence[float]) -> list[Place]:
    """Panels one below the other, sharing the horizontal axis.

    Args:
        look: Size of the picture.
        header_rows: Rows of names above each.
        weights: Relative heights.
    """
    taken = sum(header_rows) * HEADER_PX + _TOP_PX + _BOTTOM_PX + _BETWEEN_PX * (len(weights) - 1)
    free, width = look.height - taken, panel_width(look)
    places, top = [], float(_TOP_PX)
    for rows, weight in zip(header_rows, weights, strict=True):
        height = max(_LEAST_PX, free * weight / sum(weights))
        top += rows * HEADER_PX
        places.append(Place(_LEFT_PX, top, width, height))
        top += height + _BETWEEN_PX
    return places


def panel_width(look: Look, columns: int = 1) -> float:
    """Width of a panel's axes, in CSS pixels."""
    return look.width / columns - _LEFT_PX - _RIGHT_PX


def columns_of_panels(look: Look, header_rows: Sequence[int]) -> list[Place]:
    """Panels side by side, each with a horizontal axis of its own."""
    each = look.width / len(header_rows)
    top = _TOP_PX + max(header_rows) * HEADER_PX + ABOVE_TICKS_PX
    height = max(_LEAST_PX, look.height - top - _BOTTOM_PX)
    return [
        Place(index * each + _LEFT_PX, top, panel_width(look, len(header_rows)), height)
        for index in range(len(header_rows))
    ]


def font(size_pt: float = FONT_PT) -> FontProperties:
    """The font of all texts, from the file that matplotlib brings, so that no look-up by name happens."""
    return FontProperties(
        family="DejaVu Sans",
        style="normal",
        variant="normal",
        weight="normal",
        stretch="normal",
        size=size_pt,
        fname=str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"),
        math_fontfamily="dejavusans",
    )


def plain(artist: Artist) -> None:
    """Take out what rcParams may have put into an artist when it was made: sketch lines, effects, TeX, mathtext."""
    artist.set_sketch_params(None)
    artist.set_path_effects([])
    if isinstance(artist, Text):
        artist.set_fontproperties(font())
        artist.set_usetex(False)
        artist.set_parse_math(False)
        artist.set_antialiased(True)
    elif isinstance(artist, Line2D):
        artist.set_antialiased(True)
        artist.set_solid_capstyle("butt")
        artist.set_solid_joinstyle("bevel")
    elif isinstance(artist, Patch):
        artist.set_antialiased(True)
        artist.set_linestyle("-")
