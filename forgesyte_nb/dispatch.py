"""From a client's message to a job, from a job to an engine, and from there to all who are to hear of it.

The dispatcher is where the protocol's promises are kept: a frame that is accepted becomes one job, each job gets
`pending → processing → progress → terminal message → completed | failed` in this order and exactly one terminal
message; a frame that is refused gets one `error` and nothing else. The sender hears of its own jobs without
subscribing, subscribers hear once however many topics match. Runs on the loop's thread; knows sessions, not sockets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from forgesyte_nb.backlog import Backlog
from forgesyte_nb.engines.contract import Engine, Outcome
from forgesyte_nb.errors import InvalidImage, InvalidMessage, PluginError, QueueFull, WireError
from forgesyte_nb.failures import FailedFrame, failure_book
from forgesyte_nb.first_use import FirstUses
from forgesyte_nb.image.data import ImageData
from forgesyte_nb.image.header import read_header
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
    JobStatus,
    Resume,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
)
from forgesyte_nb.protocol.topics import check_topic
from forgesyte_nb.reception import Reception
from forgesyte_nb.sessions import Session
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool
from forgesyte_nb.tally import Tally

MOST_UNREAD_ANSWERS = 50_000
"""Answers that wait for a client and that no frame stands behind: refusals, acknowledgements. Some 20 MiB."""


class Dispatcher:
    """Messages in, messages out.

    Attributes:
        jobs: All jobs.
        sessions: All sessions.
        spool: The temporary file for pictures and answers that wait.
        backlog: The pictures of jobs under way.
        tally: What happened so far.
        reception: Where clients come and go.
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
        self.spool = Spool(settings.spool_bytes)
        self.backlog = Backlog(self.spool, memory_limit_bytes=settings.queue_bytes)
        self.tally = Tally()
        self._registry = registry
        self._settings = settings
        self._engine_for = engine_for
        self._log = log
        self.reception = Reception(registry, settings, self.spool, self.tally, log)
        self.sessions = self.reception.sessions
        self._subscriptions = self.reception.subscriptions
        self._first_uses = FirstUses(registry.use, self.receive, max_bytes=settings.queue_bytes)
        self.closing = False

    def begin_closing(self) -> None:
        """Refuse new frames from now on, those that wait for a plugin to be registered too."""
        self.closing = True
        self._first_uses.release_all()

    # What clients send

    def receive(self, session: Session, data: bytes | wire.IncomingFrame, *, binary: bool = False) -> None:
        """Take one message of a client, or a frame of one in this process; every answer goes through outboxes."""
        is_first, session.fresh = session.fresh, False
        accepted, waiting = self.tally.accepted, session.outbox.owed_bytes
        try:
            if session in self._first_uses:
                self._first_uses.hold(session, data, binary=binary)
                return
            if isinstance(data, wire.IncomingFrame):
                message: wire.DecodedMessage = data
            else:
                message = wire.decode_client_binary(data) if binary else wire.decode_client(data)
            if type(message) is wire.IncomingFrame:
                if self._registry.is_due(message.plugin) and not self.closing:
                    self._first_uses.begin(session, message.plugin, data, binary=binary)
                else:
                    self._accept(session, message)
            elif type(message) is Subscribe:
                self._subscribe(session, message.topic)
            elif type(message) is Unsubscribe:
                self._unsubscribe(session, message.topic)
            elif type(message) is Cancel:
                self._cancel(session, message.job_id)
            elif type(message) is Resume:
                self.reception.resume(session, message, is_first=is_first)
            elif self.reception.viewers is not None:
                self.reception.viewers.receive(session, message)  # type: ignore[arg-type]  # all other messages are about feeds
        except WireError as error:
            self._refuse(session, error, data, binary=binary)
        except Exception as fault:  # noqa: BLE001 -- a fault of ours must not cost the client its connection
            self._log.exception("could not take a message of client=%s", session.client_id)
            answer = PluginError(f"the server failed on this message ({type(fault).__name__}); its log says more")
            self._refuse(session, answer, data, binary=binary)
        if self.tally.accepted == accepted and session.outbox.owed_bytes > waiting:
            self._count_answer(session)

    def _count_answer(self, session: Session) -> None:
        """What frames are answered is bounded by how many are accepted; of the rest a client must read some."""
        session.outbox.unread_answers += 1
        if session.outbox.unread_answers > MOST_UNREAD_ANSWERS and session.connection is not None:
            session.connection.cut(f"{MOST_UNREAD_ANSWERS} answers wait to be read, and it sends on")

    def _accept(self, session: Session, frame: wire.IncomingFrame) -> None:
        """Check a frame at the door and make it a job."""
        received_at = time.monotonic()
        try:
            if self.closing:
                raise QueueFull("The server is closing; send again when it is back")
            entry = self._registry.entry_in_force(frame.plugin)
            plugin = entry.plugin
            if frame.options != b"{}":
                check_size(
                    frame.options,
                    max_bytes=self._settings.max_options_bytes,
                    max_depth=self._settings.max_options_depth,
                )
            plugin.schema.keywords(frame.options)
            self._check_image(frame.image)
            self._check_room(session)
            image = self.backlog.add(frame.image)
        except WireError as error:
            self._refuse_frame(session, error, frame.frame_id, frame.plugin)
            return
        counted = session.next_seq(frame.stream_id)
        seq = counted if frame.seq is None else frame.seq
        stream_key = f"{session.session_id}/{frame.stream_id}/{plugin.name}" if plugin.stateful else ""
        job = self.jobs.open(
            frame.frame_id,
            entry,
            frame.options,
            image,
            session,
            stream_key,
            seq,
            received_at,
            frame.stream_id,
            captured_at=frame.captured_at,
            time_s=frame.time_s,
        )
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

    def _check_image(self, image: ImageData) -> None:
        limit = self._settings.max_image_pixels
        if isinstance(image, bytes):
            read_header(image, max_pixels=limit)
        elif image.shape[0] * image.shape[1] > limit:
            raise InvalidImage(
                f"pixels of {image.shape[1]}×{image.shape[0]} are over the limit of {limit} pixels; send a smaller "
                "picture, or raise max_image_pixels in the server's Settings"
            )

    def _check_room(self, session: Session) -> None:
        self._check_read(session)
        if len(self.jobs.active) >= self._settings.queue_frames:
            raise QueueFull(
                f"{len(self.jobs.active)} frames are under way, the limit; send on when results have come, or raise "
                "queue_frames in the server's Settings"
            )

    def _check_read(self, session: Session) -> None:
        owed_bytes = session.outbox.owed_bytes
        if owed_bytes > self._settings.unread_bytes:
            raise QueueFull(
                f"{owed_bytes / 1048576:.0f} MiB of answers wait to be read by this client; read on, then send"
            )

    def _subscribe(self, session: Session, topic: str) -> None:
        ended = self.jobs.ended(check_topic(topic))
        try:
            if ended is None:
                self._subscriptions.add(session, topic)
            else:  # nothing more will be said of it; a few bytes ask for its whole result again
                self._check_read(session)
        except WireError as error:
            self._refuse_frame(session, error, None, None, topic=topic)
            return
        if session.numbered:
            session.outbox.owe(wire.encode(Subscribed(topic)))
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

    def _refuse(self, session: Session, error: WireError, data: bytes | wire.IncomingFrame, *, binary: bool) -> None:
        """Answer a message that could not be taken."""
        if isinstance(data, wire.IncomingFrame):
            self._refuse_frame(session, error, data.frame_id, data.plugin)
        else:
            text = wire.header_of(data) if binary else data
            self._refuse_frame(session, error, wire.frame_id_of(text), wire.plugin_of(text))

    def _refuse_frame(
        self,
        session: Session,
        error: WireError,
        frame_id: str | None,
        plugin: str | None,
        *,
        topic: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> None:
        self.tally.refused[error.code] = self.tally.refused.get(error.code, 0) + 1
        self._log.info("refused client=%s frame=%.80r %s: %s", session.client_id, frame_id, error.code, error)
        refusal = Error(frame_id, plugin, error.code, str(error), wire.timestamp(), topic=topic)
        session.outbox.owe(wire.encode(refusal))

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
        self._registry.fail(plugin.name, f"revision {plugin.revision} {error}", plugin.origin)

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
