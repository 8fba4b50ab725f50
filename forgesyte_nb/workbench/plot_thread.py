"""The one thread on which all plots of the process are drawn, and how little of a processor it may take.

A plot that wants to be drawn waits for its turn; the thread draws when it has saved up the processor time, measured by
its own clock (`time.thread_time`). It begins when there is something to draw and ends when there has been nothing for a
while.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Protocol

from forgesyte_nb.background import disown_when_forked

SHARE = 0.04
"""Of one processor, over all plots; with what adding results costs it stays below a twentieth."""

SAVED_S = 0.04
"""Processor time that can be saved up, so that the first pictures come at once; within a second it makes the share
less than a tenth."""

INTERVAL_S = 0.1
"""Shortest time between two pictures of one plot."""

REST_S = 10.0
"""Time without anything to draw after which the thread ends."""


_LAST_PICTURE_S = 5.0
_LEAST_WAIT_S = 0.02  # waking up costs, too: waits cut exactly to what is missing become shorter and shorter


class Drawn(Protocol):
    """A plot, as the thread sees it."""

    def draw(self) -> None:
        """Draw and publish a picture."""

    def failed(self, error: Exception) -> None:
        """Drawing raised."""


class Allowance:
    """Processor time that may be spent: a share of the time that passes, saved up to a limit."""

    def __init__(self, share: float, saved_s: float, now_s: float, spent_s: float) -> None:
        """Begin with all that can be saved.

        Args:
            share: Of one processor.
            saved_s: Most that can be saved up.
            now_s: Time that has passed on a wall clock.
            spent_s: Time spent on the thread's processor clock.
        """
        self._share, self._most_s, self._saved_s = share, saved_s, saved_s
        self._now_s, self._spent_s = now_s, spent_s

    def wait_s(self, now_s: float, spent_s: float) -> float:
        """How long to wait until there is time to spend again; 0 if there is."""
        self._saved_s += self._share * (now_s - self._now_s) - (spent_s - self._spent_s)
        self._saved_s = min(self._saved_s, self._most_s)
        self._now_s, self._spent_s = now_s, spent_s
        return 0.0 if self._saved_s >= 0 else _LEAST_WAIT_S - self._saved_s / self._share


class DrawingThread:
    """Draws plots, each when it wants to be drawn, in turns."""

    def __init__(
        self, *, share: float = SHARE, rest_s: float = REST_S, prepare: Callable[[], None] | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            share: Of one processor that may be taken.
            rest_s: Time without anything to draw after which it ends.
            prepare: Called first of all on a new thread, outside of the share: imports.
        """
        self._share = share
        self._rest_s = rest_s
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: dict[Drawn, None] = {}
        self._next_s: dict[Drawn, float] = {}
        self._thread: threading.Thread | None = None
        self._ended = False
        disown_when_forked(self, DrawingThread._disown)

    def _disown(self) -> None:
        """In a forked process: the thread, and what it draws, are the parent's."""
        self._changed, self._thread = threading.Condition(), None
        self._waiting.clear()
        self._next_s.clear()

    def want(self, plot: Drawn) -> None:
        """Draw a plot as soon as it is its turn; from any thread, costs next to nothing."""
        with self._changed:
            if plot in self._waiting or self._ended:
                return
            self._waiting[plot] = None
            if self._thread is None:
                atexit.register(self.end)
                self._thread = threading.Thread(target=self._run, name="forgesyte-plots", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, plot: Drawn) -> None:
        """Draw it no more; with the last one the thread ends at once."""
        with self._changed:
            self._waiting.pop(plot, None)
            self._next_s.pop(plot, None)
            self._changed.notify()

    def end(self) -> None:
        """Draw nothing more, and wait for the picture that is being drawn.

        Called at exit: a daemon thread that the interpreter finds inside C++ code when it ends aborts the process.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_LAST_PICTURE_S)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        with self._changed:
            return self._thread is not None

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        allowance = Allowance(self._share, SAVED_S, time.monotonic(), time.thread_time())
        while (plot := self._take(allowance)) is not None:
            try:
                plot.draw()
            except Exception as error:  # noqa: BLE001 -- one plot that cannot be drawn must not stop the others
                plot.failed(error)

    def _take(self, allowance: Allowance) -> Drawn | None:
        """Wait for a plot whose turn it is; None when it is time to end."""
        rest_until = time.monotonic() + self._rest_s
        with self._changed:
            while True:
                now = time.monotonic()
                plot = min(self._waiting, key=lambda plot: self._next_s.get(plot, 0.0), default=None)
                if plot is None or self._ended:
                    if self._ended or now >= rest_until or not self._next_s:
                        self._thread = None
                        self._next_s.clear()
                        atexit.unregister(self.end)
                        return None
                    self._changed.wait(rest_until - now)
                    continue
                wait_s = max(self._next_s.get(plot, 0.0) - now, allowance.wait_s(now, time.thread_time()))
                if wait_s <= 0:
                    del self._waiting[plot]
                    self._next_s[plot] = now + INTERVAL_S
                    return plot
                self._changed.wait(wait_s)


def _prepare() -> None:
    import forgesyte_nb.workbench.plot_figure  # noqa: F401


_drawing = DrawingThread(prepare=_prepare)


def drawing_thread() -> DrawingThread:
    """The drawing thread of this process."""
    return _drawing
