"""What chaos suites share: servers in processes of their own, and clients that keep a ledger."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.chaos.apart import Apart
from tests.chaos.ledger import Ledger, Served, listen
from tests.conftest import PATIENCE_S, SeedClient

StartApart = Callable[..., Apart]


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[StartApart]:
    """Starts servers: `apart(PLUGINS, workers=1)`; all are closed at the end."""
    servers: list[Apart] = []

    def start(plugins: str, **settings: Any) -> Apart:
        folder = tmp_path / f"apart-{len(servers)}"
        folder.mkdir()
        servers.append(Apart(plugins, folder, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class BookedClient:
    """A client that speaks the seed's JSON, whose ledger is kept by a task that reads all the time.

    Attributes:
        ledger: What it sent and heard.
        client: Its socket.
    """

    def __init__(self, client: SeedClient, name: str) -> None:
        self.client = client
        self.ledger = Ledger()
        self._name = name
        self._numbers = itertools.count()
        self.reading = asyncio.create_task(listen(client, self.ledger))

    async def frame(self, image: bytes, plugin: str, options: Any = None, frame_id: str = "") -> str:
        """Send a frame; its id."""
        name = self.ledger.send(frame_id or f"{self._name} {next(self._numbers)}")
        await self.client.frame(name, image, plugin, options)
        return name

    async def until(self, condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until something is true of what was heard; fails if the connection ends before."""
        end = asyncio.get_running_loop().time() + patience_s
        while not condition():
            assert asyncio.get_running_loop().time() < end, f"waited in vain for {what}"
            ended = self.client.socket.protocol.close_exc if self.reading.done() else None
            assert not self.reading.done(), f"the connection ended while waiting for {what}: {ended}"
            await asyncio.sleep(0.002)

    async def answered(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until everything has an answer, and each job its last update."""
        ledger = self.ledger
        await self.until(
            lambda: not ledger.unanswered and len(ledger.last_words) == len(ledger.accepted), "answers", patience_s
        )


OpenBooked = Callable[..., Any]


@pytest.fixture
async def booked() -> AsyncIterator[OpenBooked]:
    """Connects: `await booked(server, "name")` is a `BookedClient`; all are closed at the end."""
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []

        async def open_booked(server: Served, client_id: str = "tester", **options: Any) -> BookedClient:
            url = f"ws://127.0.0.1:{server.port}/ws/{client_id}"
            options = {"max_size": None, "compression": None, "proxy": None, **options}
            socket = await stack.enter_async_context(connect(url, **options))
            one = BookedClient(SeedClient(socket), client_id)
            tasks.append(one.reading)
            return one

        yield open_booked
    await asyncio.gather(*tasks)
