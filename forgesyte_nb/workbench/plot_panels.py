"""Panels: axes with the series that share a unit. Curves over time or count, or histograms of their values.

`update` puts new points in and says whether anything changed that is drawn only then: limits, ticks, edges of bins.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.ticker import FixedFormatter, FixedLocator

from forgesyte_nb.workbench.plot_curves import (
    Limits,
    bin_edges,
    decimate,
    extent,
    isolated,
    round_ticks,
    steady_limits,
    tick_texts,
)
from forgesyte_nb.workbench.plot_header import put_text
from forgesyte_nb.workbench.plot_look import DPI, FONT_PT, THEMES, Place, plain
from forgesyte_nb.workbench.plot_points import Floats
from forgesyte_nb.workbench.plot_settings import Look

_TICK_PX = 22.0  # between the ticks of a vertical axis
_COLUMN_PX = 2.0  # the width of a line: finer columns would cost time and not be seen
_CHARACTER_PX, _TEXT_LINE_PX = 6.6, 14.0
_LINE_PT = 72 * _COLUMN_PX / DPI
_BOOLEAN_LIMITS = (-0.15, 1.15)


@dataclass(frozen=True, slots=True)
class Across:
    """The horizontal axis that curves share.

    Attributes:
        x: Of each point; grows without end, so that columns of pixels keep their points.
        shift: What is subtracted from it to draw it.
        limits: Of the axis, shifted.
        ticks: Where they are, shifted, and what they say.
    """

    x: Floats
    shift: float
    limits: Limits
    ticks: tuple[list[float], list[str]]


class Panel:
    """Axes of some series.

    Attributes:
        series: Their rows among all series of the plot.
        live: What is drawn with every picture.
        note: What is said of series without a curve; drawn with every picture, over all else.
    """

    def __init__(
        self, figure: Figure, place: Place, look: Look, series: Sequence[int], *, boolean: bool, animated: bool
    ) -> None:
        """Make empty axes."""
        self.series = tuple(series)
        self.live: list[Artist] = []
        self._boolean = boolean
        self._place = place
        self._columns = max(1.0, place.width / _COLUMN_PX)
        self._axes = explicit_axes(figure, place, look)
        self._look = look
        self.note = put_text(figure, 0.0, 0.0, "", THEMES[look.theme].faint)
        self.note.set(horizontalalignment="center", animated=animated, zorder=4)
        self.note.set_bbox(
            {"boxstyle": "square,pad=0.2", "facecolor": THEMES[look.theme].background, "edgecolor": "none",
             "linewidth": 0.0, "alpha": 0.8, "hatch": None}
        )  # fmt: skip
        self._x_limits: Limits | None = None
        self._y_limits: Limits | None = None

    def say(self, notes: Mapping[int, str]) -> None:
        """Say why series have no curve: in the middle if none has, else above the curves of the others.

        Args:
            notes: Sentences, by series; those of other panels are passed over.
        """
        said = [notes[row] for row in self.series if notes.get(row)]
        width = max(20, int(self._place.width * 0.9 / _CHARACTER_PX))
        most = max(1, int(self._place.height // _TEXT_LINE_PX))
        alone = len(said) == len(self.series)
        text = textwrap.fill("; ".join(dict.fromkeys(said)), width, max_lines=most, placeholder=" …")
        top = self._look.height - self._place.top
        self.note.set(
            text=text,
            visible=bool(text),
            x=(self._place.left + self._place.width / 2) / DPI,
            y=(top - self._place.height / 2 if alone else top - 2.0) / DPI,
            verticalalignment="center" if alone else "top",
        )

    def _across(self, limits: Limits, ticks: tuple[list[float], list[str]]) -> bool:
        if limits == self._x_limits:
            return False
        self._x_limits = limits
        self._axes.set_xlim(*limits)
        set_ticks(self._axes.xaxis, *ticks, vertical=False)
        return True

    def _up(self, limits: Limits) -> bool:
        if limits == self._y_limits:
            return False
        self._y_limits = limits
        self._axes.set_ylim(*limits)
        if limits == _BOOLEAN_LIMITS:
            set_ticks(self._axes.yaxis, [0.0, 1.0], ["false", "true"], vertical=True)
        else:
            ticks = round_ticks(limits, int(min(5, self._place.height // _TICK_PX)), inside=True)
            set_ticks(self._axes.yaxis, ticks, tick_texts(ticks), vertical=True)
        return True


class CurvePanel(Panel):
    """Values or running totals as lines; steps where a value holds until the next."""

    def __init__(
        self,
        figure: Figure,
        place: Place,
        look: Look,
        series: Sequence[int],
        *,
        boolean: bool,
        steps: bool,
        ticks_below: bool,
        animated: bool,
    ) -> None:
        """Make its lines."""
        super().__init__(figure, place, look, series, boolean=boolean, animated=animated)
        self._ticks_below = ticks_below
        self._lines: list[tuple[Line2D, Line2D]] = []
        for row in series:
            about: dict[str, Any] = {"color": THEMES[look.theme].series[row], "animated": animated, "zorder": 3}
            line = Line2D(
                [], [], linewidth=_LINE_PT, linestyle="-", marker="", drawstyle="steps-post" if steps else "default",
                solid_capstyle="butt", solid_joinstyle="bevel", **about,
            )  # fmt: skip
            dots = Line2D([], [], linestyle="none", marker="o", markersize=3.0, markeredgewidth=0.0, **about)
            self._lines.append((line, dots))
            self.live += [line, dots]
            self._axes.add_artist(line)
            self._axes.add_artist(dots)

    def update(self, across: Across, curves: Floats) -> bool:
        """Put new curves in.

        Args:
            across: Their horizontal axis.
            curves: Of all series of the plot, shape (series, n).
        """
        changed = self._across(across.limits, across.ticks if self._ticks_below else (across.ticks[0], [""] * 99))
        column = (across.limits[1] - across.limits[0]) / self._columns
        for row, (line, dots) in zip(self.series, self._lines, strict=True):
            x, y = decimate(across.x, curves[row], column)
            line.set_data(x - across.shift, y)
            alone = isolated(y)
            dots.set_data(x[alone] - across.shift, y[alone])
        found = extent(*(curves[row] for row in self.series))
        if self._boolean:
            return self._up(_BOOLEAN_LIMITS) or changed
        if found is not None:
            return self._up(steady_limits(found, self._y_limits)) or changed
        return changed


class HistogramPanel(Panel):
    """How often which value came."""

    def __init__(
        self, figure: Figure, place: Place, look: Look, series: Sequence[int], *, boolean: bool, animated: bool
    ) -> None:
        """Make its outlines."""
        super().__init__(figure, place, look, series, boolean=boolean, animated=animated)
        self._edges: Floats | None = None
        self._outlines = []
        for row in series:
            colour = THEMES[look.theme].series[row]
            outline = StepPatch(
                [0.0], [0.0, 1.0], baseline=0.0, fill=True, facecolor=to_rgba(colour, 0.3), edgecolor=to_rgba(colour),
                linewidth=_LINE_PT, linestyle="-", hatch=None, capstyle="butt", joinstyle="miter", animated=animated,
                zorder=3,
            )  # fmt: skip
            self._outlines.append(outline)
            self.live.append(outline)
            self._axes.add_artist(outline)

    def update(self, values: Floats) -> bool:
        """Count new values, of all series of the plot, shape (series, n)."""
        shown = values[list(self.series)]
        edges = bin_edges(shown.ravel(), self._edges, boolean=self._boolean)
        self._edges = edges
        limits = (float(edges[0]), float(edges[-1]))
        ticks = round_ticks(limits, max(2, int(self._place.width // 70)), inside=True)
        changed = self._across(limits, ([0.0, 1.0], ["false", "true"]) if self._boolean else (ticks, tick_texts(ticks)))
        highest = 0
        for outline, row in zip(self._outlines, shown, strict=True):
            counts, _ = np.histogram(row[np.isfinite(row)], edges)
            outline.set_data(counts, edges)
            highest = max(highest, int(counts.max()))
        return self._up(steady_limits((0.0, float(max(1, highest))), self._y_limits)) or changed


def explicit_axes(figure: Figure, place: Place, look: Look) -> Axes:
    """Axes whose every property is set here: what rcParams said while they were made does not show."""
    colours = THEMES[look.theme]
    axes = figure.add_axes(place.of_figure(look), frameon=True)
    axes.set_autoscale_on(False)
    axes.set_axisbelow(True)
    axes.minorticks_off()
    axes.set_facecolor(colours.background)
    axes.patch.set(edgecolor="none", linewidth=0.0, alpha=1.0)
    for name, spine in axes.spines.items():
        spine.set(visible=name == "bottom", color=colours.faint, linewidth=0.8, linestyle="-", alpha=1.0)
    for axis, sides in ((axes.xaxis, ("bottom", "top")), (axes.yaxis, ("left", "right"))):
        axis.set_tick_params(
            which="both", direction="out", length=0.0, width=0.8, color=colours.faint, pad=4.0,
            labelsize=FONT_PT, labelcolor=colours.faint, labelrotation=0.0, labelfontfamily="DejaVu Sans",
            grid_color=colours.grid, grid_alpha=1.0, grid_linewidth=0.8, grid_linestyle="-", zorder=1.0,
            **{sides[0]: True, sides[1]: False, f"label{sides[0]}": True, f"label{sides[1]}": False},
        )  # fmt: skip
    axes.grid(visible=False, which="both", axis="both")
    axes.grid(visible=True, which="major", axis="y")
    return axes


def set_ticks(axis: Axis, places: list[float], texts: list[str], *, vertical: bool) -> None:
    """Ticks at places, with texts; their artists are made here, so that none is made while drawing."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(texts))
    for tick in axis.get_major_ticks(len(places)):
        for artist in (tick.tick1line, tick.tick2line, tick.gridline, tick.label1, tick.label2):
            plain(artist)
        tick.label1.set(
            horizontalalignment="right" if vertical else "center",
            verticalalignment="center_baseline" if vertical else "top",
            rotation=0.0,
        )
