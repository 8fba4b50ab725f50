"""Tests in a real JupyterLab with a real kernel, in a real browser with a camera that is not there.

    pytestmark = pytest.mark.asyncio(loop_scope="session")

    async def test_it(notebook: Notebook) -> None:
        cell = await notebook.run("import forgesyte_nb as fs; fs.serve(port=0)")
        await notebook.output(cell, "ws://")
        busy = await notebook.start("import time; time.sleep(30)")   # and look at what goes on meanwhile
        await notebook.interrupt()
        await notebook.ended(busy, fails=True)

`lab` is the one JupyterLab of the session, `browser` its Chromium. `notebook` is a fresh notebook with a fresh kernel
in a page of its own; `open_notebook(kernel="ipykernel-6.31")` opens others, and `each_ipykernel` runs a test on every
one that is installed (`make setup` installs the older ones; a missing one is skipped). At a test's end its
console must have said nothing in red: `notebook.expect_errors("WebSocket connection to .* failed")` names exceptions.
A notebook costs about three seconds to open: let a test go on in the one it has.
Pictures go to the test's own folder, with FORGESYTE_NB_IMAGES=1 to notebooks/images.

Playwright's async interface, on pytest-asyncio's loop of the session: its sync one leaves a running loop in its thread,
in which no other test could run one, and a thread of its own would hide from a test's traceback what went wrong. The
loop of the session does not run between tests; nothing is lost by that, since pages are closed by then. Tests
must name that loop, as above: the browser belongs to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, ViewportSize, async_playwright, expect

from tests.lab.jupyter_lab import JupyterLab, kernels
from tests.lab.notebook import PATIENCE_S, WIDE, Notebook
from tests.page.conftest import CHROMIUM, FLAGS

IPYKERNELS = ["python3", "ipykernel-6.31", "ipykernel-7.1"]  # python3: the one of this environment, the current 7.x

OpenNotebook = Callable[..., Awaitable[Notebook]]

expect.set_options(timeout=PATIENCE_S * 1000)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """JupyterLab, started when the first test asks for it."""
    running = JupyterLab(tmp_path_factory.mktemp("lab"))
    yield running
    running.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserContext]:
    """Chromium with its fake camera; one profile for all tests, so that JupyterLab is loaded from its cache."""
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH; apt install chromium")
    async with async_playwright() as playwright:
        environment: dict[str, str | float | bool] = {"HOME": str(tmp_path_factory.mktemp("browser"))}
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        size: ViewportSize = {"width": WIDE[0], "height": WIDE[1]}
        yield await chromium.new_context(viewport=size, permissions=["camera"])
        await chromium.close()


@pytest.fixture(params=IPYKERNELS)
def each_ipykernel(request: pytest.FixtureRequest) -> str:
    """The name of a kernel spec, one for each ipykernel that is to be tested."""
    name = str(request.param)
    if name not in kernels():
        pytest.skip(f"no {name}: `make setup` installs it")
    return name


@pytest_asyncio.fixture(loop_scope="session")
async def open_notebook(
    browser: BrowserContext, lab: JupyterLab, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[OpenNotebook]:
    """Opens notebooks: `await open_notebook(kernel="python3")`. All end with the test, their kernels too."""
    opened: list[Notebook] = []

    async def new(kernel: str = "python3") -> Notebook:
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name).strip('-')}-{len(opened)}.ipynb"
        empty = {"cells": [], "metadata": {"kernelspec": {"name": kernel, "display_name": kernel}}}
        content = {**empty, "nbformat": 4, "nbformat_minor": 5}
        body = {"type": "notebook", "format": "json", "content": content}
        await asyncio.to_thread(lab.ensure_running)
        await asyncio.to_thread(lab.api, f"contents/{name}", "PUT", body)
        page = await browser.new_page()
        notebook = Notebook(page, lab, name, tmp_path)
        opened.append(notebook)
        await notebook.open()
        return notebook

    yield new
    for notebook in opened:
        await notebook.close()
        await asyncio.to_thread(lab.end_kernel, notebook.name)
    for notebook in opened:
        assert notebook.errors == [], notebook.name


@pytest_asyncio.fixture(loop_scope="session")
async def notebook(open_notebook: OpenNotebook) -> Notebook:
    """A fresh notebook with a fresh kernel on this environment's ipykernel."""
    return await open_notebook()
