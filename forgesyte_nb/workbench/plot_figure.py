"""The figure of a plot, live or for keeps: one way to build it, one look.

Live, the axes, ticks and names are drawn once and kept as pixels; with every picture only the curves and the last
values are drawn over them (blitting), as an RGBA array. For keeps, it is a `matplotlib.figure.Figure` like any other,
unknown to pyplot.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from forgesyte_nb.workbench.plot_curves import Limits, round_ticks, short_number, steady_limits, tick_texts
from forgesyte_nb.workbench.plot_header import Entry, flow, put_header
from forgesyte_nb.workbench.plot_look import (
    ABOVE_TICKS_PX,
    DPI,
    THEMES,
    Place,
    columns_of_panels,
    font,
    panel_width,
    plain,
    rows_of_panels,
)
from forgesyte_nb.workbench.plot_panels import Across, CurvePanel, HistogramPanel
from forgesyte_nb.workbench.plot_points import Points
from forgesyte_nb.workbench.plot_settings import Look, PlotSpec

_BOOLEAN_WEIGHT = 0.4
_INDENT_PX = 36.0  # names of narrow panels begin above the numbers of their axis
_TIME_UNITS = ((7200.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))  # from which span, seconds, name


class KeptFigure(Figure):
    """A figure for keeps, which a notebook shows as a picture even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi, facecolor=self.get_facecolor(), edgecolor="none")
        return file.getvalue()


