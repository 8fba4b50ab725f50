"""Sessions: what one client is subscribed to and what it is owed, apart from any connection.

A `Session` has an outbox that a connection (or a widget) empties; it is told by `wake` that there is something in
it. What a client is owed for its own frames is kept until its side has confirmed it (`confirm`), or as long as
the session lives; of broadcasts a slow subscriber
loses the oldest, and they are counted. A session outlives a connection that broke: the next connection with the
same client id takes it over, the one that has been away longest first. Sans-I/O: no socket, no clock of its own.
"""

from __future__ import annotations

import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterable

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.jobs import Job
from forgesyte_nb.protocol.topics import ALL, plugin_topic
from forgesyte_nb.protocol.wire import with_seq

KEPT_BYTES = 64 * 1024 * 1024
"""Owed messages kept until they are confirmed: more than sockets can hold on their way."""

MAX_STREAMS = 1000
"""Streams of one client whose frames are numbered."""


class Session:
    """One client's side of the server.

    Attributes:
        client_id: As in `/ws/<client_id>`; not unique.
        session_id: Unique.
        topics: What it is subscribed to.
        numbered: Whether its messages carry `seq` (`forgesyte.v2`).
        away_since: When its connection broke, monotonic seconds; None while it has one.
        dropped: Broadcasts that it was too slow for.
        sent: Messages it was given.
        owed_bytes: Size of the owed messages in the outbox.
    """

    __slots__ = (
        "_awake",
        "_broadcast_bytes",
        "_broadcasts",
        "_given",
        "_greeting",
        "_limit_bytes",
        "_owed",
        "_pictures",
        "_states",
        "_unconfirmed",
        "_unconfirmed_bytes",
        "_wake",
        "_wake_later",
        "away_since",
        "client_id",
        "dropped",
        "frames",
        "numbered",
        "owed_bytes",
        "sent",
        "seq",
        "session_id",
        "streams",
        "topics",
    )

    def __init__(self, client_id: str, *, limit_bytes: int) -> None:
        """Make a session without a connection."""
        self.client_id = client_id
        self.session_id = secrets.token_hex(8)
        self.topics: set[str] = set()
        self.numbered = False
        self.seq = 0
        self.away_since: float | None = None
        self.dropped = 0
        self.sent = 0
        self.frames = 0
        self.streams: dict[str, int] = {}
        self._owed: list[bytes] = []
        self.owed_bytes = 0
        self._given = 0
        self._greeting: bytes | None = None
        self._unconfirmed: deque[bytes] = deque()
        self._unconfirmed_bytes = 0
        self._broadcasts: deque[bytes] = deque()
        self._broadcast_bytes = 0
        self._limit_bytes = limit_bytes
        self._pictures: dict[str, bytes] = {}
        self._states: dict[str, bytes] = {}
        self._wake: Callable[[], object] | None = None
        self._wake_later: Callable[[], object] | None = None
        self._awake = False

    def connect(self, wake: Callable[[], object], wake_later: Callable[[], object] | None = None) -> None:
        """A connection takes over.

        Args:
            wake: Called once when there is something in the outbox that should be written now.
            wake_later: Called when there is only what may wait a moment; by default, `wake`.
        """
        self._wake = wake
        self._wake_later = wake_later or wake
        self._awake = False
        self.away_since = None
        if self.waiting:
            self._rouse()

    def disconnect(self, now: float) -> None:
        """The connection is gone; broadcasts are not kept for one who is away."""
        self._wake = self._wake_later = None
        self._awake = False
        self._greeting = None
        self.away_since = now
        # What was written last may not have arrived: it is owed again, before the rest.
        self._given -= len(self._unconfirmed)
        self._owed[:0] = self._unconfirmed
        self.owed_bytes += self._unconfirmed_bytes
        self._unconfirmed.clear()
        self._unconfirmed_bytes = 0
        self._broadcasts.clear()
        self._broadcast_bytes = 0
        self._pictures.clear()
        self._states.clear()

    @property
    def connected(self) -> bool:
        """Whether somebody empties the outbox."""
        return self._wake is not None

    @property
    def waiting(self) -> int:
        """Messages in the outbox."""
        waiting = len(self._owed) + len(self._broadcasts) + len(self._states) + len(self._pictures)
        return waiting + (self._greeting is not None)

    def owe(self, encoded: bytes) -> None:
        """Put a message about the client's own doings into the outbox; it is never dropped."""
        self._owed.append(encoded)
        self.owed_bytes += len(encoded)
        if not self._awake:
            self._rouse()

    def owe_later(self, encoded: bytes) -> None:
        """As `owe`, for news that may wait a moment for something to go out with."""
        first = not self._owed
        self._owed.append(encoded)
        self.owed_bytes += len(encoded)
        if first and not self._awake and self._wake_later is not None:
            self._wake_later()

    def greet(self, encoded: bytes) -> None:
        """Put a message before all others in the outbox, for this connection alone: it is not owed to the next."""
        self._greeting = encoded
        if not self._awake:
            self._rouse()

    def offer(self, encoded: bytes) -> None:
        """Put a broadcast into the outbox; the oldest are dropped if it is over its limit."""
        if self._wake is None:
            return
        self._broadcasts.append(encoded)
        self._broadcast_bytes += len(encoded)
        while self._broadcast_bytes > self._limit_bytes and len(self._broadcasts) > 1:
            self._broadcast_bytes -= len(self._broadcasts.popleft())
            self.dropped += 1
        if not self._awake:
            self._rouse()

    def show_state(self, feed_id: str, encoded: bytes) -> None:
        """Put the newest state of a feed into the outbox, in place of one that still waits there."""
        self._states[feed_id] = encoded
        if not self._awake:
            self._rouse()

    def show_picture(self, feed_id: str, encoded: bytes) -> None:
        """Put the newest picture of a feed, a binary message, into the outbox, in place of one that still waits."""
        self._pictures[feed_id] = encoded
        if not self._awake:
            self._rouse()

    def hide(self, feed_id: str) -> None:
        """What waits of a feed is wanted no longer."""
        self._states.pop(feed_id, None)
        self._pictures.pop(feed_id, None)

    def take_pictures(self) -> list[bytes]:
        """Take the binary messages from the outbox; they are never owed, and carry no number."""
        pictures = list(self._pictures.values())
        self._pictures.clear()
        return pictures

    def take(self, max_bytes: int = sys.maxsize) -> list[bytes]:
        """Take the text messages: what is owed first, each message with its number if the client wants one.

        What is owed is kept until it is confirmed. Only a client that never confirms, against the protocol, can have
        more than `KEPT_BYTES` of it under way, and loses the oldest if its connection breaks.

        Args:
            max_bytes: Of what is owed; at least one message is taken, and the rest stays for the next time.
        """
        messages = self._take_owed(max_bytes)
        size = sum(map(len, messages))
        self.owed_bytes -= size
        self._given += len(messages)
        self._unconfirmed.extend(messages)
        self._unconfirmed_bytes += size
        while self._unconfirmed_bytes > KEPT_BYTES and len(self._unconfirmed) > 1:
            self._unconfirmed_bytes -= len(self._unconfirmed.popleft())
        if self._greeting is not None:
            messages = [self._greeting, *messages]
            self._greeting = None
        if self._broadcasts:
            messages.extend(self._broadcasts)
            self._broadcasts.clear()
            self._broadcast_bytes = 0
        if self._states:
            messages.extend(self._states.values())
            self._states.clear()
        self._awake = False
        self.sent += len(messages)
        if self.numbered:
            first = self.seq + 1
            self.seq += len(messages)
            messages = [with_seq(message, first + index) for index, message in enumerate(messages)]
        return messages

    def _take_owed(self, max_bytes: int) -> list[bytes]:
        owed = self._owed
        if self.owed_bytes <= max_bytes:
            self._owed = []
            return owed
        count, size = 0, 0
        for message in owed:
            size += len(message)
            if count and size > max_bytes:
                break
            count += 1
        self._owed = owed[count:]
        return owed[:count]

    @property
    def given(self) -> int:
        """Number of the last owed message that was taken, from 1."""
        return self._given

    def confirm(self, number: int) -> None:
        """The client's side has received all owed messages up to this number."""
        unconfirmed = self._unconfirmed
        surplus = number - (self._given - len(unconfirmed))
        for _ in range(min(surplus, len(unconfirmed))):
            self._unconfirmed_bytes -= len(unconfirmed.popleft())

    def next_seq(self, stream_id: str) -> int:
        """Number of the next frame of one of the client's streams, from 0; of many streams the oldest is forgotten."""
        seq = self.streams.get(stream_id, 0)
        self.streams[stream_id] = seq + 1
        if len(self.streams) > MAX_STREAMS:
            del self.streams[next(iter(self.streams))]
        return seq

    def _rouse(self) -> None:
        if self._wake is not None:
            self._awake = True
            self._wake()

    def __repr__(self) -> str:
        return f"<Session {self.client_id} {self.session_id}>"


