"""A Chromium with a camera that is not there, a server to talk to, and a page that notices what goes wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S

HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=fps=30",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser these tests are skipped, and say so."""
    if CHROMIUM is None:
        skip = pytest.mark.skip(reason="no chromium, chromium-browser or google-chrome on PATH; apt install chromium")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


def start_server(port: int, log: Path) -> fs.Server:
    """A server with the test plugins."""
    return fs.Server(
        port=port,
        plugins=[HERE / "plugins"],
        settings=fs.Settings(engine="threads", workers=2),
        log=log,
        plugin_registry=Registry(),
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[fs.Server]:
    with start_server(0, tmp_path / "server.log") as running:
        yield running


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A gray picture of 320 × 240."""
    path = tmp_path / "gray.png"
    cv2.imwrite(str(path), np.full((240, 320, 3), 90, np.uint8))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        environment: dict[str, str | float | bool] = {"HOME": str(tmp_path_factory.mktemp("home"))}
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        yield chromium
        await chromium.close()


class Watched:
    """A page, and the errors that its console showed."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", self._keep)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _keep(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    async def open(self, server: fs.Server) -> None:
        """Go to the server's page and wait for its plugins."""
        await self.page.goto(server.page_url)
        await self.until("document.getElementById('plugin').options.length > 0")

    async def until(self, condition: str) -> None:
        """Wait for a JavaScript condition; `wait_for_function` would need `eval`, which the page's policy forbids."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self.page.evaluate(condition):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            seen = await self.page.evaluate("[document.body.innerText, {...document.getElementById('canvas').dataset}]")
            raise AssertionError(f"never came about: {condition}; on the page: {seen}; errors: {self.errors}") from None

    async def drop(self, path: Path, media_type: str) -> None:
        """Drop a file on the picture, as from a file manager."""
        parts = {"name": path.name, "type": media_type, "bytes": list(path.read_bytes())}
        dropped = await self.page.evaluate_handle(
            """({ name, type, bytes }) => {
                 const dropped = new DataTransfer();
                 dropped.items.add(new File([new Uint8Array(bytes)], name, { type }));
                 return dropped;
               }""",
            parts,
        )
        await self.page.dispatch_event("#view", "drop", {"dataTransfer": dropped})

    async def drawn(self) -> dict[str, Any]:
        """What was drawn last: counts of shapes, the plugin, results drawn so far."""
        found: dict[str, Any] = await self.page.evaluate("({...document.getElementById('canvas').dataset})")
        return found

    async def ledger(self) -> dict[str, int]:
        """The numbers that are shown, all of one moment."""
        names = ["sent", "results", "errors", "skipped", "pending"]
        found: dict[str, int] = await self.page.evaluate(
            "names => Object.fromEntries(names.map(name => [name, Number(document.getElementById(name).textContent)]))",
            names,
        )
        assert found["sent"] == found["results"] + found["errors"] + found["skipped"] + found["pending"], found
        return found

    async def settled(self) -> dict[str, int]:
        """The ledger once nothing is pending."""
        await self.until("document.getElementById('pending').textContent === '0'")
        return await self.ledger()


@pytest_asyncio.fixture(loop_scope="module")
async def watched(browser: Browser) -> AsyncIterator[Watched]:
    """A page of 1100 × 760; at its end, its console must have stayed clean."""
    page = await browser.new_page(viewport={"width": 1100, "height": 760})
    watching = Watched(page)
    yield watching
    await page.close()
    assert watching.errors == []
