"""`PointRing`: the newest points of a plot, in arrays that are allocated once.

Each result is one column: its time, and for each series its value (NaN where there was none) and the running total of
its values. Adding one costs the same whether one or fifty thousand are kept. Not thread-safe: `LivePlotter` has the
lock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CAPACITY = 50_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """How much of the past is drawn; without either, all that is kept.

    Attributes:
        seconds: Before the newest result.
        count: Of newest results.
    """

    seconds: float | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Points:
    """A copy of some columns, oldest first.

    Attributes:
        at_s: Times, shape (n,), never falling.
        curves: Shape (series, n): values, NaN where a result had no such number; or their running totals, NaN before
            the first.
        first: Number of the first column, counted from the first ever added.
        began_s: Time of the first ever added.
    """

    at_s: Floats
    curves: Floats
    first: int
    began_s: float

    def __len__(self) -> int:
        return int(self.at_s.size)


class PointRing:
    """The newest points.

    Attributes:
        added: Columns ever added.
    """

    def __init__(self, series: int, capacity: int = CAPACITY) -> None:
        """Allocate.

        Args:
            series: Values in each column.
            capacity: Columns kept.
        """
        self.added = 0
        self._capacity = capacity
        self._at_s = np.empty(capacity)
        self._values = np.empty((series, capacity))
        self._totals = np.empty((series, capacity))
        self._sums = [math.nan] * series
        self._began_s = self._newest_s = -math.inf

    def __len__(self) -> int:
        return min(self.added, self._capacity)

    def append(self, at_s: float, values: Sequence[float]) -> None:
        """Add a column.

        Args:
            at_s: Its time; earlier than the newest counts as the newest.
            values: One for each series; NaN for none.
        """
        self._newest_s = max(at_s, self._newest_s)
        if not self.added:
            self._began_s = at_s
        place = self.added % self._capacity
        self._at_s[place] = self._newest_s
        for row, value in enumerate(values):
            self._values[row, place] = value
            if value == value:
                total = self._sums[row]
                self._sums[row] = value if math.isnan(total) else total + value
            self._totals[row, place] = self._sums[row]
        self.added += 1

    def view(self, window: Window, *, totals: bool = False, upto: int | None = None) -> Points:
        """A copy of the columns in a window.

        Args:
            window: Which.
            totals: Running totals instead of values.
            upto: As if no more than this many had ever been added; columns overwritten since are left out.
        """
        end = self.added if upto is None else min(upto, self.added)
        first = min(end, self.added - len(self))
        if window.count is not None:
            first = max(first, end - window.count)
        if window.seconds is not None and end > first:
            times = self._cut(self._at_s, first, end)
            first += int(np.searchsorted(times, times[-1] - window.seconds, side="left"))
        return Points(
            self._cut(self._at_s, first, end),
            self._cut(self._totals if totals else self._values, first, end),
            first,
            self._began_s,
        )

    def newest(self, upto: int | None = None) -> list[float]:
        """The values of the newest column; NaN if there is none.

        Args:
            upto: As for `view`.
        """
        end = self.added if upto is None else min(upto, self.added)
        if end <= self.added - len(self):
            return [math.nan] * len(self._sums)
        return [float(value) for value in self._values[:, (end - 1) % self._capacity]]

    def take_over(self, old: PointRing, rows: Sequence[int | None]) -> None:
        """Take over what another ring of the same capacity has.

        Args:
            old: The other ring.
            rows: For each series its row there; None if it is new.
        """
        self.added, self._began_s, self._newest_s = old.added, old._began_s, old._newest_s
        self._at_s[:] = old._at_s
        for row, source in enumerate(rows):
            self._values[row] = math.nan if source is None else old._values[source]
            self._totals[row] = math.nan if source is None else old._totals[source]
            self._sums[row] = math.nan if source is None else old._sums[source]

    def _cut(self, array: Floats, first: int, end: int) -> Floats:
        count = end - first
        start = first % self._capacity
        head = array[..., start : start + count]
        rest = count - head.shape[-1]
        return np.concatenate((head, array[..., :rest]), axis=-1)
