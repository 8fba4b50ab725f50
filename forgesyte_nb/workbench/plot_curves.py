"""What a plot computes before it draws: columns of pixels, limits that rarely change, bins, and texts of numbers.

Pure functions of numbers; nothing here knows a figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from forgesyte_nb.workbench.plot_points import Floats

Limits = tuple[float, float]

_LEAST_FILL = 0.3  # data that fill less of an axis make it new; round limits are filled to 0.39 at least
_FLOAT_STEPS = 1e-12  # of the magnitude: closer values are drawn as equal
_BINS = 30
_INTEGER_BINS = 40


def decimate(x: Floats, y: Floats, column_width: float) -> tuple[Floats, Floats]:
    """A curve with at most two points in each column of the screen: its smallest and its largest value there.

    Columns lie at multiples of the width, so a curve that moves keeps its shape. Gaps (NaN) narrower than a column are
    closed. The choice of points is that of Jugel et al., "M4: a visualization-oriented time series data aggregation",
    PVLDB 7(10), 2014, without the first and last of a column, which lie between the two.

    Args:
        x: Shape (n,), never falling.
        y: Shape (n,); NaN for a gap.
        column_width: In units of `x`, above 0.

    Returns:
        New x and y; the ones given if they are no more than two in a column anyway.
    """
    if x.size <= 2 or x.size <= 2 * ((x[-1] - x[0]) / column_width + 1):
        return x, y
    columns = np.floor(x / column_width)
    starts = np.concatenate(([0], np.flatnonzero(columns[1:] != columns[:-1]) + 1))
    ends = np.concatenate((starts[1:], [x.size])) - 1
    low, high = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    falling = y[ends] < y[starts]
    pairs = np.empty((2, starts.size))
    pairs[0], pairs[1] = np.where(falling, high, low), np.where(falling, low, high)
    centres = (columns[starts] + 0.5) * column_width
    return np.repeat(centres, 2), pairs.T.ravel()


def isolated(y: Floats) -> list[int]:
    """Indexes of values without a neighbour, which a line would not show."""
    there = np.isfinite(y)
    alone = there.copy()
    alone[1:] &= ~there[:-1]
    alone[:-1] &= ~there[1:]
    return [int(index) for index in np.flatnonzero(alone)]


def extent(*curves: Floats) -> Limits | None:
    """The smallest and the largest finite value of all; None if there is none."""
    lows = [float(np.fmin.reduce(curve)) for curve in curves if curve.size]
    highs = [float(np.fmax.reduce(curve)) for curve in curves if curve.size]
    lows, highs = [low for low in lows if low == low], [high for high in highs if high == high]
    return (min(lows), max(highs)) if lows else None


def steady_limits(found: Limits, now: Limits | None, *, from_zero: bool = True) -> Limits:
    """Limits of an axis: those it has as long as they fit, else ones with room, at round numbers.

    Args:
        found: Smallest and largest value.
        now: The limits it has; None at first.
        from_zero: Whether to begin at 0 when the values are nearer to it than to each other.
    """
    low, high = found
    if from_zero:
        low, high = (0.0, high) if 0 < low < high / 2 else (low, 0.0) if low / 2 < high < 0 else (low, high)
    if now is not None and now[0] <= low and high <= now[1] and high - low >= _LEAST_FILL * (now[1] - now[0]):
        return now
    span = high - low
    magnitude = max(abs(low), abs(high))
    if span <= magnitude * _FLOAT_STEPS:
        span = abs(low) or 1.0
        low, high = (low - span / 2, high + span / 2) if low or not from_zero else (0.0, 1.0)
        if now is not None and now[0] <= found[0] and found[1] <= now[1] and now[1] - now[0] <= 4 * span:
            return now
    ticks = round_ticks((low, high + 0.1 * (high - low) if high else high), 5)
    return ticks[0], ticks[-1]


def round_ticks(limits: Limits, wanted: int, *, inside: bool = False) -> list[float]:
    """About as many ticks as wanted, at 1, 2, 2.5 or 5 times a power of ten.

    Args:
        limits: What they cover.
        wanted: Steps, at most about this many.
        inside: Whether to leave out those beyond the limits; else the first and the last enclose them.
    """
    low, high = limits
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [index * step for index in range(first, last + 1)]
    if inside:
        ticks = [tick for tick in ticks if low - step * 1e-6 <= tick <= high + step * 1e-6]
    return ticks


def bin_edges(values: Floats, now: Floats | None, *, boolean: bool) -> Floats:
    """Edges of a histogram's bins: around each whole number where there are few of them, else at round numbers.

    Args:
        values: Of all curves that share the axis; NaN is left out.
        now: The edges it has.
        boolean: Whether the values are 0 and 1.
    """
    if boolean:
        return np.array([-0.5, 0.5, 1.5])
    found = extent(values) or (0.0, 1.0)
    finite = values[np.isfinite(values)]
    if (
        found[1] - found[0] < _INTEGER_BINS
        and max(map(abs, found)) < 2**52
        and bool(np.all(finite == np.floor(finite)))
    ):
        low, high = found
        if now is not None and now[0] < low and high < now[-1] and (now[1] - now[0]) == 1.0:
            return now
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + 1.0)
    limits = steady_limits(found, None if now is None else (float(now[0]), float(now[-1])), from_zero=False)
    return np.linspace(*limits, _BINS + 1)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Numbers of an axis, all with the decimals that their step needs."""
    if len(ticks) < 2:
        return [short_number(tick) for tick in ticks]
    step = abs(ticks[1] - ticks[0])
    largest = max(abs(tick) for tick in ticks)
    if largest >= 1e6 or step < 1e-4:
        return [_minus(_short_power(f"{tick:.4g}")) for tick in ticks]
    decimals = next(places for places in range(7) if abs(round(step, places) - step) < step * 1e-6 or places == 6)
    return [_minus(f"{tick:,.{decimals}f}") if tick else "0" for tick in ticks]


def short_number(value: float | None) -> str:
    """A number in at most eight characters; a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return _minus(f"{int(value):,}")
    if 1e-3 <= abs(value) < 1e6:
        decimals = max(0, 3 - max(0, math.floor(math.log10(abs(value)))))
        return _minus(f"{value:,.{decimals}f}")
    return _minus(_short_power(f"{value:.2e}"))


def _short_power(text: str) -> str:
    return text.replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
