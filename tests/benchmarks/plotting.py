"""A process with one live plot that somebody watches: what it takes, as JSON.

Arguments: points that the plot has from the beginning, and seconds to measure. Three series, 600×300, 30 results a
second; the same seconds without a plot are taken off.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable

import psutil

from forgesyte_nb.client.results import Result
from forgesyte_nb.workbench.plot import LivePlotter

_INTERVAL_S = 1 / 30
_SETTLED_S = 3.0


def main(points: int, seconds: float) -> None:
    """Measure and print."""
    plot = LivePlotter(["result.confidence", "processing_time_ms", "latency_ms"])
    for index in range(points):
        plot.add(_result(index), index * _INTERVAL_S)
    heard = points

    def add() -> None:
        nonlocal heard
        plot.add(_result(heard), heard * _INTERVAL_S)
        heard += 1

    without, _ = _share(seconds, lambda: _result(0))
    plot.feed.watched(+1)
    _share(_SETTLED_S, add)
    shown, drawing_s = _shown(plot), _drawing_s()
    share, passed_s = _share(seconds, add)
    pictures = _shown(plot) - shown
    print(
        json.dumps(
            {
                "percent": 100 * (share - without),
                "thread_percent": 100 * (_drawing_s() - drawing_s) / passed_s,
                "ms": 1000 * (_drawing_s() - drawing_s) / pictures,
                "pictures_per_s": pictures / passed_s,
            }
        )
    )
    plot.close()


def _result(index: int) -> Result:
    wave, noise = math.sin(index / 60), (index * 7919 % 101) / 101
    return Result(
        str(index),
        "p",
        {"confidence": 0.5 + 0.3 * wave + 0.1 * noise},
        processing_time_ms=20 + 10 * noise,
        latency_ms=25 + 12 * noise,
    )


def _share(seconds: float, step: Callable[[], object]) -> tuple[float, float]:
    """Processor time of the process for each second that passes, and how many passed."""
    began, began_s = time.process_time(), time.monotonic()
    for _ in range(round(seconds / _INTERVAL_S)):
        step()
        time.sleep(_INTERVAL_S)
    passed_s = time.monotonic() - began_s
    return (time.process_time() - began) / passed_s, passed_s


def _shown(plot: LivePlotter) -> int:
    return plot.feed.picture.seq if plot.feed.picture is not None else 0


def _drawing_s() -> float:
    ids = {thread.native_id for thread in threading.enumerate() if thread.name == "forgesyte-plots"}
    return sum(each.user_time + each.system_time for each in psutil.Process().threads() if each.id in ids)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
