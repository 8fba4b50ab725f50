"""What all tests share: servers on free ports, a client that speaks the seed's JSON and nothing else, pictures.

Nothing here sleeps for a fixed time: waiting ends when what is waited for has come, or fails at `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import linecache
import os
import signal
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import psutil
import pytest
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry, registering_in

pytest_plugins = ["tests.figures"]

PATIENCE_S = 90.0  # with a tenth of a processor a worker takes half a minute to start

# A property that fails ends at its first counterexample. Shrinking takes up to five minutes, and hypothesis takes
# the time limit for one more failure to shrink; `--hypothesis-profile=shrink` shrinks.
# A slow machine is no failure.
_BUSY = [hypothesis.HealthCheck.too_slow]
_WITHOUT_SHRINKING = set(hypothesis.Phase) - {hypothesis.Phase.shrink, hypothesis.Phase.explain}
hypothesis.settings.register_profile("shrink", deadline=None, suppress_health_check=_BUSY)
hypothesis.settings.register_profile(
    "forgesyte", hypothesis.settings.get_profile("shrink"), phases=_WITHOUT_SHRINKING, report_multiple_bugs=False
)
hypothesis.settings.load_profile("forgesyte")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what they run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait, on any thread but a loop's, until `condition()` is true; its value."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {patience_s:g} s in vain for {what}"
        time.sleep(0.01)
    return value


def run_cell(source: str, registry: Registry, **names: Any) -> dict[str, Any]:
    """Run source as a notebook cell would: in `__main__`, known to tracebacks; its plugins go to `registry`."""
    path = f"<cell {zlib.crc32(source.encode()):08x}>"  # equal text, equal name: as ipykernel does it
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    cell: dict[str, Any] = {"__name__": "__main__", "fs": fs, **names}
    with registering_in(registry):
        exec(compile(source, path, "exec"), cell)  # noqa: S102 -- the point of it
    return cell


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """An image file of an array or a Pillow image."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def get(server: fs.Server, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and body (parsed if it is JSON) of an HTTP look-up."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            status, body, kind = error.code, error.read(), error.headers["Content-Type"]
    return status, json.loads(body) if kind == "application/json" else body


class SeedClient:
    """One raw WebSocket that sends JSON as the seed writes it and keeps what comes back."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []
        self._fences = itertools.count(1)

    async def send(self, message: Any) -> None:
        """A dict as JSON; text and bytes as they are."""
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def frame(self, frame_id: str, image: bytes, plugin: str, options: Any = None, **more: Any) -> None:
        """A `send_frame`."""
        message = {"type": "send_frame", "frame_id": frame_id, "plugin": plugin, **more}
        message["image_data"] = base64.b64encode(image).decode()
        if options is not None:
            message["options"] = options
        await self.send(message)

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        self.heard.append(message)
        return message

    async def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The next message that is wanted; those before it are in `heard`."""
        while not wanted(message := await self.next()):
            pass
        return message

    async def terminal(self, frame_id: str | None) -> dict[str, Any]:
        """The terminal message of a frame, heard already or to come."""

        def wanted(message: dict[str, Any]) -> bool:
            return message["type"] in ("frame_result", "error") and message["frame_id"] == frame_id

        return next((message for message in self.heard if wanted(message)), None) or await self.until(wanted)

    async def analyze(self, frame_id: str, image: bytes, plugin: str, options: Any = None) -> dict[str, Any]:
        """Send a frame and wait for its last word, the update after a job's terminal message included."""
        await self.frame(frame_id, image, plugin, options)
        answer = await self.terminal(frame_id)
        if answer.get("job_id"):
            await self.until(lambda m: m["type"] == "job_update" and m["status"] in ("completed", "failed"))
        return answer

    async def fence(self) -> list[dict[str, Any]]:
        """All that was said up to now, the server's queues included; `heard` is emptied."""
        # Twice: an answer to this client may overtake a broadcast of the same turn, not one of an earlier turn.
        for _ in range(2):
            name = f"fence {next(self._fences)}"
            await self.send({"type": "no such type", "frame_id": name})
            await self.until(lambda m, name=name: m.get("frame_id") == name)
        said = [m for m in self.heard if not str(m.get("frame_id")).startswith("fence ")]
        self.heard = []
        return said


Connect = Callable[..., Any]


@pytest.fixture
async def client() -> AsyncIterator[Connect]:
    """Connects: `await client(server, "name")` is a `SeedClient`; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_client(server: fs.Server, client_id: str = "tester", **options: Any) -> SeedClient:
            url = f"ws://127.0.0.1:{server.port}/ws/{client_id}"
            options = {"max_size": None, "compression": None, "proxy": None, **options}
            return SeedClient(await stack.enter_async_context(connect(url, **options)))

        yield open_client


@pytest.fixture
def serve_on(tmp_path: Path) -> Iterator[Callable[..., fs.Server]]:
    """Starts servers: `serve_on(registry, engine="inline", **settings)`; all are closed at the end."""
    servers: list[fs.Server] = []

    def start(registry: Registry | None = None, *, log: Path | None = None, **settings: Any) -> fs.Server:
        settings = {"engine": "inline", "workers": 2, "drain_timeout_s": 1.0, **settings}
        server = fs.Server(
            port=0,
            settings=fs.Settings(**settings),
            plugin_registry=registry if registry is not None else Registry(),
            log=log or tmp_path / f"server-{len(servers)}.log",
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("FORGESYTE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"no shared {name}; set FORGESYTE_SHARED to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, faces and pages that is not part of the repository."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of files that earlier releases misread, which is not part of the repository."""
    return _shared("cases")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real photograph, `(512, 512, 3)`."""
    from skimage import data

    return np.asarray(data.astronaut())


@pytest.fixture(scope="session")
def jpeg(astronaut: np.ndarray) -> bytes:
    """The photograph as a JPEG of 256×256."""
    return encoded(astronaut[::2, ::2], "JPEG", quality=90)


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """A PNG of 8×8 gray pixels."""
    return encoded(np.full((8, 8, 3), 128, np.uint8))


def _ours() -> tuple[set[str], set[int]]:
    """Threads and worker processes of this package that are alive."""
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("forgesyte-")}
    workers = set()
    for process in psutil.Process().children():
        try:
            if "forgesyte_nb.engines.worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                workers.add(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return threads, workers


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each module no thread and no worker process of the package is left that was not there before."""
    threads, workers = _ours()
    yield

    def left() -> tuple[set[str], set[int]]:
        threads_now, workers_now = _ours()
        return threads_now - threads, workers_now - workers

    wait_for(lambda: left() == (set(), set()), f"threads and workers to end: {left()}")