class Subscriptions:
    """Who is subscribed to what."""

    def __init__(self, *, max_topics: int) -> None:
        """Make an empty book; `max_topics` bounds one client's."""
        self._max_topics = max_topics
        self._by_topic: dict[str, set[Session]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_topic)

    def add(self, session: Session, topic: str) -> None:
        """Subscribe; twice is once.

        Raises:
            InvalidMessage: If the client has too many topics.
        """
        if topic not in session.topics and len(session.topics) >= self._max_topics:
            raise InvalidMessage(f"{len(session.topics)} topics are subscribed already, the limit; unsubscribe some")
        session.topics.add(topic)
        self._by_topic.setdefault(topic, set()).add(session)

    def remove(self, session: Session, topic: str) -> None:
        """Unsubscribe; from what one is not subscribed to is no error."""
        session.topics.discard(topic)
        subscribers = self._by_topic.get(topic)
        if subscribers is not None:
            subscribers.discard(session)
            if not subscribers:
                del self._by_topic[topic]

    def close(self, topic: str) -> None:
        """Nothing more will be said on it: nobody is subscribed to it any longer."""
        for session in self._by_topic.pop(topic, ()):
            session.topics.discard(topic)

    def leave(self, session: Session) -> None:
        """Unsubscribe from everything."""
        for topic in list(session.topics):
            self.remove(session, topic)

    def of_topic(self, topic: str) -> set[Session]:
        """Subscribers of one topic."""
        return self._by_topic.get(topic, set())

    def of_job(self, job: Job) -> set[Session]:
        """Subscribers of a job by any of its topics, each once, its owner not among them."""
        by_topic = self._by_topic
        found: set[Session] = set()
        for topic in (ALL, job.job_id, plugin_topic(job.entry.plugin.name)):
            subscribers = by_topic.get(topic)
            if subscribers:
                found |= subscribers
        found.discard(job.owner)
        return found


