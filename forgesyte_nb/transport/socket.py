"""`SocketTransport`: a connection to a server over a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from forgesyte_nb.background import point_nowhere
from forgesyte_nb.protocol.wire import encode
from forgesyte_nb.transport.base import Message, MessageTooLarge, OutgoingFrame, TransportClosed
from forgesyte_nb.transport.wire_format import WireFormat

CLOSE_TIMEOUT_S = 2.0
"""Longest wait for the server's side of a Close frame, in seconds."""

_TOO_BIG = 1009  # RFC 6455 section 7.4.1


class SocketTransport:
    """A WebSocket connection."""

    def __init__(self, socket: ClientConnection, *, lossless: bool = False) -> None:
        """Use an open connection.

        Args:
            socket: The connection.
            lossless: True to send raw pixels, as PNG where the server does not speak `forgesyte.v2`; False for JPEG.
        """
        self._socket = socket
        self._format = WireFormat(socket.subprotocol, lossless=lossless)
        self.is_v2 = self._format.is_v2
        self.takes_pixels = self._format.takes_pixels
        self.max_message_bytes = 0

    async def send(self, message: Message | OutgoingFrame) -> None:
        """Send a message as text, a frame as the subprotocol has it."""
        encoded, is_text = self._pack(message) if isinstance(message, OutgoingFrame) else (encode(message), True)
        if self.max_message_bytes and len(encoded) > self.max_message_bytes:
            raise MessageTooLarge
        try:
            await self._socket.send(encoded, text=is_text)
        except ConnectionClosed:
            return  # the client sends it again on the next connection

    def _pack(self, frame: OutgoingFrame) -> tuple[bytes, bool]:
        return self._format.pack(frame.frame_id, frame.plugin, frame.options, frame.stream_id, frame.picture)

    async def receive(self) -> dict[str, Any]:
        """The next message of the server; what is no message of the protocol is skipped."""
        while True:
            try:
                data = await self._socket.recv()
            except ConnectionClosed as closed:
                raise TransportClosed(self._reason(), too_large=self._socket.close_code == _TOO_BIG) from closed
            message = self._format.decode(data)
            if message is not None:
                return message

    def _reason(self) -> str:
        where = "" if self._socket.request is None else f" to {self._socket.request.headers.get('Host', '')}"
        return f"the connection{where} was lost: {self._socket.protocol.close_exc}"

    async def close(self) -> None:
        """Send a Close frame and wait for the server's."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close()
        except TimeoutError:  # the library waits for ever for a server that reads nothing
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Cut the connection at once."""
        self._socket.transport.abort()

    def disown(self) -> None:
        """Let the descriptor of a forked process lead nowhere."""
        point_nowhere([self._socket.transport.get_extra_info("socket").fileno()])
