"""Watching a stream for an hour in JupyterLab: the pictures move on, and neither the page nor the kernel grows.

A stream of 640×480 pictures at 30 frames/s with its view and a plot, both in sight. What is kept by design is full
before anything is counted: the plot's 50,000 points from the beginning, the last results and pictures within the first
sixth, which is let go. FORGESYTE_SOAK_MINUTES sets the length of the long form.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from dataclasses import dataclass

import psutil
import pytest
from playwright.async_api import CDPSession, Locator

from tests.figures import Figures
from tests.lab.notebook import Notebook
from tests.soak.growth import HOUR_S, change, slope_per_hour

MINUTES = float(os.environ.get("FORGESYTE_SOAK_MINUTES", "60"))
SHORT_S, SHORT_INTERVAL_S = 18.0, 1.0
INTERVAL_S = 30.0
PLOT_PAUSE_S = 6.0  # at most: a plot that has just drawn anew rests until it has paid for that
FPS = 30
SUITE = "an hour of viewing"
TALL = {"width": 1600, "height": 1800}  # view and plot are both in sight: what is not rests

STREAM = """\
import os
import numpy as np
import forgesyte_nb as fs

def scene(number):
    y, x = np.mgrid[0:480, 0:640]
    picture = np.stack([x % 256, y % 256, (x + y) // 5 % 256], -1).astype("uint8")
    picture[200:280, 20 * number : 20 * number + 80] = (220, 60, 40)
    return fs.Frame.from_array(picture).bytes

server = fs.serve(port=0)
stream = fs.stream([scene(number) for number in range(28)], "motion_detector", speed=3.0, loop=True, history=history)
"""
PLOT = """\
plot = stream.plot("result.confidence", "processing_time_ms", "latency_ms", window_s=10)
first = stream.timed_results()[0]
for _ in range(50_000):
    plot.plotter.add(*first)
plot"""
MOST_MIB_PER_HOUR = {"page's JavaScript heap": 4.0, "browser": 40.0, "kernel": 8.0}
SHORT_MOST_MIB = {"page's JavaScript heap": 8.0, "browser": 60.0, "kernel": 12.0}
FLAT = 2  # descriptors or threads more or less are chance


@dataclass(frozen=True)
class Sample:
    """How things stand at a moment: memory in MiB, counts of the kernel's process, pictures drawn so far."""

    at_s: float
    mib: dict[str, float]
    descriptors: int
    threads: int
    view_drawn: int
    plot_drawn: int


class Watching:
    """The open page and the kernel behind it."""

    def __init__(self, kernel: int, page: CDPSession, view: Locator, plot: Locator) -> None:
        self._kernel = psutil.Process(kernel)
        self._page, self._view, self._plot = page, view, plot

    async def sample(self) -> Sample:
        """Look, with the page's garbage collected."""
        await self._page.send("HeapProfiler.collectGarbage")
        heap = await self._page.send("Runtime.getHeapUsage")
        drawn = [await widget.evaluate("root => root.forgesyteState.drawn") for widget in (self._view, self._plot)]
        mib = {
            "page's JavaScript heap": heap["usedSize"] / 2**20,
            "browser": await asyncio.to_thread(_browser_mib),
            "kernel": self._kernel.memory_full_info().pss / 2**20,
        }
        return Sample(time.monotonic(), mib, self._kernel.num_fds(), self._kernel.num_threads(), *drawn)

    async def samples(self, seconds: float, interval_s: float) -> list[Sample]:
        """At the beginning and after each interval, in which something must have been drawn."""
        taken = [await self.sample()]
        end = taken[0].at_s + seconds
        plot_interval = math.ceil(PLOT_PAUSE_S / interval_s)
        while time.monotonic() < end:
            await asyncio.sleep(interval_s)
            await self._drawn(self._view, taken[-1].view_drawn)
            if len(taken) % plot_interval == 0:
                await self._drawn(self._plot, taken[-plot_interval].plot_drawn)
            taken.append(await self.sample())
        return taken

    async def _drawn(self, widget: Locator, before: int) -> None:
        element = await widget.element_handle()
        moved = "([root, before]) => root.forgesyteState.drawn > before"
        await widget.page.wait_for_function(moved, arg=[element, before])


def _browser_mib() -> float:
    """Memory of all processes of the browser: decoded pictures lie outside the JavaScript heap."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                total += process.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return total


async def shown(notebook: Notebook, code: str) -> Locator:
    """Run a cell that shows a widget, and wait for its first pictures."""
    widget = (await notebook.show(await notebook.run(code))).locator(".fs-widget").first
    await widget.wait_for()
    element = await widget.element_handle()
    await notebook.page.wait_for_function("root => root.forgesyteState.drawn >= 3", arg=element)
    return widget


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(7200)
async def test_watching_for_long_makes_nothing_grow(notebook: Notebook, figures: Figures) -> None:
    seconds, interval_s = (60 * MINUTES, INTERVAL_S) if figures.soak else (SHORT_S, SHORT_INTERVAL_S)
    await notebook.page.set_viewport_size(TALL)
    await notebook.run(f"history = {int(FPS * seconds / 12)}\n{STREAM}")
    view, plot = await shown(notebook, "stream.view()"), await shown(notebook, PLOT)
    page = await notebook.page.context.new_cdp_session(notebook.page)
    watching = Watching(await notebook.ask("os.getpid()"), page, view, plot)
    samples = await watching.samples(seconds, interval_s)
    ledger = await notebook.ask("stream.ledger")

    assert ledger["errors"] == ledger["skipped"] == 0, ledger
    tell(figures, [sample for sample in samples if sample.at_s >= samples[0].at_s + seconds / 6])


def tell(figures: Figures, samples: list[Sample]) -> None:
    """Say how much each thing grew, and hold it to be little."""
    times_s = [sample.at_s for sample in samples]
    passed_s = times_s[-1] - times_s[0]
    per_s = (samples[-1].view_drawn - samples[0].view_drawn) / passed_s
    figures.add(SUITE, f"pictures seen per second, over {passed_s / 60:.1f} minutes", per_s)
    grown: dict[str, tuple[float, float]] = {}
    for name, most in (MOST_MIB_PER_HOUR if figures.soak else SHORT_MOST_MIB).items():
        slope = slope_per_hour(times_s, [sample.mib[name] for sample in samples])
        grown[name] = (slope if figures.soak else slope * passed_s / HOUR_S, most)
        figures.add(SUITE, f"{name}, MiB/h" if figures.soak else f"{name}, MiB", *grown[name])
    for name in ("descriptors", "threads"):
        grown[name] = (abs(change([getattr(sample, name) for sample in samples])), FLAT)
        figures.add(SUITE, f"the kernel's {name}, change", *grown[name])
    assert all(much <= most for much, most in grown.values()), grown
