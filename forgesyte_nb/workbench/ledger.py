"""The ledger of a stream: what became of every picture, how fast, and where the time went.

`sent = results + errors + skipped + pending`, always: `sent` is what the source gave, and `pending` what has no
answer yet. Rates and latencies are over the last few seconds and frames. Not thread-safe: the stream holds its lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forgesyte_nb.client.results import Result

RATE_WINDOW_S = 3.0
LATENCY_FRAMES = 256

STAGES = ("queue", "decode", "plugin", "total", "round_trip")
"""Where a frame's time goes: the server's `timings`, and sending to answer as the client measured it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the pictures so far."""

    sent: int = 0
    results: int = 0
    errors: int = 0
    skipped: int = 0

    @property
    def pending(self) -> int:
        """Pictures without an answer yet."""
        return self.sent - self.results - self.errors - self.skipped

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.sent + other.sent,
            self.results + other.results,
            self.errors + other.errors,
            self.skipped + other.skipped,
        )

    def as_dict(self) -> dict[str, int]:
        """All five numbers."""
        return {
            "sent": self.sent,
            "results": self.results,
            "errors": self.errors,
            "skipped": self.skipped,
            "pending": self.pending,
        }

    def __str__(self) -> str:
        told = {name: number for name, number in self.as_dict().items() if name != "sent"}
        return ", ".join(f"{number} {name}" for name, number in told.items() if number or name == "results")


class Pace:
    """Frames per second and latencies of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure from now on, by a clock in seconds."""
        self._clock = clock
        self._times: deque[float] = deque(maxlen=4096)
        self._latencies: deque[tuple[float, ...]] = deque(maxlen=LATENCY_FRAMES)

    def add(self, result: Result) -> None:
        """Count a result."""
        self._times.append(self._clock())
        if result.ok and result.timings:
            stages = [result.timings.get(f"{stage}_ms", np.nan) for stage in STAGES[:-1]]
            self._latencies.append((*stages, np.nan if result.latency_ms is None else result.latency_ms))

    @property
    def rate_fps(self) -> float:
        """Results per second over the last seconds; 0 if there were none."""
        now = self._clock()
        recent = [at for at in self._times if now - at <= RATE_WINDOW_S]
        if len(recent) < 2:
            return 0.0
        # Over the time since the first of them, so that a stream that halts falls to 0 instead of keeping its rate.
        return (len(recent) - 1) / max(now - recent[0], 1e-9)

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile in milliseconds by stage, over the last frames with a result."""
        if not self._latencies:
            return {}
        table = np.array(self._latencies)
        found: dict[str, dict[str, Any]] = {}
        for stage, column in zip(STAGES, table.T, strict=True):
            known = column[~np.isnan(column)]
            if known.size:
                p50, p95 = np.percentile(known, [50, 95])
                found[stage] = {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
        return found