class PlotFigure:
    """A plot as a figure.

    Attributes:
        figure: Of matplotlib.
        spec: What it shows.
        look: Size and theme.
    """

    def __init__(self, spec: PlotSpec, look: Look, *, live: bool) -> None:
        """Build it, without points.

        Args:
            spec: What it shows.
            look: Size and theme.
            live: Whether curves and values are left out when the figure draws itself.
        """
        self.spec, self.look = spec, look
        self.figure = KeptFigure(
            figsize=(look.width / DPI, look.height / DPI),
            dpi=DPI * look.scale,
            facecolor=THEMES[look.theme].background,
            edgecolor="none",
            linewidth=0.0,
            frameon=True,
            layout="none",  # type: ignore[arg-type]  # its stubs do not know it; None would ask rcParams
        )
        self._canvas = FigureCanvasAgg(self.figure)
        self._live: list[Artist] = []
        self._values: dict[int, Text] = {}
        self._panels = self._build(live=live)
        self._live += [panel.note for panel in self._panels]
        for artist in self.figure.findobj():
            plain(artist)
        self._background: NDArray[np.uint8] | None = None
        self._x_limits: Limits | None = None

    def _build(self, *, live: bool) -> list[CurvePanel | HistogramPanel]:
        groups = self.spec.panels()
        histogram = self.spec.kind == "histogram"
        indent, above = (_INDENT_PX, ABOVE_TICKS_PX) if histogram else (0.0, 0.0)
        width = panel_width(self.look, len(groups) if histogram else 1) + indent
        headers = [
            flow([self.spec.fields[row] for row in rows], width, self._width_px, values=not histogram)
            for rows, _ in groups
        ]
        header_rows = [1 + entries[-1].row for entries in headers]
        if histogram:
            places = columns_of_panels(self.look, header_rows)
        else:
            places = rows_of_panels(self.look, header_rows, [_BOOLEAN_WEIGHT if flags else 1.0 for _, flags in groups])
        panels: list[CurvePanel | HistogramPanel] = []
        for (rows, boolean), entries, place in zip(groups, headers, places, strict=True):
            self._head(replace(place, left=place.left - indent, top=place.top - above), entries, rows, live=live)
            if histogram:
                panel: CurvePanel | HistogramPanel = HistogramPanel(
                    self.figure, place, self.look, rows, boolean=boolean, animated=live
                )
            else:
                panel = CurvePanel(
                    self.figure, place, self.look, rows, boolean=boolean, animated=live,
                    steps=boolean or self.spec.kind == "cumulative", ticks_below=place is places[-1],
                )  # fmt: skip
            self._live += panel.live
            panels.append(panel)
        return panels

    def _head(self, place: Place, entries: Sequence[Entry], rows: Sequence[int], *, live: bool) -> None:
        colours = [THEMES[self.look.theme].series[row] for row in rows]
        texts = put_header(self.figure, self.look, place, entries, colours, animated=live)
        for row, text in zip(rows, texts, strict=True):
            self._values[row] = text
        self._live += texts

    def _width_px(self, text: str) -> float:
        width, _, _ = self._renderer().get_text_width_height_descent(text, font(), ismath=False)  # type: ignore[no-untyped-call]
        return float(width) / self.look.scale

    def update(self, points: Points, notes: Mapping[int, str] | None = None) -> None:
        """Put points in.

        Args:
            points: What is to be seen; totals if the kind is "cumulative".
            notes: By series, a sentence in place of its curve if it has none.
        """
        curves = points.curves
        if self.spec.kind == "histogram":
            changed = [panel.update(curves) for panel in self._panels if isinstance(panel, HistogramPanel)]
        else:
            across = self._across(points)
            changed = [panel.update(across, curves) for panel in self._panels if isinstance(panel, CurvePanel)]
        if any(changed):
            self._background = None
        for row, text in self._values.items():
            shown = len(points) and self.spec.kind != "histogram"
            text.set_text(self._last(row, float(curves[row, -1])) if shown else "")
        for panel in self._panels:
            panel.say(notes or {})

    def _last(self, row: int, value: float) -> str:
        if self.spec.boolean[row] and self.spec.kind != "cumulative" and value in (0.0, 1.0):
            return "true" if value else "false"
        return short_number(value)

    def _across(self, points: Points) -> Across:
        window, newest = self.spec.window, float(points.at_s[-1]) if len(points) else 0.0
        wanted = max(2, int(self.look.width // 90))
        if window.count is not None:
            limits = (-float(max(1, window.count - 1)), 0.0)
            ticks = round_ticks(limits, wanted, inside=True)
            texts = tick_texts(ticks)
            texts[0] += " results"
            x = np.arange(points.first, points.first + len(points), dtype=np.float64)
            return Across(x, float(points.first + len(points) - 1), limits, (ticks, texts))
        if window.seconds is not None:
            limits = (-window.seconds, 0.0)
            return Across(points.at_s, newest, limits, time_ticks(limits, wanted))
        x = points.at_s - points.began_s
        found = (float(x[0]), max(1.0, float(x[-1]))) if len(points) else (0.0, 1.0)
        self._x_limits = steady_limits(found, self._x_limits)
        return Across(x, 0.0, self._x_limits, time_ticks(self._x_limits, wanted))

    def draw(self) -> NDArray[np.uint8]:
        """The picture of a live one.

        Returns:
            RGBA, uint8, shape (height, width, 4); the canvas's own memory, valid until the next call.
        """
        if self._background is None:
            self._canvas.draw()  # type: ignore[no-untyped-call]
            self._background = self._pixels().copy()
        else:
            self._pixels()[:] = self._background
        renderer = self._renderer()
        for artist in self._live:
            artist.draw(renderer)
        return self._pixels()

    def _renderer(self) -> RendererAgg:
        return cast("RendererAgg", self._canvas.get_renderer())  # type: ignore[no-untyped-call]

    def _pixels(self) -> NDArray[np.uint8]:
        return cast("NDArray[np.uint8]", np.asarray(self._canvas.buffer_rgba()))  # type: ignore[no-untyped-call]


def jpeg(rgba: NDArray[np.uint8], quality: int) -> bytes:
    """A picture as JPEG, its colours at full resolution: thin lines lose theirs otherwise.

    Args:
        rgba: uint8, shape (height, width, 4); its alpha is not looked at.
        quality: 1 to 100.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), options)
    return encoded.tobytes()


def time_ticks(limits: Limits, wanted: int) -> tuple[list[float], list[str]]:
    """Ticks of a time axis in seconds, at round numbers of seconds, minutes or hours."""
    span = limits[1] - limits[0]
    unit_s, name = next((unit_s, name) for least, unit_s, name in _TIME_UNITS if span >= least)
    ticks = round_ticks((limits[0] / unit_s, limits[1] / unit_s), wanted, inside=True)
    return [tick * unit_s for tick in ticks], [f"{text} {name}" for text in tick_texts(ticks)]
