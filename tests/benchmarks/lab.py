"""A notebook in a real JupyterLab in a real Chromium, for rows that measure what is seen and what that takes.

    async with open_lab() as lab:
        await lab.notebook.run("1 + 1")
        percent = await lab.cpu_percent(10)

It is the tests' own JupyterLab and notebook (`tests/lab`), with `probe.js` in its page. What these miss becomes
`Wrong`: that row is not measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from tests.benchmarks.child import ROOT
from tests.benchmarks.chromium import Page, open_page
from tests.benchmarks.load import Wrong
from tests.lab.jupyter_lab import JupyterLab
from tests.lab.notebook import Notebook

_NAME = "bench.ipynb"
_WIDTH = 1600
_PROBE = Path(__file__).with_name("probe.js")


@dataclass(frozen=True)
class Lab:
    """What `open_lab` gives.

    Attributes:
        page: The page; of the notebook's methods, those that give locators need another.
        notebook: The notebook, empty, with its kernel; the package `tests` can be imported there.
        groups: By name, "kernel", "server" (Jupyter's) and "browser": a process, and whether its children count.
    """

    page: Page
    notebook: Notebook
    groups: dict[str, tuple[psutil.Process, bool]]

    async def cpu_percent(self, seconds: float) -> dict[str, float]:
        """Processor time of each group over so many seconds, in percent of one core."""
        before, began = self._cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        after, passed_s = self._cpu_s(), time.monotonic() - began
        return {
            name: 100 * sum(each - before[name].get(pid, 0.0) for pid, each in after[name].items()) / passed_s
            for name in self.groups
        }

    def _cpu_s(self) -> dict[str, dict[int, float]]:
        """By group and process, the seconds since it began."""
        found: dict[str, dict[int, float]] = {}
        for name, (first, with_children) in self.groups.items():
            processes = [first, *(first.children(recursive=True) if with_children else ())]
            found[name] = {process.pid: _process_cpu_s(process) for process in processes}
        return found


def _process_cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # a process of the browser that has ended just now
    return float(times.user + times.system)


@asynccontextmanager
async def open_lab(*, height: int = 1400) -> AsyncIterator[Lab]:
    """A JupyterLab, a browser with a window so many pixels high, and a notebook; all end with the block.

    Raises:
        Skipped: If there is no browser.
        Wrong: If something in the block does not come about.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="forgesyte-bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            profile = folder / "profile"
            profile.mkdir()
            script = _PROBE.read_text(encoding="utf-8")
            async with open_page(profile, width=_WIDTH, height=height, script=script) as (page, browser):
                jupyter = await asyncio.to_thread(JupyterLab, folder)
                try:
                    yield await _open_notebook(jupyter, page, browser)
                finally:
                    await asyncio.to_thread(jupyter.close)
    except AssertionError as error:
        raise Wrong(f"in JupyterLab: {str(error)[:2000]}") from error


async def _open_notebook(jupyter: JupyterLab, page: Page, browser: psutil.Process) -> Lab:
    empty = {"cells": [], "metadata": {"kernelspec": {"name": "python3", "display_name": "python3"}}}
    body = {"type": "notebook", "format": "json", "content": {**empty, "nbformat": 4, "nbformat_minor": 5}}
    await asyncio.to_thread(jupyter.api, f"contents/{_NAME}", "PUT", body)
    notebook = Notebook(cast(Any, page), jupyter, _NAME, jupyter.folder)
    await notebook.open()
    await notebook.run(f"import os, sys; sys.path.insert(0, {str(ROOT)!r})")
    kernel = psutil.Process(await notebook.ask("os.getpid()"))
    groups = {"kernel": (kernel, False), "server": (jupyter.processes()[0], False), "browser": (browser, True)}
    return Lab(page, notebook, groups)
