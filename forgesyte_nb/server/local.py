"""A connection without a socket: something in this process that speaks the protocol with the server.

Widgets use it where only the notebook's own channel reaches the browser, and tables that keep a history of their own.
Messages go in as the bytes a socket would bring and come out in the order a socket would send them, so behind it is a
session like any other. `send` and `on_close` are called on the server's loop. Opening one and handing it a message
never wait for that loop: a comm handler may do so while a cell spins.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.errors import ServerError
from forgesyte_nb.protocol.wire import IncomingFrame
from forgesyte_nb.sessions import Session
from forgesyte_nb.transport.local import Take

Send = Callable[[list[bytes], list[bytes]], None]
"""Called with text messages and binary messages, each as bytes; must return soon."""


class LocalConnection:
    """One session without a socket; made and used on the server's loop.

    Attributes:
        closed: Whether it was left.
        heard_at: Its other side is in this process, and never silent.
    """

    heard_at = reached_at = float("inf")

    def __init__(
        self,
        dispatcher: Dispatcher,
        client_id: str,
        send: Send,
        call_soon: Callable[[Callable[[], None]], object],
        on_cut: Callable[[LocalConnection], None],
    ) -> None:
        """Enter as a client that speaks `forgesyte.v2`; `on_cut` is called if the client goes on elsewhere."""
        self.closed = False
        self._on_cut = on_cut
        self._dispatcher = dispatcher
        self._send = send
        self._call_soon = call_soon
        self._session = dispatcher.reception.enter(client_id, numbered=True)
        self._scheduled = False
        self._session.connect(self)

    def receive(self, message: bytes | IncomingFrame, *, binary: bool = False) -> None:
        """Take a message."""
        if not self.closed:
            self._dispatcher.receive(self._session, message, binary=binary)

    def take_over(self, session: Session) -> None:
        """Serve another session from now on."""
        self.flush()
        self._session = session
        session.connect(self)

    def probe(self) -> None:
        """The other side is in this process: it is there."""

    def cut(self, reason: str) -> None:
        """End it: its client is elsewhere, in the same session."""
        if not self.closed:
            self.closed = True
            self._dispatcher.reception.leave(self._session, now=time.monotonic(), for_good=False, reason=reason)
            self._on_cut(self)

    def wake(self) -> None:
        """There is something in the outbox."""
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    wake_later = wake

    def flush(self) -> None:
        """Send what is in the outbox."""
        self._scheduled = False
        if self.closed:
            return
        outbox = self._session.outbox
        texts, pictures = outbox.take(), outbox.take_pictures()
        outbox.confirm(outbox.seq)
        if not (texts or pictures):
            return
        try:
            self._send(texts, pictures)
        except Exception:  # whatever the other side did, it must not stop the loop
            logging.getLogger(__name__).warning("a local connection failed and is closed", exc_info=True)
            self.close()

    def close(self) -> None:
        """Leave for good."""
        if not self.closed:
            self.closed = True
            self._dispatcher.reception.leave(self._session, now=time.monotonic(), for_good=True)


class LocalConnections:
    """All local connections of one server."""

    def __init__(self, dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop) -> None:
        """Make it without connections.

        Args:
            dispatcher: Of the server.
            loop: On which it runs.
        """
        self._dispatcher = dispatcher
        self._loop = loop
        self._open: dict[LocalConnection, Callable[[], None]] = {}
        self._closed = False
        self._posting = threading.Lock()  # what is posted before `close` has run is run; nothing is posted later

    def open(self, client_id: str, send: Send, on_close: Callable[[], None]) -> Take:
        """Enter, from any thread.

        Args:
            client_id: As in `/ws/<client_id>`.
            send: Called with what a socket would be sent.
            on_close: Called when the server ends, unless the connection was left before.

        Raises:
            ServerError: If the server has ended.
        """
        made: list[LocalConnection] = []

        def enter() -> None:
            if self._closed:
                on_close()
                return
            connection = LocalConnection(self._dispatcher, client_id, send, self._loop.call_soon, self._was_cut)
            made.append(connection)
            self._open[connection] = on_close

        def receive(message: bytes | IncomingFrame, binary: bool) -> None:
            if not made:
                return  # the server ended before `enter` could run
            connection = made[0]
            if message:
                connection.receive(message, binary=binary)
            else:
                connection.close()
            if connection.closed:
                self._open.pop(connection, None)

        def take(message: bytes | IncomingFrame, *, binary: bool = False) -> None:
            self._post(lambda: receive(message, binary))

        if not self._post(enter):
            raise ServerError("the server is closed; start one with fs.serve()")
        return take

    def _was_cut(self, connection: LocalConnection) -> None:
        on_close = self._open.pop(connection, None)
        if on_close is not None:
            on_close()

    def _post(self, call: Callable[[], None]) -> bool:
        """Run something on the server's loop; False if the server has ended."""
        with self._posting:
            if not self._closed:
                self._loop.call_soon_threadsafe(call)
            return not self._closed

    def close(self) -> None:
        """The server ends: give each what is left for it, and the news."""
        with self._posting:
            self._closed = True
        while self._open:
            connection, on_close = self._open.popitem()
            connection.flush()
            if not connection.closed:
                connection.close()
                on_close()
