"""A live plot: how much of a core it takes, and whether it slows down with what it keeps."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.bench import Bench
from tests.benchmarks.child import ROOT
from tests.benchmarks.load import Wrong
from tests.benchmarks.table import Row, Scale, median_row

_RUNS = 3
_WINDOW_S = 15.0
_TIMEOUT_S = 120.0


def live_plot(bench: Bench, _scale: Scale) -> list[Row]:
    """Three series at 30 results a second, watched: with 1,000 points and with 50,000."""
    seconds = max(5.0, bench.seconds(_WINDOW_S))
    rows = []
    for points in (1_000, 50_000):
        runs = [_watched_plot(points, seconds) for _ in range(1 if bench.quick else _RUNS)]
        pictures = sorted(run["pictures_per_s"] for run in runs)[len(runs) // 2]
        rows.append(
            median_row(
                f"live plot, {points:,} points: of a core",
                [run["percent"] for run in runs],
                unit="%",
                target=5.0,
                at_least=False,
                detail=f"three series at 30 results/s, 600×300; {pictures:.1f} pictures/s",
            )
        )
        rows.append(
            median_row(
                f"live plot, {points:,} points: one picture",
                [run["ms"] for run in runs],
                unit="ms",
                detail="processor time of the drawing thread, new axes and JPEG included",
            )
        )
    return rows


def _watched_plot(points: int, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.plotting", str(points), str(seconds)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"a process with a plot ended with exit code {done.returncode}")
    said: dict[str, float] = json.loads(done.stdout)
    return said
