"""The load: keeps a number of messages in flight on each of some connections, and counts the answers.

The rate is taken between the first and the last answer of a window of time, so it is that of a server at work and not
of one that is starting or draining. When time is no longer taken everything is verified: each message sent has exactly
one terminal message, and each of them is a result with something in it.
"""

from __future__ import annotations

import itertools
import selectors
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from tests.benchmarks.sockets import RING, Connection, Messages

_numbers = itertools.count()
_FIRST_S = 30.0  # a fresh server may load its plugin first
_STUCK_S = 60.0


class Wrong(Exception):
    """A server did not do the work: what it measured counts for nothing."""


@dataclass(frozen=True)
class Rate:
    """What came of one window.

    Attributes:
        per_s: Terminal messages per second.
        frames: Messages sent, each of them answered.
        client_us: Processor time of this process per message, microseconds.
    """

    per_s: float
    frames: int
    client_us: float


class Load:
    """Connections that stay from window to window: their streams go on, as those of the bare processes do."""

    def __init__(
        self,
        port: int,
        messages: Messages,
        *,
        clients: int = 1,
        in_flight: int = 16,
        named: bool = True,
    ) -> None:
        """Connect.

        Args:
            port: Of the server, on loopback.
            messages: What to send.
            clients: Number of connections.
            in_flight: Messages in flight on each.
            named: Whether answers carry the frame's id (a constant reply cannot).
        """
        self._messages = messages
        self._in_flight = in_flight
        self._named = named
        self._connections = [Connection(port, f"bench_{next(_numbers)}", messages) for _ in range(clients)]

    def run(self, seconds: float, *, least_answers: int = 8) -> Rate:
        """Load the server for some seconds.

        Args:
            seconds: Length of the window, from the first answer on; after it what is in flight is awaited.
            least_answers: Answers that the window must hold to tell a rate.

        Raises:
            Wrong: If an answer is missing or one too many; if there are too few.
        """
        return _drive(self._connections, seconds, self._in_flight, least_answers)

    def verify(self) -> None:
        """Check all answers so far.

        Raises:
            Wrong: If one is no result, or a frame has more or fewer than one.
        """
        for connection in self._connections:
            verify(connection, self._messages, named=self._named)

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections:
            connection.close()


def run(port: int, messages: Messages, *, seconds: float, clients: int = 1) -> Rate:
    """Load a server for one window, with connections of its own.

    Raises:
        Wrong: If an answer is missing, is one too many, or is not a result; if there are too few.
    """
    load = Load(port, messages, clients=clients)
    try:
        rate = load.run(seconds)
        load.verify()
        return rate
    finally:
        load.close()


def _drive(connections: list[Connection], seconds: float, in_flight: int, least_answers: int) -> Rate:
    selector = selectors.DefaultSelector()
    read, both = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE
    clock = time.perf_counter
    cpu_began, began = time.process_time(), clock()
    sent_before = sum(connection.sent for connection in connections)
    for connection in connections:
        selector.register(connection.socket, read, connection)
        if not connection.send(in_flight):
            selector.modify(connection.socket, both, connection)
    end, unanswered = began + _FIRST_S, len(connections) * in_flight
    first_at = last_at = 0.0
    first_count = counted = 0
    with selector:
        while unanswered:
            events = selector.select(1.0)
            now = clock()
            if now > end + _STUCK_S:
                raise Wrong(f"{unanswered} messages are unanswered after {_STUCK_S:g} s")
            for key, mask in events:
                connection = key.data
                count = 0
                if mask & selectors.EVENT_WRITE and connection.push():
                    selector.modify(connection.socket, read, connection)
                if mask & selectors.EVENT_READ:
                    count = connection.receive()
                if not count:
                    continue
                if now < end:
                    counted += count
                    last_at = now
                    if not first_at:
                        first_at, first_count, end = now, count, now + seconds
                    if not connection.send(count):
                        selector.modify(connection.socket, both, connection)
                else:
                    unanswered -= count
    frames = sum(connection.sent for connection in connections) - sent_before
    client_us = (time.process_time() - cpu_began) / frames * 1e6
    if counted < least_answers:
        raise Wrong(f"only {counted} answers in {seconds:g} s: the window is too short for this plugin")
    per_s = (counted - first_count) / (last_at - first_at) if last_at > first_at else 0.0
    return Rate(per_s, frames, client_us)


def verify(connection: Connection, messages: Messages, *, named: bool) -> None:
    """Check every answer of one connection.

    Raises:
        Wrong: Saying what is wrong.
    """
    if connection.ended != connection.sent:
        raise Wrong(f"{connection.sent} messages sent, {connection.ended} terminal messages received")
    seen: Counter[str] = Counter()
    for payload in connection.kept:
        answer = msgspec.json.decode(payload)
        if answer["type"] != "frame_result" or answer["status"] != "success" or not answer["result"]:
            raise Wrong(f"an answer is no result: {payload[:300]!r}")
        if named:
            seen[answer["frame_id"]] += 1
    if named:
        rounds, more = divmod(connection.sent, RING)
        expected = {
            frame_id: rounds + (number < more)
            for number, frame_id in enumerate(messages.frame_ids)
            if rounds or number < more
        }
        if seen != expected:
            raise Wrong("some frames were answered twice and others not at all")
