"""`FakeTransport`: a client's connection to nothing, for tests of programs that use clients.

It answers frames with a function, as a server would with a plugin: at once, in order, in the same loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from forgesyte_nb.errors import PluginError, WireError
from forgesyte_nb.protocol.messages import Subscribe, Unsubscribe
from forgesyte_nb.protocol.wire import timestamp
from forgesyte_nb.transport.base import Message, OutgoingFrame, TransportClosed

Answer = Callable[[OutgoingFrame], dict[str, Any]]


class FakeTransport:
    """A connection without a server.

    Example:
        fake = fs.FakeTransport(lambda frame: {"faces": 2})
        async with fs.Client(transport=fake) as client:
            assert (await client.analyze(picture, "faces"))["faces"] == 2
        assert fake.sent[0].plugin == "faces"

    Attributes:
        sent: Frames that the client has sent, in order.
        messages: Other messages that it has sent.
        connections: Number of times that the client has connected.
    """

    is_v2 = True
    takes_pixels = True
    max_message_bytes = 0

    def __init__(self, answer: Answer) -> None:
        """Answer each frame by a function.

        Args:
            answer: Returns the result of a frame, or raises: a `WireError`, such as `fs.PluginNotFound`, is answered as
                itself, any other exception as a `PluginError`.
        """
        self.sent: list[OutgoingFrame] = []
        self.messages: list[Message] = []
        self.connections = 0
        self._answer = answer
        self._numbers = itertools.count(1)
        self._received: deque[dict[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self._closed = "it was never opened"

    def open(self) -> None:
        """Begin a connection; called by the client."""
        self.connections += 1
        self._received.clear()
        self._closed = ""
        self._arrived = asyncio.Event()
        self.push({"type": "hello", "server_id": "fake", "session": f"fake-{self.connections}", "plugins": []})

    def push(self, message: dict[str, Any]) -> None:
        """Deliver a message to the client, such as a `broadcast`; on the client's loop."""
        self._received.append(message)
        self._arrived.set()

    def disconnect(self, reason: str = "the connection was lost") -> None:
        """Break the connection; the client connects again if it may. On the client's loop."""
        self._closed = self._closed or reason
        self._arrived.set()

    async def send(self, message: Message | OutgoingFrame) -> None:
        """Take a message of the client, and answer it."""
        if isinstance(message, OutgoingFrame):
            self.sent.append(message)
            self.push(self._answered(message))
            return
        self.messages.append(message)
        if isinstance(message, (Subscribe, Unsubscribe)):
            kind = "subscribed" if isinstance(message, Subscribe) else "unsubscribed"
            self.push({"type": kind, "topic": message.topic})

    def _answered(self, frame: OutgoingFrame) -> dict[str, Any]:
        about = {"frame_id": frame.frame_id, "job_id": f"job_fake_{next(self._numbers)}", "plugin": frame.plugin}
        try:
            result = self._answer(frame)
        except Exception as error:  # noqa: BLE001 -- as a server does with whatever a plugin raises
            refused = error if isinstance(error, WireError) else PluginError(f"{type(error).__name__}: {error}")
            return {"type": "error", **about, "error_code": refused.code, "message": str(refused)}
        return {"type": "frame_result", **about, "status": "success", "result": result, "timestamp": timestamp()}

    async def receive(self) -> dict[str, Any]:
        """The next message for the client."""
        while not self._received:
            if self._closed:
                raise TransportClosed(self._closed)
            self._arrived.clear()
            await self._arrived.wait()
        return self._received.popleft()

    async def close(self) -> None:
        """End the connection."""
        self.abort()

    def abort(self) -> None:
        """End the connection."""
        self.disconnect("the client closed it")

    def disown(self) -> None:
        """Nothing to release."""
