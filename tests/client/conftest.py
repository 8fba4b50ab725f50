"""A real server on a free loopback port, pictures, and ways to break a connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgesyte_nb.image.frame import Frame
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server
from forgesyte_nb.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RESULT: dict[str, Any] = {
    "type": "frame_result",
    "job_id": "job_123",
    "status": "success",
    "result": {"text": "a"},
    "processing_time_ms": 245,
    "timestamp": "2026-01-11T17:30:45.123456Z",
}
FAST: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.05, "max_retries": 200}


class Gate:
    """Holds a plugin back until the test lets it go, and counts what came to it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._arrived = threading.Condition()
        self.calls: list[str] = []

    def open(self) -> None:
        self._open.set()

    def reset(self) -> None:
        self._open.clear()
        self.calls.clear()

    def pass_through(self, frame_id: str) -> None:
        with self._arrived:
            self.calls.append(frame_id)
            self._arrived.notify_all()
        assert self._open.wait(60)

    def wait_for(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.calls) >= count, 60)


def make_registry(gate: Gate) -> Registry:
    def mean(frame: Frame, *, k: int = 1) -> dict[str, Any]:
        return {"mean": float(frame.gray.mean()), "k": k, "size": {"w": frame.size_wh[0], "h": frame.size_wh[1]}}

    def boom(frame: Frame) -> dict[str, Any]:
        raise ValueError("the plugin fell over")

    def gated(frame: Frame) -> dict[str, Any]:
        gate.pass_through(frame.frame_id)
        return {"frame_id": frame.frame_id}

    def counter(frame: Frame, state: dict[str, int]) -> dict[str, Any]:
        state["n"] = state.get("n", 0) + 1
        return {"n": state["n"]}

    registry = Registry()
    for plugin in (mean, boom, gated, counter):
        registry.register(define(plugin, engine="threads"))
    return registry


@pytest.fixture(scope="module")
def module_gate() -> Gate:
    return Gate()


@pytest.fixture
def gate(module_gate: Gate) -> Iterator[Gate]:
    module_gate.reset()
    yield module_gate
    module_gate.open()


@pytest.fixture(scope="module")
def server(module_gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    settings = Settings(engine="threads", workers=2)
    with Server(port=0, settings=settings, plugin_registry=make_registry(module_gate), log=log) as running:
        yield running


@pytest.fixture
def start_server(module_gate: Gate, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers with settings of their own."""
    with contextlib.ExitStack() as stack:

        def start(*, port: int = 0, **settings: Any) -> Server:
            chosen = Settings(**{"engine": "threads", "workers": 1, "drain_timeout_s": 0.0, **settings})
            made = Server(port=port, settings=chosen, plugin_registry=make_registry(module_gate), log=tmp_path / "log")
            return stack.enter_context(made)

        yield start


class Cable:
    """A TCP relay to a server that can be cut and mended; the server lives on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._mended = asyncio.Event()
        self._mended.set()
        self.accepted = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Every connection breaks without a goodbye; new ones wait for `mend`."""
        self._mended.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        self._mended.set()

    def clog(self) -> None:
        """Nothing that clients send is taken any more, and no connection breaks."""
        for writer in self._writers[::2]:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads, too

    async def stop(self) -> None:
        self.mend()
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._mended.wait()
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, onward]
        await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
        for end in (writer, onward):
            end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.fixture
async def cable(server: Server) -> AsyncIterator[Cable]:
    relay = Cable(server.port)
    await relay.start()
    yield relay
    await relay.stop()


class Outside:
    """A server in a process of its own, which can be killed and started again on its port."""

    SCRIPT = """
import sys
import forgesyte_nb as fs

@fs.plugin(engine="inline")
def mean(frame) -> dict:
    return {"mean": float(frame.gray.mean())}

server = fs.serve(port=int(sys.argv[1]), engine="inline", log=sys.argv[2])
print(server.port, flush=True)
sys.stdin.read()
"""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}"

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self.SCRIPT, str(self.port), str(self._log), stdin=pipe, stdout=pipe, cwd=ROOT
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    process = Outside(tmp_path / "log")
    await process.start()
    yield process
    await process.kill()


def pictures(count: int, size: int = 32) -> list[bytes]:
    """Gray JPEGs that can be told apart by their brightness, 0, 1, 2, … 199, 0, …"""
    return [Frame.from_array(np.full((size, size, 3), index % 200, np.uint8)).bytes for index in range(count)]


@pytest.fixture(name="pictures")
def pictures_fixture() -> Callable[..., list[bytes]]:
    return pictures


@pytest.fixture
def picture() -> bytes:
    return pictures(101)[100]


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Real media kept beside the repository; a test that needs a file is skipped where it is absent."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("FORGESYTE_SHARED", ROOT.parent / "shared")) / "data" / name
        if not path.exists():
            pytest.skip(f"shared media absent: {name} (set FORGESYTE_SHARED)")
        return path

    return find


@pytest.fixture(params=[True, False], ids=["v2", "seed"])
def offer_v2(request: pytest.FixtureRequest) -> bool:
    """Whether the client offers `forgesyte.v2`."""
    return bool(request.param)
