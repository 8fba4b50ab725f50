"""`LocalTransport`: a connection to a server in the same process.

Frames are handed over as objects: pixels are neither encoded nor copied on the way to the engine. The server runs on a
loop of its own thread; both loops wake each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from forgesyte_nb.image.data import data_of
from forgesyte_nb.image.pictures import RawImage
from forgesyte_nb.protocol.wire import IncomingFrame, encode
from forgesyte_nb.settings import Settings
from forgesyte_nb.transport.base import Message, OutgoingFrame, TransportClosed


class Take(Protocol):
    """The client's end of a connection without a socket."""

    def __call__(self, message: bytes | IncomingFrame, *, binary: bool = False) -> None:
        """Send a message or a frame, from any thread; an empty message disconnects for good."""


class LocalServer(Protocol):
    """What a transport needs of a server in this process."""

    @property
    def settings(self) -> Settings:
        """Its settings."""

    def connect_local(
        self, client_id: str, send: Callable[[list[bytes], list[bytes]], None], on_close: Callable[[], None] = ...
    ) -> Take:
        """Connect; see `Server.connect_local`."""


class LocalTransport:
    """A connection without a socket; made and used on one loop, which need not be the server's."""

    is_v2 = True
    takes_pixels = True
    max_message_bytes = 0

    def __init__(self, server: LocalServer, client_id: str) -> None:
        """Connect.

        Args:
            server: A running server of this process.
            client_id: The client's name.

        Raises:
            ServerError: If the server is closed.
        """
        self._loop = asyncio.get_running_loop()
        self._received: deque[bytes] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._closed = ""
        self._take = server.connect_local(client_id, self._on_messages, self._on_end)

    async def send(self, message: Message | OutgoingFrame) -> None:
        """Hand over a message or a frame."""
        if isinstance(message, OutgoingFrame):
            picture = message.picture
            image = picture.bytes if isinstance(picture, RawImage) else data_of(picture)
            self._take(
                IncomingFrame(
                    message.frame_id,
                    message.plugin,
                    message.options,
                    message.stream_id,
                    image,
                    picture.seq,
                    picture.captured_at,
                    picture.time_s,
                )
            )
        else:
            self._take(encode(message))

    async def receive(self) -> dict[str, Any]:
        """The next message of the server."""
        while not self._received:
            if self._closed:
                raise TransportClosed(self._closed)
            self._arrived = self._loop.create_future()
            await self._arrived
        message: dict[str, Any] = orjson.loads(self._received.popleft())
        return message

    async def close(self) -> None:
        """Leave the server."""
        self.abort()

    def abort(self) -> None:
        """Leave the server."""
        if not self._closed:
            self._closed = "the client closed it"
            self._take(b"")
            self._wake()

    def disown(self) -> None:
        """Nothing to release: there is no descriptor."""

    # On the server's loop

    def _on_messages(self, texts: list[bytes], _pictures: list[bytes]) -> None:
        self._call(self._add, texts)

    def _on_end(self) -> None:
        self._call(self._end)

    def _call(self, function: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the client's loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the client's loop

    def _add(self, texts: list[bytes]) -> None:
        self._received.extend(texts)
        self._wake()

    def _end(self) -> None:
        self._closed = self._closed or "the server was closed"
        self._wake()

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)
