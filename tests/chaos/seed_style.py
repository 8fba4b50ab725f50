"""A client that knows the seed's protocol alone, and comes back with its `client_id` when its connection breaks.

That is all a server may expect of others' clients: on coming back it gets what it is owed, and a frame of which it then
has heard nothing never was the server's, so it sends it again. Each connection is a plain one of `websockets`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import time
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.ledger import Ledger
from tests.conftest import PATIENCE_S

_PAUSE_S = 0.05


class SeedStyle:
    """One such client; `async with SeedStyle(url, "phone") as client`.

    Attributes:
        ledger: What it sent and heard.
        lost_at: When each connection was lost, monotonic seconds.
        back_at: When each connection but the first had brought all that was owed.
        more_heard: What it heard of others' frames, if it subscribed.
    """

    def __init__(self, url: str, client_id: str, **options: Any) -> None:
        self.ledger = Ledger()
        self.lost_at: list[float] = []
        self.back_at: list[float] = []
        self.more_heard: list[dict[str, Any]] = []
        self.topics: list[str] = []
        self._url = f"{url}/ws/{client_id}"
        self._options = {"max_size": None, "compression": None, "proxy": None, **options}
        self._frames: dict[str, str] = {}
        self._socket: ClientConnection | None = None
        self._fences = itertools.count(1)
        self._fence = ""
        self._running: asyncio.Task[None] | None = None

    @property
    def answered(self) -> int:
        """Frames that have an answer."""
        return len(self.ledger.terminals) + len(self.ledger.refusals)

    async def frame(self, frame_id: str, image: bytes, plugin: str, options: Any = None) -> None:
        """Send a frame; now, or when there is a connection."""
        frame = {"type": "send_frame", "frame_id": self.ledger.send(frame_id), "plugin": plugin}
        frame |= {"image_data": base64.b64encode(image).decode(), "options": options or {}}
        self._frames[frame_id] = json.dumps(frame)
        if not self._fence:  # else it goes out with what was never accepted
            await self._say(self._frames[frame_id])

    async def settled(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every frame has its answer, and each job its last update."""
        ledger = self.ledger
        async with asyncio.timeout(patience_s):
            while self.answered < len(ledger.sent) or len(ledger.last_words) < len(ledger.accepted):
                await asyncio.sleep(0.005)

    async def leave(self) -> None:
        """Say goodbye."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    def break_off(self) -> None:
        """Let the connection break on this side; what is on its way is lost."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def __aenter__(self) -> Self:
        self._socket = await self._connect()
        self._running = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def _connect(self) -> ClientConnection:
        while True:
            try:
                return await connect(self._url, **self._options)
            except (OSError, InvalidHandshake, EOFError):
                await asyncio.sleep(_PAUSE_S)

    async def _keep(self) -> None:
        """Read one connection after the other."""
        while True:
            assert self._socket is not None
            with contextlib.suppress(ConnectionClosed):
                async for data in self._socket:
                    await self._hear(json.loads(data))
            self.lost_at.append(time.monotonic())
            self._fence = f"fence {next(self._fences)}"
            self._socket = await self._connect()
            for topic in self.topics:
                await self._say(json.dumps({"type": "subscribe", "topic": topic}))
            await self._say(json.dumps({"type": "no such type", "frame_id": self._fence}))

    async def _hear(self, message: dict[str, Any]) -> None:
        frame_id = message.get("frame_id")
        if frame_id == self._fence:
            self.back_at.append(time.monotonic())
            await self._send_what_was_never_accepted()
        elif frame_id in self._frames:
            self.ledger.hear(message)
        elif not str(frame_id).startswith("fence "):
            self.more_heard.append(message)

    async def _send_what_was_never_accepted(self) -> None:
        self._fence = ""
        known = {*self.ledger.accepted.values(), *self.ledger.refusals}
        for frame_id, frame in list(self._frames.items()):
            if frame_id not in known:
                await self._say(frame)

    async def _say(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(text)
