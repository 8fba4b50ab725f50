"""`Listening`: a session of this kernel's own at its server, subscribed to topics, kept up when the server is replaced.

What tables and monitors are made of. Messages arrive on the server's thread, as bytes and with their short fields read:
a result is not parsed there, and whoever takes a message returns soon. It never starts a server: without one it listens
as soon as one is there.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from forgesyte_nb.background import disown_when_forked
from forgesyte_nb.errors import ServerError
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import Subscribe, Unsubscribe
from forgesyte_nb.protocol.topics import check_topic
from forgesyte_nb.server.current import on_serve, running_server
from forgesyte_nb.server.server import Server
from forgesyte_nb.transport.local import Take


class Summary(msgspec.Struct, frozen=True):
    """The short fields of a message, by their names on the wire; None where it has none. Results are skipped unread."""

    type: str
    job_id: Any = None
    plugin: Any = None
    frame_id: Any = None
    status: Any = None
    progress_percent: Any = None
    processing_time_ms: Any = None
    error_code: Any = None
    message: Any = None
    topic: Any = None


read_summary = msgspec.json.Decoder(Summary).decode

Heard = Callable[[Summary, bytes, str], None]
"""Called with the short fields of a message, the message itself as JSON, and the client id of who sent the frame that
it is about; that is empty if it is not known."""


class Listening:
    """Messages of some topics.

    Attributes:
        topics: What it is subscribed to; one that the server refuses is dropped.
    """

    def __init__(self, heard: Heard, topics: Iterable[str], server: Server | None = None) -> None:
        """Begin to listen.

        Args:
            heard: Told of each message of these topics, on the server's thread.
            topics: "all", "plugin_<name>" or job ids.
            server: Whose; by default this kernel's, also after it was replaced.

        Raises:
            InvalidMessage: If one is no topic.
        """
        self.topics: dict[str, None] = {check_topic(topic): None for topic in topics}
        self._heard = heard
        self._take: Take | None = None
        self._server: Server | None = None
        self._lock = threading.RLock()
        self._closed = False
        _listening.add(self)
        disown_when_forked(self, Listening._disown)
        self.enter(server or running_server())

    def enter(self, server: Server | None) -> None:
        """Listen at this server, if at none yet."""
        with self._lock:
            if self._closed or self._take is not None or server is None:
                return
            try:
                self._server = server
                self._take = server.connect_local(f"table_{secrets.token_hex(6)}", self._received, self._lost)
            except ServerError:
                return  # it is closing: the next one will call
            for topic in list(self.topics):  # one that is refused meanwhile is dropped
                self._take(wire.encode(Subscribe(topic)))

    def _received(self, texts: list[bytes], _pictures: list[bytes]) -> None:
        for text in texts:
            summary = read_summary(text)
            if summary.type == "error" and summary.topic in self.topics:
                self.topics.pop(summary.topic, None)  # refused, as over the server's `max_topics`
            if summary.type not in ("hello", "subscribed", "unsubscribed"):
                self._heard(summary, text, self._sender_of(summary))

    def _sender_of(self, summary: Summary) -> str:
        if self._server is None or not summary.job_id:
            return ""
        try:
            return self._server.sender_of(summary.job_id)
        except ServerError:
            return ""  # it is closing

    def _lost(self) -> None:
        self._take = None

    def _disown(self) -> None:
        """In a forked process: the server is the parent's; one that is started here is listened to."""
        self._take = self._server = None
        self._lock = threading.RLock()  # another thread may have held it

    def subscribe(self, topic: str) -> None:
        """Hear this topic too.

        Raises:
            InvalidMessage: If it is no topic.
        """
        with self._lock:
            self.topics[check_topic(topic)] = None
            if self._take is not None:
                self._take(wire.encode(Subscribe(topic)))

    def unsubscribe(self, topic: str) -> None:
        """Hear it no longer."""
        with self._lock:
            self.topics.pop(topic, None)
            if self._take is not None:
                self._take(wire.encode(Unsubscribe(topic)))

    def close(self) -> None:
        """Leave; twice is once."""
        with self._lock:
            self._closed = True
            take, self._take = self._take, None
        _listening.discard(self)
        if take is not None:
            take(b"")


_listening: weakref.WeakSet[Listening] = weakref.WeakSet()


def _served(server: Server) -> None:
    for listening in list(_listening):
        listening.enter(server)


on_serve.append(_served)
