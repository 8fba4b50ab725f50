"""A connection without a socket: something in this process that speaks the protocol with the server.

Widgets use it where only the notebook's own channel reaches the browser, and tables that keep a history of their own.
Messages go in as the bytes a socket would bring and come out in the order a socket would send them, so behind it is a
session like any other. `send` is called on the server's loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from forgesyte_nb.dispatch import Dispatcher

Send = Callable[[list[bytes], list[bytes]], None]
"""Called with text messages and binary messages, each as bytes; must return soon."""


class LocalConnection:
    """One session without a socket; made and used on the server's loop."""

    def __init__(
        self, dispatcher: Dispatcher, client_id: str, send: Send, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        """Enter as a client that speaks `forgesyte.v2`."""
        self._dispatcher = dispatcher
        self._send = send
        self._call_soon = call_soon
        self._session = dispatcher.enter(client_id, numbered=True)
        self._scheduled = False
        self._closed = False
        self._session.connect(self._schedule)

    def receive(self, message: bytes, *, binary: bool = False) -> None:
        """Take a message."""
        if not self._closed:
            self._dispatcher.receive(self._session, message, binary=binary)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        texts, pictures = self._session.take(), self._session.take_pictures()
        self._session.confirm(self._session.given)
        try:
            self._send(texts, pictures)
        except Exception:  # whatever the other side did, it must not stop the loop
            logging.getLogger(__name__).warning("a local connection failed and is closed", exc_info=True)
            self.close()

    def close(self) -> None:
        """Leave for good."""
        if not self._closed:
            self._closed = True
            self._dispatcher.leave(self._session, now=time.monotonic(), for_good=True)
