"""One thread that lets tables tell their viewers how things stand, as long as anybody watches.

A table changes with every message, far faster than anyone reads; it publishes at a tick, from here, and only while
its feed is watched. The thread ends when nobody watches anything any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from forgesyte_nb.background import disown_when_forked

INTERVAL_S = 0.25

Tick = Callable[[], bool]
"""Publishes what is new; returns whether to be called again."""


class Ticker:
    """Calls functions on a thread of its own."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        """Make it without a thread."""
        self._interval_s = interval_s
        self._starts: dict[Tick, int] = {}  # calls of `start` for each that is called
        self._changed = threading.Condition()
        self._runs = False
        disown_when_forked(self, Ticker._disown)

    def _disown(self) -> None:
        """In a forked process: the thread, and what it tells, are the parent's."""
        self._starts, self._changed, self._runs = {}, threading.Condition(), False

    def start(self, tick: Tick) -> None:
        """Call it from now on, at once and then at every interval. Idempotent."""
        with self._changed:
            self._starts[tick] = self._starts.get(tick, 0) + 1
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="forgesyte-tables", daemon=True).start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                starts = dict(self._starts)
                if not starts:
                    self._runs = False
                    return
            done = [tick for tick in starts if not self._call(tick)]
            with self._changed:
                for tick in done:
                    if self._starts[tick] == starts[tick]:  # else it was started again while it was called
                        del self._starts[tick]
                if self._starts:
                    self._changed.wait(self._interval_s)

    def _call(self, tick: Tick) -> bool:
        try:
            return tick()
        except Exception:
            logging.getLogger(__name__).warning("a table could not be told and rests", exc_info=True)
            return False


ticker = Ticker()
