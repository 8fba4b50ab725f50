"""Connections and the applications at their other ends, for `session_world.py`.

A `Line` is what a connection is to a session: what it takes from the outbox is on its way until it is delivered, and
lost if the line breaks before. A `Person` is an application that knows the seed alone, or speaks `forgesyte.v2`.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.sessions import Session
from tests.fuzz.session_due import Key


class Server(Protocol):
    """What a line must know of the world."""

    dispatcher: Dispatcher

    def end(self, line: Line, *, for_good: bool = False) -> None:
        """The server learns that a line has ended."""


@dataclass(eq=False)
class Person:
    """An application.

    Attributes:
        line: Its connection; None while it has none.
        known: Under `forgesyte.v2`, what it must know to resume: session, epoch, secret and the last number.
        resumes: Whether it is going to resume on its line, or waits for the answer.
    """

    name: str
    numbered: bool
    line: Line | None = None
    known: dict[str, Any] = field(default_factory=dict)
    resumes: bool = False


@dataclass(eq=False)
class Line:
    """One connection, as `FrameConnection` is one to the dispatcher; what it writes arrives when a rule says so.

    Attributes:
        on_its_way: What was written and has not arrived, with the session it is from: messages, and receipts asked for.
        reachable: Whether there is somebody at its other end.
        acknowledged: Whether otherwise an operating system, or a proxy, acknowledges all the same.
        last_seq: Number of the last message that arrived.
        hello: What the greeting said.
        times: How often something of a session arrived.
        said_before: How much had been said to a session when it was resumed on this line.
        told_before: Of how many lost broadcasts its client had been told then.
    """

    world: Server
    name: str
    session: Session
    heard_at: float = field(default_factory=time.monotonic)
    on_its_way: deque[tuple[Session, bytes | tuple[int, int]]] = field(default_factory=deque)
    reachable: bool = True
    acknowledged: bool = False
    reached_at: float = 0.0
    last_seq: int = 0
    hello: dict[str, Any] = field(default_factory=dict)
    times: Counter[tuple[Session, Key]] = field(default_factory=Counter)
    said_before: int = 0
    told_before: int = 0
    _series: int = 0

    def wake(self) -> None:
        """It is written when a rule says so."""

    wake_later = wake

    def probe(self) -> None:
        """Whoever is there answers at once."""
        if self.reachable:
            self.heard_at = time.monotonic()
        elif self.acknowledged:
            self.reached_at = time.monotonic()

    def take_over(self, session: Session) -> None:
        """Serve another session from now on."""
        self.write()
        self._series += 1
        self.session = session
        session.connect(self)

    def cut(self, reason: str) -> None:
        """The server ends it."""
        assert reason
        self.world.end(self)

    def write(self, max_bytes: int = 1 << 30, *, receipt: bool = False) -> None:
        """Put what the outbox holds on its way, and perhaps ask for a receipt."""
        self.on_its_way.extend((self.session, message) for message in self.session.outbox.take(max_bytes))
        if receipt:
            self.on_its_way.append((self.session, (self._series, self.session.outbox.seq)))

    def confirm(self, receipt: tuple[int, int]) -> None:
        """The pong to a receipt."""
        self.heard_at = time.monotonic()
        if receipt[0] == self._series:
            self.session.outbox.confirm(receipt[1])

    def say(self, message: dict[str, Any]) -> None:
        """The client says something."""
        self.heard_at = time.monotonic()
        self.world.dispatcher.receive(self.session, json.dumps(message).encode())
