"""The invariant of every chaos suite: accepted frames = terminal messages, one each.

A `Ledger` is one client's book. It is told each frame that is sent and each message that is heard, whatever client
hears it; `assert_balanced` then holds the books against each other and against the server's own counts. A frame id is
used once in a ledger, so that a frame can be followed. After a broken connection delivery is at least once: a repeat is
known by its `job_id`, counted, and allowed only where a suite says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed

from tests.conftest import SeedClient, get, wait_for

Message = dict[str, Any]


class Served(Protocol):
    """A server in this process or another one."""

    @property
    def port(self) -> int:
        """Where it listens on loopback."""


class Ledger:
    """What one client sent and heard.

    Attributes:
        sent: When each frame was sent, monotonic seconds by frame id, in order.
        accepted: Frame id of each job that was announced, by job id.
        terminals: Terminal message of each job, by job id.
        refusals: The `error` of each frame that became no job, by frame id.
        last_words: Jobs of which the update after the terminal message was heard.
        started_at: When it was heard that a worker has started on it, likewise.
        answered_at: When its answer was heard, likewise.
        repeats: Terminal messages heard again.
        strange: What must never be heard: a second answer that is not the first again, answers to what was not sent.
    """

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.accepted: dict[str, str] = {}
        self.terminals: dict[str, Message] = {}
        self.refusals: dict[str, Message] = {}
        self.last_words: set[str] = set()
        self.started_at: dict[str, float] = {}
        self.answered_at: dict[str, float] = {}
        self.repeats = 0
        self.strange: list[Message] = []

    def send(self, frame_id: str) -> str:
        """Note a frame before it is sent; its id."""
        assert frame_id not in self.sent, f"{frame_id} was sent before"
        self.sent[frame_id] = time.monotonic()
        return frame_id

    def hear(self, message: Message) -> None:
        """Note a message, of any type."""
        kind, job_id = message["type"], message.get("job_id")
        if kind == "job_update":
            self.accepted.setdefault(job_id, message["frame_id"])
            if message["status"] == "processing":
                self.started_at.setdefault(message["frame_id"], time.monotonic())
            if message["status"] in ("completed", "failed"):
                if job_id not in self.terminals:
                    self.strange.append(message)
                self.last_words.add(job_id)
        elif kind == "frame_result" or (kind == "error" and job_id):
            self._answered(job_id, message)
        elif kind == "error":
            self._refused(message)

    def _answered(self, job_id: str, message: Message) -> None:
        first = self.terminals.setdefault(job_id, message)
        if first is not message:
            self.repeats += 1
            if {**first, "seq": 0} != {**message, "seq": 0}:
                self.strange.append(message)
        elif message["frame_id"] not in self.sent:
            self.strange.append(message)
        else:
            self.answered_at[message["frame_id"]] = time.monotonic()

    def _refused(self, message: Message) -> None:
        frame_id = message["frame_id"]
        if frame_id not in self.sent or frame_id in self.refusals:
            self.strange.append(message)
        else:
            self.refusals[frame_id] = message
            self.answered_at[frame_id] = time.monotonic()

    @property
    def answered(self) -> dict[str, Message]:
        """The answer to each frame that has one, by frame id."""
        return {**self.refusals, **{message["frame_id"]: message for message in self.terminals.values()}}

    @property
    def unanswered(self) -> list[str]:
        """Frames that were sent and have no answer."""
        answered = self.answered
        return [frame_id for frame_id in self.sent if frame_id not in answered]

    def errors(self, code: str | None = None) -> dict[str, Message]:
        """Frames that failed in a job, by frame id; of one error code, or of all."""
        return {
            message["frame_id"]: message
            for message in self.terminals.values()
            if message["type"] == "error" and code in (None, message["error_code"])
        }

    @property
    def results(self) -> dict[str, Message]:
        """Frames that have a result, by frame id."""
        return {m["frame_id"]: m for m in self.terminals.values() if m["type"] == "frame_result"}


async def listen(client: SeedClient, ledger: Ledger) -> None:
    """Tell a ledger all that a client hears, until its connection ends."""
    try:
        async for message in client.socket:
            ledger.hear(json.loads(message))
    except ConnectionClosed:
        return


@dataclass(frozen=True)
class Counts:
    """What a server has counted since it started; frames, but for `active`."""

    accepted: int
    results: int
    errors: int
    refused: int
    active: int


def counts_of(server: Served) -> Counts:
    """What a server says in `/metrics`."""
    lines = get(server, "/metrics")[1].decode().splitlines()  # type: ignore[arg-type]  # only its port is used

    def total(name: str) -> int:
        return int(sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name))

    names = ("accepted_total", "results_total", "errors_total", "refused_total", "active_jobs")
    return Counts(*(total(f"forgesyte_{name}") for name in names))


def assert_balanced(ledgers: Iterable[Ledger], server: Served | None = None, *, repeats: bool = False) -> None:
    """Accepted frames = terminal messages, one each; in each ledger, and in all together against the server.

    Args:
        ledgers: Of all clients that the server had, if a server is given.
        server: Whose counts must be the same; None if it is gone, or had other clients as well.
        repeats: Whether a terminal message may have been heard twice, as it may after a broken connection.
    """
    ledgers = list(ledgers)
    for ledger in ledgers:
        assert ledger.strange == [], "answers that nobody is owed"
        assert ledger.unanswered == [], f"{len(ledger.unanswered)} of {len(ledger.sent)} frames lost"
        assert set(ledger.accepted) == set(ledger.terminals), "accepted frames are not the answered ones"
        assert len(ledger.terminals) + len(ledger.refusals) == len(ledger.sent), "a frame was answered twice"
        assert repeats or ledger.repeats == 0, f"{ledger.repeats} answers came twice"
    if server is None:
        return
    counts = wait_for(lambda: (c := counts_of(server)).active == 0 and c, "the server's jobs to end")
    assert counts.accepted == counts.results + counts.errors, counts
    assert counts.accepted == sum(len(ledger.terminals) for ledger in ledgers), counts
    assert counts.errors == sum(len(ledger.errors()) for ledger in ledgers), counts
