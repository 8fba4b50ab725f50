"""From a client's message to a job, from a job to an engine, and from there to all who are to hear of it.

The dispatcher is where the protocol's promises are kept: a frame that is accepted becomes one job, each job gets
`pending → processing → progress → terminal message → completed | failed` in this order and exactly one terminal
message; a frame that is refused gets one `error` and nothing else. The sender hears of its own jobs without
subscribing, subscribers hear once however many topics match. Runs on the loop's thread; knows sessions, not sockets.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from forgesyte_nb import __version__
from forgesyte_nb.backlog import Backlog
from forgesyte_nb.engines.contract import Engine, Outcome
from forgesyte_nb.errors import InvalidMessage, PluginError, QueueFull, WireError
from forgesyte_nb.failures import FailedFrame, failure_book
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.image_header import read_header
from forgesyte_nb.job_messages import failure_of, result_of, summary_of, timings_of, update_of
from forgesyte_nb.jobs import Job, JobBook
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.options import check_size
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import (
    Broadcast,
    Cancel,
    Error,
    Hello,
    JobStatus,
    Resume,
    Resumed,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
)
from forgesyte_nb.protocol.topics import check_topic
from forgesyte_nb.sessions import Session, SessionBook
from forgesyte_nb.settings import Settings
from forgesyte_nb.subscriptions import Subscriptions
from forgesyte_nb.tally import Tally
from forgesyte_nb.viewers import Viewers


class Dispatcher:
    """Messages in, messages out.

    Attributes:
        jobs: All jobs.
        sessions: All sessions.
        backlog: The pictures of jobs under way.
        tally: What happened so far.
        server_id: Unique; a client learns by it whether it still talks to the same server.
        viewers: Who sees which feed; None before the server has opened.
        closing: Whether new frames are refused because the server is about to end.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        engine_for: Callable[[str], Engine],
        log: logging.Logger,
    ) -> None:
        """Make a dispatcher.

        Args:
            registry: Where plugins are looked up.
            settings: Limits.
            engine_for: The running engine of a name.
            log: For what goes wrong.
        """
        self.jobs = JobBook(history=settings.job_history)
        self.sessions = SessionBook(settings)
        self.backlog = Backlog(memory_limit_bytes=settings.queue_bytes, spool_limit_bytes=settings.spool_bytes)
        self.tally = Tally()
        self._registry = registry
        self._settings = settings
        self._engine_for = engine_for
        self._log = log
        self._subscriptions = Subscriptions(max_topics=settings.max_topics)
        self._gone: dict[Session, float] = {}
        self.server_id = secrets.token_hex(8)
        self.viewers: Viewers | None = None
        self.closing = False

    # What clients send

    def receive(self, session: Session, data: bytes, *, binary: bool = False) -> None:
        """Take one message of a client; every answer goes through outboxes."""
        is_first, session.fresh = session.fresh, False
        try:
            message = wire.decode_client_binary(data) if binary else wire.decode_client(data)
            if type(message) is wire.IncomingFrame:
                self._accept(session, message)
            elif type(message) is Subscribe:
                self._subscribe(session, message.topic)
            elif type(message) is Unsubscribe:
                self._unsubscribe(session, message.topic)
            elif type(message) is Cancel:
                self._cancel(session, message.job_id)
            elif type(message) is Resume:
                self._resume(session, message, is_first=is_first)
            elif self.viewers is not None:
                self.viewers.receive(session, message)  # type: ignore[arg-type]  # all other messages are about feeds
        except WireError as error:
            self._refuse(session, error, wire.header_of(data) if binary else data)
        except Exception as fault:  # noqa: BLE001 -- a fault of ours must not cost the client its connection
            self._log.exception("could not take a message of client=%s", session.client_id)
            answer = PluginError(f"the server failed on this message ({type(fault).__name__}); its log says more")
            self._refuse(session, answer, wire.header_of(data) if binary else data)

    def _accept(self, session: Session, frame: wire.IncomingFrame) -> None:
        """Check a frame at the door and make it a job."""
        received_at = time.monotonic()
        try:
            entry = self._registry.entry(frame.plugin)
            plugin = entry.plugin
            if frame.options != b"{}":
                check_size(
                    frame.options,
                    max_bytes=self._settings.max_options_bytes,
                    max_depth=self._settings.max_options_depth,
                )
            plugin.schema.keywords(frame.options)
            read_header(frame.image, max_pixels=self._settings.max_image_pixels)
            self._check_room(session)
            image = self.backlog.add(frame.image)
        except WireError as error:
            self._refuse_frame(session, error, frame.frame_id, frame.plugin)
            return
        seq = session.next_seq(frame.stream_id)
        stream_key = f"{session.session_id}/{frame.stream_id}/{plugin.name}" if plugin.stateful else ""
        job = self.jobs.open(frame.frame_id, entry, frame.options, image, session, stream_key, seq, received_at)
        session.frames += 1
        self.tally.accepted += 1
        self._publish_later(job, update_of(job, "pending", 0.0))
        try:
            self._engine_for(plugin.engine or self._settings.engine).submit(job)
        except Exception as fault:  # noqa: BLE001 -- whatever it is, the job must end
            self._log.exception("could not hand over job=%s", job.job_id)
            self.ended(
                job, Outcome(error=PluginError(f"the engine could not take it ({type(fault).__name__}: {fault})"))
            )

    def _check_room(self, session: Session) -> None:
        if self.closing:
            raise QueueFull("The server is closing; send again when it is back")
        owed_bytes = session.outbox.owed_bytes
        if owed_bytes > self._settings.unread_bytes:
            raise QueueFull(
                f"{owed_bytes / 1048576:.0f} MiB of answers wait to be read by this client; read on, then send"
            )
        if len(self.jobs.active) >= self._settings.queue_frames:
            raise QueueFull(
                f"{len(self.jobs.active)} frames are under way, the limit; send on when results have come, or raise "
                "queue_frames in the server's Settings"
            )

    def _subscribe(self, session: Session, topic: str) -> None:
        check_topic(topic)
        if self.jobs.ended(topic) is None:  # of an ended job nothing more will be said
            self._subscriptions.add(session, topic)
        if session.numbered:
            session.outbox.owe(wire.encode(Subscribed(topic)))
        ended = self.jobs.ended(topic) if topic.startswith("job_") else None
        if ended is not None:
            if ended.terminal is not None:
                session.outbox.owe(ended.terminal)
            session.outbox.owe(ended.update)

    def _unsubscribe(self, session: Session, topic: str) -> None:
        self._subscriptions.remove(session, check_topic(topic))
        if session.numbered:
            session.outbox.owe(wire.encode(Unsubscribed(topic)))

    def _cancel(self, session: Session, job_id: str) -> None:
        job = self.jobs.active.get(job_id)
        if job is None and self.jobs.ended(job_id) is not None:
            return  # it ended while the message was on its way
        if job is None or job.owner.last_heir is not session:
            raise InvalidMessage(f"cancel: {job_id!r} is no job of yours that is under way")
        plugin = job.entry.plugin
        if self._engine_for(plugin.engine or self._settings.engine).cancel(job):
            self.ended(job, Outcome(error=PluginError("cancelled before it started")))

    def _refuse(self, session: Session, error: WireError, data: bytes) -> None:
        """Answer a message that could not be taken."""
        self._refuse_frame(session, error, wire.frame_id_of(data), wire.plugin_of(data))

    def _refuse_frame(self, session: Session, error: WireError, frame_id: str | None, plugin: str | None) -> None:
        self.tally.refused[error.code] = self.tally.refused.get(error.code, 0) + 1
        self._log.info("refused client=%s frame=%.80r %s: %s", session.client_id, frame_id, error.code, error)
        session.outbox.owe(wire.encode(Error(frame_id, plugin, error.code, str(error), wire.timestamp())))

    # What engines say

    def started(self, job: Job) -> None:
        """A worker has started on it."""
        job.status = "processing"
        self._publish_later(job, update_of(job, "processing", 0.0))

    def progressed(self, job: Job, percent: float) -> None:
        """Its plugin reports progress."""
        if job.status == "processing":
            job.progress_percent = percent
            self._publish(job, update_of(job, "processing", percent))

    def ended(self, job: Job, outcome: Outcome) -> None:
        """It is done: the terminal message, then the last update."""
        if job.ended:
            self._log.error("job %s was answered twice; the second answer is dropped", job.job_id)
            return
        now = time.monotonic()
        plugin = job.entry.plugin
        if outcome.output:
            self._log.info("plugin=%s frame=%.80r printed: %s", plugin.name, job.frame_id, outcome.output)
        timings = timings_of(job, outcome, now)
        if outcome.error is None and outcome.result is not None:
            status: JobStatus = "completed"
            terminal = result_of(job, outcome, timings)
        else:
            status = "failed"
            terminal = self._failure(job, outcome.error or PluginError("no result and no reason"))
        percent = 100.0 if status == "completed" else job.progress_percent
        update = update_of(job, status, percent)
        self.backlog.remove(job.stored_image)
        self.jobs.end(job, status, update=update, terminal=terminal, summary=summary_of(job, status, percent, timings))
        self.tally.of(plugin.name).count(timings, outcome.error)
        self._publish(job, terminal)
        self._publish(job, update)
        if self._subscriptions:
            self._subscriptions.close(job.job_id)

    def logged(self, plugin: str, text: str) -> None:
        """A plugin, or its lane, has something for the log."""
        self._log.info("plugin=%s %s", plugin, text)

    def unloadable(self, plugin: Plugin, error: WireError) -> None:
        """A lane could not load a plugin in force: its health says so, until its code changes."""
        self._log.warning("plugin=%s revision=%s %s\n%s", plugin.name, plugin.revision, error, error.detail)
        self._registry.fail(plugin.name, f"revision {plugin.revision} {error}")

    def _failure(self, job: Job, error: WireError) -> bytes:
        name = job.entry.plugin.name
        if not isinstance(error, QueueFull):  # the end of the server is no failure of the plugin's
            failure_book().add(FailedFrame.of(job, error, self._registry))
        self._log.warning(
            "failed plugin=%s job=%s frame=%.80r %s: %s%s",
            name,
            job.job_id,
            job.frame_id,
            error.code,
            error,
            f"\n{error.detail}" if error.detail else "",
        )
        return failure_of(job, error)

    # Who hears it

    def _publish(self, job: Job, encoded: bytes) -> None:
        job.owner.outbox.owe(encoded)
        if self._subscriptions:
            for session in self._subscriptions.of_job(job):
                session.outbox.offer(encoded)

    def _publish_later(self, job: Job, encoded: bytes) -> None:
        """As `_publish`; the owner's copy may wait a moment for the result of a short job to go out with."""
        job.owner.outbox.owe_later(encoded)
        if self._subscriptions:
            for session in self._subscriptions.of_job(job):
                session.outbox.offer(encoded)

    def broadcast(self, body: Any, *, topic: str | None = None, client_id: str | None = None) -> int:
        """Say something to everyone, to a topic's subscribers, or to one client; how many were reached.

        Raises:
            InvalidMessage: If the topic is malformed.
            TypeError: If the body cannot be said in JSON.
        """
        encoded = wire.encode(Broadcast(topic, msgspec.Raw(msgspec.json.encode(body)), wire.timestamp()))
        receivers: Iterable[Session] = self.sessions
        if topic is not None:
            receivers = self._subscriptions.of_topic(check_topic(topic))
        if client_id is not None:
            receivers = [session for session in receivers if session.client_id == client_id]
        reached = 0
        for session in list(receivers):
            session.outbox.offer(encoded)  # kept for the absent if they know numbers
            reached += session.connection is not None
        return reached

    # Clients that come and go

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
                plugins=[plugin.name for plugin in self._registry.plugins()],
                feeds=feed_book().infos(),
                feeds_id=feed_book().book_id,
            )
            session.outbox.greet(wire.encode(hello))
        back = "" if session.away_since is None else f", back with {session.outbox.waiting} messages waiting"
        self._log.info("connected client=%s session=%s%s", client_id, session.session_id, back)
        return session

    def _resume(self, session: Session, message: Resume, *, is_first: bool) -> None:
        """A client that speaks `forgesyte.v2` is back: it goes on in its old session, if that is still there."""
        if not session.numbered:
            raise InvalidMessage("resume is for clients that offer the subprotocol 'forgesyte.v2'")
        if not is_first:
            raise InvalidMessage("resume must be the first message of a connection")
        old = self.sessions.find(message.epoch, message.secret)
        if old is None or old is session:
            outbox = session.outbox
            outbox.owe(wire.encode(Resumed(False, session.session_id, session.epoch, missed=0)))
            return
        if old.connection is not None:
            old.connection.cut("its client came back on another connection")
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
        self._subscriptions.hand_over(newcomer, old)
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
        self._subscriptions.leave(session)
        self.sessions.end(session)
        if session.streams:
            self._gone[session] = time.monotonic()
