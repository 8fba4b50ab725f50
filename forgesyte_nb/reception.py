"""The reception: clients that come, come back, are handed on and leave, and the sessions this gives and takes.

Who may take over what is the sessions' own business (`SessionBook`); here it is done: outboxes, subscriptions, viewers
and connections change hands together, and the log hears of it. Runs on the loop's thread; knows sessions, not sockets.
"""

from __future__ import annotations

import logging
import secrets
import time

from forgesyte_nb import __version__
from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import Hello, Resume, Resumed
from forgesyte_nb.sessions import Session, SessionBook
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool
from forgesyte_nb.subscriptions import Subscriptions
from forgesyte_nb.tally import Tally
from forgesyte_nb.viewers import Viewers


class Reception:
    """Clients that come and go.

    Attributes:
        sessions: All sessions.
        subscriptions: Who is subscribed to what.
        server_id: Unique; a client learns by it whether it still talks to the same server.
        viewers: Who sees which feed; None before the server has opened.
    """

    def __init__(self, registry: Registry, settings: Settings, spool: Spool, tally: Tally, log: logging.Logger) -> None:
        """Open it, without clients.

        Args:
            registry: Whose plugins newcomers are told.
            settings: Limits.
            spool: Where what clients are owed goes if it is too much for memory.
            tally: Where connections are counted.
            log: For who comes and goes.
        """
        self.sessions = SessionBook(settings, spool)
        self.subscriptions = Subscriptions(max_topics=settings.max_topics)
        self.server_id = secrets.token_hex(8)
        self.viewers: Viewers | None = None
        self.tally = tally
        self._registry = registry
        self._settings = settings
        self._log = log
        self._gone: dict[Session, float] = {}

    def enter(self, client_id: str, *, numbered: bool) -> Session:
        """The session of a new connection: the one its client left when it was cut off, or a new one.

        Args:
            client_id: As in the path.
            numbered: Whether the connection speaks `forgesyte.v2`.
        """
        session = self.sessions.attach(client_id, numbered=numbered, now=time.monotonic())
        if not numbered:
            for rival in self.sessions.rivals(session):
                if rival.connection is not None:
                    rival.connection.probe()
        self.tally.connections += 1
        if numbered:
            hello = Hello(
                server_id=self.server_id,
                session=session.session_id,
                epoch=session.epoch,
                secret=session.secret,
                version=__version__,
                max_message_bytes=self._settings.max_message_bytes,
                max_image_pixels=self._settings.max_image_pixels,
                max_options_bytes=self._settings.max_options_bytes,
                plugins=[plugin.name for plugin in self._registry.plugins_known()],
                feeds=feed_book().infos(),
                feeds_id=feed_book().book_id,
            )
            session.outbox.greet(wire.encode(hello))
        back = "" if session.away_since is None else f", back with {session.outbox.waiting} messages waiting"
        self._log.info("connected client=%s session=%s%s", client_id, session.session_id, back)
        return session

    def resume(self, session: Session, message: Resume, *, is_first: bool) -> None:
        """A client that speaks `forgesyte.v2` is back: it goes on in its old session, if that is still there."""
        if not session.numbered:
            raise InvalidMessage("resume is for clients that offer the subprotocol 'forgesyte.v2'")
        if not is_first:
            raise InvalidMessage("resume must be the first message of a connection")
        old = self.sessions.find(message.epoch, message.secret)
        # On a connection made before the one on which the client went on, the word comes too late: since then numbers
        # mean other messages, and what the client has of these would count as what it has of those.
        if old is None or old is session or session.entered_at < old.entered_at:
            outbox = session.outbox
            outbox.owe(wire.encode(Resumed(False, session.session_id, session.epoch, missed=0)))
            return
        if old.connection is not None:
            old.connection.cut("its client came back on another connection")
        old.entered_at = session.entered_at
        recovered = old.outbox.resume(message.seq)
        missed = old.outbox.waiting
        self._log.info("resumed client=%s session=%s, missed %d messages", old.client_id, old.session_id, missed)
        self._unite(session, old)
        old.outbox.greet(wire.encode(Resumed(recovered, old.session_id, old.epoch, missed)))

    def _unite(self, newcomer: Session, old: Session) -> None:
        """The newcomer is the client of an old session: its connection goes on there, with all it has begun."""
        connection, newcomer.connection, newcomer.heir = newcomer.connection, None, old
        if connection is not None:
            connection.take_over(old)
        newcomer.outbox.pour_into(old.outbox)
        old.frames += newcomer.frames
        self.subscriptions.hand_over(newcomer, old)
        self._forget(newcomer)

    def leave(self, session: Session, *, now: float, for_good: bool, reason: str = "") -> None:
        """A connection is gone; with a Close frame, or after its grace, the session with it.

        Args:
            session: Whose connection it was.
            now: Monotonic seconds.
            for_good: Whether the client said goodbye.
            reason: Why it ended, for the log.
        """
        session.disconnect(now)
        if self.viewers is not None:
            self.viewers.leave(session)
        what, why = ("left" if for_good else "cut off"), (f": {reason}" if reason else "")
        self._log.info("%s client=%s session=%s%s", what, session.client_id, session.session_id, why)
        if for_good:
            self._end(session)
        elif (newcomer := self.sessions.successor(session, certain=True)) is not None:
            self._log.info("client=%s is back already; it goes on in session=%s", session.client_id, session.session_id)
            self._unite(newcomer, session)

    def expire(self, now: float) -> list[Session]:
        """End the sessions whose clients stayed away, and return those whose streams may be let go."""
        expired = self.sessions.expired(now)
        for session in expired:
            newcomer = self.sessions.successor(session, certain=False)
            if newcomer is not None:  # nobody else came for it
                self._unite(newcomer, session)
                continue
            self._log.info("session ended client=%s: its client did not come back", session.client_id)
            self._end(session)
        gone = [session for session, since in self._gone.items() if now - since > self._settings.stream_grace_s]
        for session in gone:
            del self._gone[session]
        return gone

    @property
    def dropped(self) -> int:
        """Broadcasts that clients were too slow for, so far."""
        return self.tally.dropped + sum(session.outbox.dropped for session in self.sessions)

    def _end(self, session: Session) -> None:
        session.outbox.close()
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self.tally.dropped += session.outbox.dropped
        self.subscriptions.leave(session)
        self.sessions.end(session)
        if session.streams:
            self._gone[session] = time.monotonic()
