"""Sessions: one client's side of the server, apart from any connection, and who takes over whose.

A session outlives a connection that broke. A client that knows only the seed takes over by coming back with its
client id: the session of that id that has been away longest, or one that turns out dead after all while the client is
back already. A client of `forgesyte.v2` gets a session of its own and says by epoch and secret which one it resumes.
Two live clients of one id have two sessions. Sans-I/O; times are given in, on a monotonic clock.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from typing import Protocol

from forgesyte_nb.outbox.outbox import Outbox
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool

MAX_STREAMS = 1000
"""Streams of one client whose frames are numbered."""


class Connection(Protocol):
    """What a session must know of the connection that empties its outbox.

    Attributes:
        heard_at: When its peer last gave a sign of life, monotonic seconds.
        reached_at: When its peer's operating system was last seen to acknowledge what it is sent, if it was asked.
    """

    heard_at: float
    reached_at: float

    def wake(self) -> None:
        """There is something in the outbox that should be written now."""

    def wake_later(self) -> None:
        """There is something that may wait a moment."""

    def take_over(self, session: Session) -> None:
        """Serve another session from now on."""

    def probe(self) -> None:
        """Find out whether the peer is still there; if it certainly is not, cut it off."""

    def cut(self, reason: str) -> None:
        """End it without a word; its session is left at once."""


class Session:
    """One client's side of the server.

    Attributes:
        client_id: As in `/ws/<client_id>`; not unique.
        session_id: Unique.
        epoch: Of the numbers of its messages; unique.
        secret: Who knows it may resume the session.
        outbox: What its client is to be sent.
        connection: Who empties the outbox; None while it is away.
        topics: What it is subscribed to.
        entered_at: When it began, monotonic seconds.
        heard_at: When its client last gave a sign of life, as far as that is known, monotonic seconds.
        reached_at: When the client's operating system last did, as far as it was asked.
        fresh: Whether its client has not said anything yet.
        away_since: When its connection broke, monotonic seconds; None while it has one.
        heir: The session in which its client goes on; None while that is this one.
        frames: Frames it sent.
        streams: Next number of the frames of each of its streams.
    """

    __slots__ = (
        "away_since",
        "client_id",
        "connection",
        "entered_at",
        "epoch",
        "frames",
        "fresh",
        "heard_at",
        "heir",
        "outbox",
        "reached_at",
        "secret",
        "session_id",
        "streams",
        "topics",
    )

    def __init__(self, client_id: str, settings: Settings, spool: Spool, *, numbered: bool, now: float) -> None:
        """Make a session without a connection."""
        self.client_id = client_id
        self.session_id = secrets.token_hex(8)
        self.epoch = secrets.token_hex(8)
        self.secret = secrets.token_urlsafe(16)
        self.outbox = Outbox(settings, spool, numbered=numbered)
        self.connection: Connection | None = None
        self.topics: set[str] = set()
        self.entered_at = self.heard_at = self.reached_at = now
        self.fresh = True
        self.away_since: float | None = None
        self.heir: Session | None = None
        self.frames = 0
        self.streams: dict[str, int] = {}

    def connect(self, connection: Connection) -> None:
        """A connection takes over."""
        self.connection = connection
        self.away_since = None
        self.outbox.connect(connection.wake, connection.wake_later)

    def disconnect(self, now: float) -> None:
        """The connection is gone."""
        if self.connection is not None:
            self.heard_at, self.reached_at = self.connection.heard_at, self.connection.reached_at
        self.connection = None
        self.away_since = now
        self.outbox.disconnect()

    @property
    def last_heir(self) -> Session:
        """The session in which its client goes on now."""
        session = self
        while session.heir is not None:
            session = session.heir
        return session

    @property
    def numbered(self) -> bool:
        """Whether its client speaks `forgesyte.v2`."""
        return self.outbox.numbered

    def next_seq(self, stream_id: str) -> int:
        """Number of the next frame of one of the client's streams, from 0; of many streams the oldest is forgotten."""
        seq = self.streams.get(stream_id, 0)
        self.streams[stream_id] = seq + 1
        if len(self.streams) > MAX_STREAMS:
            del self.streams[next(iter(self.streams))]
        return seq

    def __repr__(self) -> str:
        return f"<Session {self.client_id} {self.session_id}>"


class SessionBook:
    """All sessions, those with a connection and those that wait for one."""

    def __init__(self, settings: Settings, spool: Spool) -> None:
        """Make an empty book; what clients are owed and is too much for memory goes to the spool."""
        self._settings = settings
        self._spool = spool
        self._sessions: dict[str, list[Session]] = {}
        self._by_epoch: dict[str, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_epoch.values()))

    def __len__(self) -> int:
        return len(self._by_epoch)

    def attach(self, client_id: str, *, numbered: bool, now: float) -> Session:
        """The session for a new connection: one that waits for a client that knows no numbers, or a new one."""
        group = self._sessions.setdefault(client_id, [])
        away = [session for session in group if session.away_since is not None and not session.numbered]
        if away and not numbered:
            longest = min(away, key=lambda session: session.away_since or 0.0)
            longest.entered_at = now
            return longest
        session = Session(client_id, self._settings, self._spool, numbered=numbered, now=now)
        group.append(session)
        self._by_epoch[session.epoch] = session
        return session

    def rivals(self, session: Session) -> list[Session]:
        """Other sessions of the same client id that have a connection and know no numbers."""
        return [
            other
            for other in self._sessions.get(session.client_id, ())
            if other is not session and other.connection is not None and not other.numbered
        ]

    def successor(self, session: Session, *, certain: bool) -> Session | None:
        """Who has come back instead of this session's client: the first of its name since it was last heard of.

        One of the same name that came while this client still gave signs of life is somebody else. One that came while
        at least the client's operating system did is so perhaps: either may be the client, until it has stayed away.

        Args:
            session: Whose client is gone.
            certain: Whether it must be beyond doubt.
        """
        if session.numbered:
            return None
        since = max(session.heard_at, session.reached_at) if certain else session.heard_at
        later = [other for other in self.rivals(session) if other.entered_at > since]
        return min(later, key=lambda other: other.entered_at, default=None)

    def find(self, epoch: str, secret: str) -> Session | None:
        """The session that a client may resume."""
        found = self._by_epoch.get(epoch)
        if found is None or not hmac.compare_digest(found.secret.encode(), secret.encode(errors="replace")):
            return None
        return found

    def end(self, session: Session) -> None:
        """Forget a session."""
        self._by_epoch.pop(session.epoch, None)
        group = self._sessions.get(session.client_id, [])
        if session in group:
            group.remove(session)
        if not group:
            self._sessions.pop(session.client_id, None)

    def expired(self, now: float) -> list[Session]:
        """Sessions whose client has been away too long; of too many, or too much kept for all, those longest away."""
        away = sorted(
            (session for session in self._by_epoch.values() if session.away_since is not None),
            key=lambda session: session.away_since or 0.0,
        )
        surplus = sum(session.outbox.kept_bytes for session in away) - self._settings.sessions_bytes
        too_many = len(away) - self._settings.max_connections
        expired: list[Session] = []
        for session in away:
            if (
                len(expired) < too_many
                or surplus > 0
                or now - (session.away_since or 0.0) > self._settings.session_grace_s
            ):
                expired.append(session)
                surplus -= session.outbox.kept_bytes
        return expired

    def connected(self) -> list[Session]:
        """Sessions that have a connection."""
        return [session for session in self._by_epoch.values() if session.connection is not None]
