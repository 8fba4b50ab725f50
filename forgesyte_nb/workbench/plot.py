"""`LivePlotter`: numbers of results as they come, drawn while somebody watches.

Results are added from any thread at a cost that does not depend on what is kept; a feed carries the pictures (JPEG) and
the state, and takes the controls. `figure()` gives the same plot for keeps. matplotlib is imported when something is
drawn, not before.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.results import Result
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.workbench.plot_fields import no_number
from forgesyte_nb.workbench.plot_points import CAPACITY, PointRing, Points, Window
from forgesyte_nb.workbench.plot_settings import KINDS, Look, PlotSpec, checked_fields, checked_look, checked_window
from forgesyte_nb.workbench.plot_thread import DrawingThread, drawing_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from forgesyte_nb.workbench.plot_figure import PlotFigure

_JPEG_QUALITY = 88

_log = logging.getLogger("forgesyte_nb.plots")


class LivePlotter:
    """A plot of some fields of results.

    Attributes:
        feed: What its viewers see.
    """

    def __init__(
        self,
        fields: Sequence[str],
        *,
        kind: str = "lines",
        window: Window | None = None,
        title: str = "",
        thread: DrawingThread | None = None,
    ) -> None:
        """Open its feed; nothing is drawn before somebody watches.

        Args:
            fields: Paths such as "result.confidence"; see `plot_fields`.
            kind: "lines", "histogram" or "cumulative": running totals, how many were true, the sum of numbers.
            window: How much of the past is drawn; everything that is kept unless given.
            title: For people; the fields unless given.
            thread: Where it is drawn; that of the process unless given.

        Raises:
            ValueError: If there are no such fields or kinds.
        """
        self._lock = threading.Lock()
        self._fields = checked_fields(fields)
        self._kind = _checked_kind(kind)
        self._window = checked_window(None if window is None else asdict(window))
        self._look = Look()
        self._ring = PointRing(len(self._fields), CAPACITY)
        self._paused_at: int | None = None
        self._newest_ok: Result | None = None
        self._newest_failed: Result | None = None
        self._drawing_problem = ""
        self._drawn: PlotFigure | None = None
        self._thread = thread or drawing_thread()
        self.feed: Feed = feed_book().open("plot", title or ", ".join(fields), self._control)
        self.feed.on_watched = self._want
        self.feed.tell(self.state())

    def add(self, result: Result, at_s: float | None = None) -> None:
        """Add what a result says; from any thread.

        Args:
            result: The result; of one that failed, only fields such as "ok" and "latency_ms" have values.
            at_s: When it came, as `time.monotonic()` tells the time; now unless given.
        """
        at_s = time.monotonic() if at_s is None else at_s
        with self._lock:
            self._ring.append(at_s, [field.of(result) for field in self._fields])
            if result.error is None:
                self._newest_ok = result
            else:
                self._newest_failed = result
            paused = self._paused_at is not None
        if not paused:
            self._want()

    def state(self) -> dict[str, Any]:
        """What viewers hear: fields, kind, window, points, paused, values, problem, theme, size."""
        with self._lock:
            newest = self._ring.newest(self._paused_at)
            return {
                "fields": [field.path for field in self._fields],
                "kind": self._kind,
                "window": {key: value for key, value in asdict(self._window).items() if value is not None} or None,
                "points": len(self._ring),
                "paused": self._paused_at is not None,
                "values": {
                    field.path: None if math.isnan(value) else value
                    for field, value in zip(self._fields, newest, strict=True)
                },
                "problem": self._problem(),
                "theme": self._look.theme,
                "size": {"width": self._look.width, "height": self._look.height, "scale": self._look.scale},
            }

    def figure(self, *, theme: str = "light", width: int | None = None, height: int | None = None) -> Figure:
        """The same plot for keeps: a figure of matplotlib, unknown to pyplot, which nothing here draws in again.

        Args:
            theme: "light" or "dark".
            width: In hundredths of an inch; as wide as the live one unless given.
            height: In hundredths of an inch.

        Raises:
            ValueError: If there is no such theme or size.
        """
        from forgesyte_nb.workbench.plot_figure import PlotFigure

        with self._lock:
            now = self._look
            spec, points, notes = self._shown()
        size = {"width": width or now.width, "height": height or now.height, "scale": now.scale}
        look = checked_look(replace(now), size=size, theme=theme)
        kept = PlotFigure(spec, look, live=False)
        kept.update(points, notes)
        return kept.figure

    def close(self) -> None:
        """End its feed; viewers are told. Twice is once."""
        self.feed.close("the plot is closed")
        self._thread.forget(self)

    def _repr_png_(self) -> bytes:
        picture: bytes = self.figure()._repr_png_()  # type: ignore[attr-defined]  # KeptFigure has it
        return picture

    def __repr__(self) -> str:
        fields = ", ".join(field.path for field in self._fields)
        return f"<LivePlotter {self._kind} of {fields}: {len(self._ring)} points>"

    # On the drawing thread

    def draw(self) -> None:
        """Draw and publish a picture; called by the drawing thread."""
        if not self.feed.watchers or self.feed.ended:
            return
        from forgesyte_nb.workbench.plot_figure import PlotFigure, jpeg

        with self._lock:
            look = self._look
            spec, points, notes = self._shown()
        drawn = self._drawn
        if drawn is None or drawn.spec != spec or drawn.look != look:
            drawn = PlotFigure(spec, look, live=True)
        self._drawn = None  # until it has been drawn whole
        drawn.update(points, notes)
        picture = jpeg(drawn.draw(), _JPEG_QUALITY)
        self._drawn = drawn
        self._drawing_problem = ""
        self.feed.show(
            picture, "image/jpeg", width=round(look.width * look.scale), height=round(look.height * look.scale)
        )
        self.feed.tell(self.state())

    def failed(self, error: Exception) -> None:
        """Drawing raised: say so, and draw anew with the next result."""
        self._drawn = None
        _log.warning("%r cannot be drawn", self, exc_info=error)
        self._drawing_problem = f"it cannot be drawn: {type(error).__name__}: {error}"
        self.feed.tell(self.state())

    def _shown(self) -> tuple[PlotSpec, Points, dict[int, str]]:
        """What is drawn, and for series that have had no value what is said in their place."""
        boolean = tuple(field.boolean for field in self._fields)
        spec = PlotSpec(tuple(field.path for field in self._fields), boolean, self._kind, self._window)
        points = self._ring.view(self._window, totals=self._kind == "cumulative", upto=self._paused_at)
        if not len(self._ring):
            return spec, points, dict.fromkeys(range(len(self._fields)), "waiting for results")
        return spec, points, {row: self._why_missing(row) for row, field in enumerate(self._fields) if not field.found}

    def _problem(self) -> str:
        if self._drawing_problem:
            return self._drawing_problem
        if self._newest_ok is None:
            return self._all_failed()
        return "; ".join(self._why_missing(row) for row, field in enumerate(self._fields) if not field.found)

    def _why_missing(self, row: int) -> str:
        return self._all_failed() if self._newest_ok is None else no_number(self._fields[row].path, self._newest_ok)

    def _all_failed(self) -> str:
        failed = self._newest_failed
        if failed is None:
            return ""
        return f"all {self._ring.added} results so far failed, the newest with {failed.error_code}: {failed.error}"

    def _want(self) -> None:
        if self.feed.watchers and not self.feed.ended:
            self._thread.want(self)

    # What viewers ask for

    def _control(self, action: str, value: Any) -> Any:
        steps = {
            "kind": self._set_kind,
            "window": self._set_window,
            "pause": self._pause,
            "play": self._play,
            "fields": self._set_fields,
            "theme": lambda theme: self._set_look(theme=theme),
            "size": lambda size: self._set_look(size=size),
            "clear": self._clear,
        }
        if action not in steps:
            raise ValueError(f"a plot knows no {action!r}; it knows {', '.join(steps)}")
        with self._lock:
            steps[action](value)
        state = self.state()
        self.feed.tell(state)
        self._want()
        return state

    def _set_kind(self, value: Any) -> None:
        self._kind = _checked_kind(value)

    def _set_window(self, value: Any) -> None:
        self._window = checked_window(value)

    def _pause(self, _: Any) -> None:
        if self._paused_at is None:
            self._paused_at = self._ring.added

    def _play(self, _: Any) -> None:
        self._paused_at = None

    def _set_look(self, **changes: Any) -> None:
        self._look = checked_look(self._look, **changes)

    def _set_fields(self, value: Any) -> None:
        fields = checked_fields(value)
        before = {field.path: row for row, field in enumerate(self._fields)}
        rows = [before.get(field.path) for field in fields]
        for field, row in zip(fields, rows, strict=True):
            if row is None and self._newest_ok is not None:
                field.of(self._newest_ok)  # so that what it does not find is told at once
        ring = PointRing(len(fields), CAPACITY)
        ring.take_over(self._ring, rows)
        kept = [field if row is None else self._fields[row] for field, row in zip(fields, rows, strict=True)]
        self._ring, self._fields = ring, kept

    def _clear(self, _: Any) -> None:
        self._ring = PointRing(len(self._fields), CAPACITY)
        self._fields = checked_fields([field.path for field in self._fields])
        self._paused_at = None if self._paused_at is None else 0
        self._newest_ok = self._newest_failed = None


def _checked_kind(kind: Any) -> str:
    if kind not in KINDS:
        raise ValueError(f"there is no plot of kind {kind!r}; there are {', '.join(KINDS)}")
    return str(kind)