class SessionBook:
    """All sessions, those with a connection and those that wait for one."""

    def __init__(self, *, outbox_bytes: int, grace_s: float, max_owed_bytes: int) -> None:
        """Make an empty book.

        Args:
            outbox_bytes: Broadcast bytes that wait for one client.
            grace_s: Time a session lives without a connection.
            max_owed_bytes: Size of the messages kept for a client that is away.
        """
        self._outbox_bytes = outbox_bytes
        self._grace_s = grace_s
        self._max_owed_bytes = max_owed_bytes
        self._sessions: dict[str, list[Session]] = {}

    def __iter__(self) -> Iterable[Session]:
        return (session for group in self._sessions.values() for session in group)

    def __len__(self) -> int:
        return sum(len(group) for group in self._sessions.values())

    def attach(self, client_id: str) -> Session:
        """The session for a new connection: one that waits for this client, or a new one."""
        group = self._sessions.setdefault(client_id, [])
        away = [session for session in group if session.away_since is not None]
        if away:
            return min(away, key=lambda session: session.away_since or 0.0)
        session = Session(client_id, limit_bytes=self._outbox_bytes)
        group.append(session)
        return session

    def end(self, session: Session) -> None:
        """Forget a session."""
        group = self._sessions.get(session.client_id, [])
        if session in group:
            group.remove(session)
        if not group:
            self._sessions.pop(session.client_id, None)

    def expired(self, now: float) -> list[Session]:
        """Sessions whose client has been away too long, or is owed more than is kept for it."""
        return [
            session
            for group in self._sessions.values()
            for session in group
            if session.away_since is not None
            and (now - session.away_since > self._grace_s or session.owed_bytes > self._max_owed_bytes)
        ]

    def of_client(self, client_id: str) -> list[Session]:
        """Sessions of one client id."""
        return list(self._sessions.get(client_id, ()))

    def connected(self) -> list[Session]:
        """Sessions that have a connection."""
        return [session for group in self._sessions.values() for session in group if session.connected]
