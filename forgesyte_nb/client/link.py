"""`Link`: the frames and topics of one client, over as many connections as it takes.

It holds what must survive a connection. On each new one it resumes the session, where the server knows how; else it
subscribes again and sends again what is unanswered, in the old order. An answer that comes twice is swallowed. One task
reads and never waits for anybody; a room of `window` frames bounds what is under way. A frame that the server refuses
only for the moment (`QUEUE_FULL`) is sent again after a pause, and one whose options it refuses at once, if there are
others by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from forgesyte_nb.client.results import Result, error_of
from forgesyte_nb.client.resumption import Resumption
from forgesyte_nb.client.unanswered import SentFrame, Unanswered
from forgesyte_nb.client.upkeep import Dial, Patience, Upkeep
from forgesyte_nb.errors import ConnectionLost, ForgeSyteError, InvalidMessage, InvalidOptions, QueueFull, WireError
from forgesyte_nb.plugins.options import check_size
from forgesyte_nb.protocol.messages import Cancel, Subscribe, Unsubscribe
from forgesyte_nb.transport.base import Message, MessageTooLarge, OutgoingFrame, Transport, TransportClosed

Heard = Callable[[dict[str, Any]], None]

_CANCELLING_S = 0.5  # at most: the connection may be clogged by what the server does not read

_log = logging.getLogger("forgesyte_nb.client")


class Link:
    """The frames and topics of one client, and the connection of the moment.

    Attributes:
        upkeep: Keeps the connection up.
        topics: What is subscribed to.
        unanswered: Frames under way.
        max_options_bytes: The server's limit of options, as JSON; 0 before it is known.
    """

    def __init__(self, dial: Dial, heard: Heard, *, window: int, patience: Patience) -> None:
        """Make it, not connected; `heard` is called with each message that is no repeat."""
        self.upkeep = Upkeep(dial, self._use, self._give_up, patience)
        self.topics: dict[str, None] = {}
        self.unanswered = Unanswered()
        self._heard, self._patience = heard, patience
        self._room = asyncio.Semaphore(window)
        self._idle, self._greeted = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._transport: Transport | None = None
        self._number = 0  # of the connection of the moment
        self._up = False  # whether new frames go straight out, because all older ones have
        self._good = False  # whether the connection brought an answer
        self._resumption = Resumption()
        self._acknowledged: set[str] = set()  # topics that the session at the server has
        self._refused: dict[str, WireError] = {}  # topics that the server would not have
        self._subscribing: set[str] = set()
        self._told_of_topics = asyncio.Event()
        self._renewed = False  # whether topics may be said: what was there before has been
        self.max_options_bytes = 0
        self._background: set[asyncio.Task[None]] = set()

    @property
    def takes_pixels(self) -> bool:
        """True if raw pixels are sent as they are; see `Transport`."""
        return self._transport is not None and self._transport.takes_pixels

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._transport is not None

    async def close(self) -> None:
        """Cancel what nobody will hear of, and say goodbye; whatever waits for an answer gets `ConnectionLost`."""
        lost = self.upkeep.refuse()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCELLING_S):
                    for frame in self.unanswered:
                        if not frame.outlives:
                            await self._cancel(frame)
                        if not frame.outlives and frame in self.unanswered:
                            self._fail(frame, ConnectionLost(str(lost)))  # what the server says of it now is a repeat
        finally:  # also if this is cancelled
            await self.upkeep.close()
            background = list(self._background)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    def disown(self) -> None:
        """In a forked process: connection, tasks and what waits for an answer are the parent's."""
        self.upkeep.disown()
        self._transport, self._up, self._renewed = None, False, False
        self._background, self.unanswered, self._idle = set(), Unanswered(), asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until every frame is answered."""
        await self._idle.wait()

    # What goes out

    async def submit(self, frame: SentFrame) -> None:
        """Send a frame when there is room; it is answered through its `deliver`, whatever happens.

        Raises:
            ConnectionLost: If there is no connection and none is being tried; the frame was not taken.
            ValueError: If a frame of its id is under way; the frame was not taken.
        """
        await self.admit(frame)
        await self.transmit(frame)

    async def admit(self, frame: SentFrame) -> None:
        """The first half of `submit`: wait for room. Frames are sent in the order in which they are admitted.

        Raises:
            ConnectionLost: As above.
            ValueError: As above.
        """
        await self._room.acquire()
        try:
            self.upkeep.check()
            self.unanswered.add(frame)
        except (ConnectionLost, ValueError):
            self._room.release()
            raise
        self._idle.clear()
        frame.sent_at = time.monotonic()

    async def transmit(self, frame: SentFrame) -> None:
        """The second half of `submit`: send a frame, now or when there is a connection."""
        if self._up:
            await self._transmit(frame)

    def forget(self, frame: SentFrame) -> None:
        """Nobody waits for it any more: a late answer is swallowed, and the server is told if it understands."""
        if frame not in self.unanswered:
            return
        self._remove(frame, None)
        self._in_background(self._cancel(frame))

    async def _cancel(self, frame: SentFrame) -> None:
        """Tell the server that nobody waits for a frame, if it understands."""
        if self._is_v2 and frame.job_id and self._up:
            await self._say(Cancel(frame.job_id))

    async def subscribe(self, topic: str) -> None:
        """Subscribe now, and again on each connection to come; of `forgesyte.v2`, wait until it holds.

        Raises:
            ConnectionLost: If there is no connection and none is being tried.
            WireError: If the server refuses it.
        """
        self.upkeep.check()
        self.unanswered.overhears = True
        self._subscribing.add(topic)
        try:
            if topic not in self.topics:
                self.topics[topic] = None
                self._refused.pop(topic, None)
                if self._renewed:
                    await self._say(Subscribe(topic))
            while self._awaits_word_of(topic):
                self._told_of_topics.clear()
                await self._told_of_topics.wait()
        finally:
            self._subscribing.discard(topic)
        if topic in self._refused:
            refused = self._refused[topic]
            raise type(refused)(f"{topic}: {refused}")

    def _awaits_word_of(self, topic: str) -> bool:
        known = topic in self._acknowledged or topic not in self.topics
        return self._is_v2 and self.connected and not known

    def _refuse_topic(self, topic: str, error: WireError) -> None:
        self.topics.pop(topic, None)
        self._refused[topic] = error
        self._told_of_topics.set()
        if topic not in self._subscribing:
            _log.warning("%s is subscribed no longer, the server refuses it: %s", topic, error)

    async def unsubscribe(self, topic: str) -> None:
        """Subscribe no longer.

        Raises:
            ConnectionLost: If there is no connection and none is being tried.
        """
        self.upkeep.check()
        self.topics.pop(topic, None)
        if self._renewed:
            await self._say(Unsubscribe(topic))

    async def _say(self, message: Message) -> None:
        """Send if there is a connection. What is lost with it is said again on the next."""
        if self._transport is not None:
            await self._transport.send(message)

    @property
    def _is_v2(self) -> bool:
        return self._transport is not None and self._transport.is_v2

    async def _transmit(self, frame: SentFrame) -> None:
        """Send a frame on the connection of the moment."""
        frame.connection = self._number
        frame.attempts += 1
        if frame.attempts > self._patience.max_retries + 1:
            self._fail(frame, ConnectionLost(f"sent {frame.attempts - 1} times without an answer"))
            return
        try:  # it may have been made before the limit was known, which `hello` says
            check_size(frame.options, max_bytes=self.max_options_bytes or sys.maxsize)
        except InvalidOptions as error:
            self._fail(frame, error)
            return
        wire_id, transport = self.unanswered.name(frame), self._transport
        if transport is None:
            return  # it is sent on the next connection
        try:
            await transport.send(OutgoingFrame(wire_id, frame.plugin, frame.options, frame.stream_id, frame.picture))
        except MessageTooLarge:
            self._fail(frame, _too_large(frame, transport.max_message_bytes))

    # One connection

    async def _use(self, transport: Transport) -> tuple[bool, str]:
        """Read a connection to its end; True if it brought an answer, and why it ended."""
        self._transport = transport
        self._number += 1
        self._good = self._renewed = False
        self._greeted.clear()
        self._resumption.connected(is_v2=transport.is_v2)
        if self._resumption.settled:
            self._greeted.set()
        catching_up = asyncio.create_task(self._catch_up(), name="forgesyte-catch-up")
        try:
            while True:
                self._take(await transport.receive())
        except TransportClosed as error:
            closed = error
        finally:
            self._up, self._transport = False, None
            self._told_of_topics.set()
            catching_up.cancel()
            await asyncio.gather(catching_up, return_exceptions=True)
        if closed.too_large:
            self._blame_the_largest()
        return self._good, str(closed)

    async def _catch_up(self) -> None:
        """On a new connection: topics, then what is unanswered, then the door is open for new frames."""
        await self._greeted.wait()
        await self._renew_topics()
        while behind := [frame for frame in self.unanswered if frame.connection != self._number]:
            for frame in behind:
                if self._resumption.recovered and frame.job_id:
                    frame.connection = self._number  # the server has it, and nothing it said of it was missed
                elif frame in self.unanswered:
                    await self._transmit(frame)
        self._up = True

    async def _renew_topics(self) -> None:
        """Have the server know the topics: all in a new session, in a resumed one what changed meanwhile."""
        self._renewed = True
        if not self._resumption.recovered:
            self._acknowledged.clear()
        for topic in self._acknowledged - self.topics.keys():
            await self._say(Unsubscribe(topic))
        for topic in [topic for topic in self.topics if topic not in self._acknowledged]:
            await self._say(Subscribe(topic))

    def _take(self, message: dict[str, Any]) -> None:
        resume = self._resumption.take(message)
        try:
            self._understand(message)
        finally:
            if resume is not None:
                self._in_background(self._say(resume))
            elif self._resumption.settled:
                self._greeted.set()

    def _understand(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("frame_result", "error"):
            if self.unanswered.is_repeat(message):
                return
            frame = self.unanswered.find(message)
            if frame is not None:
                self._good = True
                if self._is_for_the_moment(message, frame):
                    self._try_again(frame, self._patience.pause_s(frame.attempts))
                    return
                if self._renews_options(message, frame):
                    self.unanswered.rename(frame)
                    self._try_again(frame, 0)
                    return
                self._finish(frame, frame.answered(message, time.monotonic()), message.get("job_id"))
            elif isinstance(topic := message.get("topic"), str) and (refused := error_of(message)):
                self._refuse_topic(topic, refused)
        elif kind == "job_update":
            self.unanswered.find(message)
        elif kind == "subscribed":
            self._acknowledged.add(message["topic"])
            self._told_of_topics.set()
        elif kind == "unsubscribed":
            self._acknowledged.discard(message["topic"])
        elif kind == "hello":
            if self._transport is not None:
                self._transport.max_message_bytes = message.get("max_message_bytes", 0)
            self.max_options_bytes = message.get("max_options_bytes", 0)
        self.unanswered.restore_name(message)
        self._heard(message)

    def _is_for_the_moment(self, message: dict[str, Any], frame: SentFrame) -> bool:
        """Whether a frame was refused only for now: the queue is full, or the server is about to restart."""
        return (
            message.get("error_code") == QueueFull.code
            and self._patience.reconnect
            and frame.attempts <= self._patience.max_retries
        )

    def _renews_options(self, message: dict[str, Any], frame: SentFrame) -> bool:
        """Give a frame that was refused for its options, before it became a job, others; whether there are any."""
        return message.get("error_code") == InvalidOptions.code and not message.get("job_id") and frame.renew_options()

    def _try_again(self, frame: SentFrame, pause_s: float) -> None:
        frame.job_id = ""  # if there is another connection before, it goes out there
        self._in_background(self._send_again(frame, (frame.wire_id, frame.attempts), pause_s))

    async def _send_again(self, frame: SentFrame, turn: tuple[str, int], pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        waits_here = frame.connection == self._number and (frame.wire_id, frame.attempts) == turn
        if waits_here and self._transport is not None and frame in self.unanswered:
            await self._transmit(frame)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Ends

    def _finish(self, frame: SentFrame, result: Result, job_id: str | None) -> None:
        self._remove(frame, job_id)
        frame.deliver(result)

    def _fail(self, frame: SentFrame, error: ForgeSyteError) -> None:
        self._finish(frame, frame.failed(error, time.monotonic()), None)

    def _remove(self, frame: SentFrame, job_id: str | None) -> None:
        self.unanswered.remove(frame, job_id)
        self._room.release()
        if not self.unanswered:
            self._idle.set()

    def _blame_the_largest(self) -> None:
        """The server closed because a message was too large; without this it would be sent again for ever."""
        sent = [frame for frame in self.unanswered if frame.connection == self._number]
        if sent:
            largest = max(sent, key=lambda frame: len(frame.picture.bytes))
            self._fail(largest, _too_large(largest, None))

    def _give_up(self, reason: ConnectionLost) -> None:
        for frame in self.unanswered:
            self._fail(frame, ConnectionLost(str(reason)))


def _too_large(frame: SentFrame, limit: int | None) -> InvalidMessage:
    size = len(frame.picture.bytes) / 1048576
    said = "" if limit is None else f" of {limit / 1048576:.1f} MiB"
    return InvalidMessage(
        f"{frame.picture.frame_id or frame.frame_id}: {size:.1f} MiB is over the server's limit for one message{said}: "
        "send a smaller picture, or raise max_message_bytes in the server's Settings"
    )
