"""A plain WebSocket server for a kernel's cell, which tells what reaches it and does what messages ask of it."""

from __future__ import annotations

import asyncio
import http
import json
import threading
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from forgesyte_nb.jupyter.kernel_file import publish

PORTION = b"x" * 65536
STALLED_S = 1.0


class Stub:
    """The server, on a thread of its own.

    Attributes:
        closes: Code and reason with which each connection ended.
        headers: Of each request.
        stalled: Portions that were taken before a send had to wait.
        received: Portions that came while nobody was told to read.
    """

    def __init__(self) -> None:
        self.closes: list[tuple[int | None, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.stalled: int | None = None
        self.received = 0
        self.port = 0
        self._ready = threading.Event()
        self._go_on: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True).start()
        assert self._ready.wait(30)
        assert publish(server_id="stub", port=self.port) is not None

    async def _run(self) -> None:
        self._go_on = asyncio.Event()
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._look,
            select_subprotocol=lambda _, offered: Subprotocol("forgesyte.v2") if "forgesyte.v2" in offered else None,
            compression="deflate",  # taken up if the relay let an extension through
            max_size=64 * 1024 * 1024,
            ping_interval=None,
            close_timeout=2,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await asyncio.Event().wait()

    def go_on(self) -> None:
        """Let a connection that was told to wait read on."""
        assert self._go_on is not None
        self._loop.call_soon_threadsafe(self._go_on.set)

    def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(dict(request.headers.raw_items()))
        if request.path.startswith("/ws/"):
            return None
        answer = connection.respond(http.HTTPStatus.OK, "seen")
        answer.headers["Set-Cookie"] = "stolen=1"
        return answer

    async def _serve(self, connection: ServerConnection) -> None:
        pong: Any = None
        try:
            async for message in connection:
                if message == "close":
                    await connection.close(4002, "the stub says goodbye")
                elif message == "break":
                    connection.transport.abort()
                elif message == "ping":
                    pong = await connection.ping(b"receipt 7")
                elif message == "pong?":
                    await connection.send("yes" if pong.done() else "no")
                elif isinstance(message, str) and message.startswith("flood "):
                    await self._flood(connection, int(message.removeprefix("flood ")))
                elif message == "wait":
                    assert self._go_on is not None
                    await self._go_on.wait()
                elif message == PORTION:
                    self.received += 1
                elif message == "received?":
                    await connection.send(json.dumps(self.received))
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        await connection.wait_closed()
        self.closes.append((connection.close_code, connection.close_reason))

    async def _flood(self, connection: ServerConnection, portions: int) -> None:
        for number in range(portions):
            sending = asyncio.ensure_future(connection.send(PORTION))
            if self.stalled is None and not (await asyncio.wait({sending}, timeout=STALLED_S))[0]:
                self.stalled = number
            await sending
