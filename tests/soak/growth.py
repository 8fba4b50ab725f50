"""Whether a series of samples grows: what a leak of any pace does, and noise does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

HOUR_S = 3600.0


def slope_per_hour(times_s: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes between all pairs of samples (Theil and Sen): a few that lie far off do not move it."""
    samples = list(zip(times_s, values, strict=True))
    return HOUR_S * median((after - before) / (to - at) for (at, before), (to, after) in combinations(samples, 2))


def change(values: Sequence[float]) -> float:
    """How much more the last third of the samples has than the first, by their medians."""
    third = max(1, len(values) // 3)
    return median(values[-third:]) - median(values[:third])
