"""Chromium driven by its own protocol, with nothing between: pages that run JavaScript, and little else.

Playwright has itself told of all that a page receives: the browser encodes every WebSocket message for it, on the
page's own thread, and a picture is seen two milliseconds later than it would be. So rows use this. `Page` has what
`tests.lab.notebook.Notebook` needs of it, by the same names: `evaluate`, `goto`, `reload`, `on`, `screenshot`.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.bench import Skipped
from tests.benchmarks.load import Wrong
from tests.page.conftest import CHROMIUM, FLAGS

_START_S = 30.0
_END_S = 10.0
_CALL_S = 60.0

_EVALUATE = "(value => typeof value === 'function' ? value({argument}) : value)((0, eval)({code}))"


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        """Made by `open_page`."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[Any], object]] = {}
        self._loaded = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                message = json.loads(text)
                if "id" in message:
                    waiting = self._waiting.pop(message["id"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
                else:
                    self._hear(message["method"], message["params"])
        except ConnectionClosed:
            pass  # whoever waits is told below
        for waiting in self._waiting.values():
            waiting.set_exception(Wrong("Chromium has ended"))

    def _hear(self, event: str, said: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", details["text"])
            self._tell("pageerror", SimpleNamespace(stack=thrown))
        elif event == "Runtime.consoleAPICalled" and said["type"] == "error":
            text = " ".join(str(each.get("value", each.get("description"))) for each in said["args"])
            self._tell("console", SimpleNamespace(type="error", text=text, location={}))

    def _tell(self, event: str, what: SimpleNamespace) -> None:
        if event in self._listeners:
            self._listeners[event](what)

    def on(self, event: str, listener: Callable[[Any], object]) -> None:
        """Call `listener` at each "console" error or "pageerror"."""
        self._listeners[event] = listener

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol.

        Raises:
            Wrong: If it fails, or the browser has ended.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
            message = await asyncio.wait_for(answer, _CALL_S)
        except (ConnectionClosed, TimeoutError) as error:
            raise Wrong(f"Chromium does not answer {method}: {error}") from error
        if "error" in message:
            raise Wrong(f"{method}: {message['error']['message']}")
        result: dict[str, Any] = message["result"]
        return result

    async def evaluate(self, code: str, argument: Any = None) -> Any:
        """The value of JavaScript; of a function, what it returns when called with `argument`. Promises are awaited.

        Raises:
            Wrong: If it throws.
        """
        expression = _EVALUATE.format(argument=json.dumps(argument), code=json.dumps(code))
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Wrong(f"{code[:200]}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    async def goto(self, url: str) -> None:
        """Go to an address, and wait until it has loaded."""
        await self._load("Page.navigate", url=url)

    async def reload(self) -> None:
        """Load the page anew, and wait until it has loaded."""
        await self._load("Page.reload")

    async def _load(self, method: str, **parameters: Any) -> None:
        self._loaded.clear()
        await self.call(method, **parameters)
        async with asyncio.timeout(_CALL_S):
            await self._loaded.wait()

    async def screenshot(self, path: Path) -> None:
        """A PNG of what is in the window."""
        answer = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def open_page(
    folder: Path, *, width: int, height: int, script: str
) -> AsyncIterator[tuple[Page, psutil.Process]]:
    """Start Chromium; its page of that size, and its first process. It ends with the block.

    Args:
        folder: For its profile.
        width: Of the window, in pixels.
        height: Of the window.
        script: JavaScript that each document runs before anything else.

    Raises:
        Skipped: If there is no browser.
        Wrong: If it does not start.
    """
    if CHROMIUM is None:
        raise Skipped("no chromium, chromium-browser or google-chrome on PATH; apt install chromium")
    process = _start(CHROMIUM, folder)
    try:
        address = await asyncio.to_thread(_address, await _port(folder, process))
        async with connect(address, max_size=None, compression=None, proxy=None) as socket:
            page = Page(socket)
            await page.call("Page.enable")
            await page.call("Runtime.enable")
            await page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            await page.call("Emulation.setFocusEmulationEnabled", enabled=True)  # JupyterLab asks what has the focus
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
            yield page, psutil.Process(process.pid)
    finally:
        await asyncio.to_thread(_end, process)


def _start(chromium: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [chromium, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _port(folder: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that it writes into its profile."""
    note = folder / "DevToolsActivePort"
    try:
        async with asyncio.timeout(_START_S):
            while process.poll() is None:
                if note.exists() and (lines := note.read_text().splitlines()):
                    return int(lines[0])
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Wrong(f"Chromium did not start within {_START_S:g} s") from None
    raise Wrong(f"Chromium ended with exit code {process.returncode}")


def _address(port: int) -> str:
    """The WebSocket of its first page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_START_S) as answer:
            targets = json.load(answer)
    except urllib.error.URLError as error:
        raise Wrong(f"Chromium does not list its pages: {error}") from error
    return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        started = []
    process.terminate()
    _, alive = psutil.wait_procs(started, timeout=_END_S)
    for each in alive:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            pass  # it ended by itself just now
    process.wait()
