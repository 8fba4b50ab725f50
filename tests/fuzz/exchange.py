"""One connection to a server, and which answers came to which message.

After each message a fence is sent, one that cannot be taken; its error comes at once and in order. What is said between
two fences answers the message between them; of a frame that became a job, its terminal message is looked for later.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import PATIENCE_S

_numbers = itertools.count()


@dataclass
class Answers:
    """What one message brought.

    Attributes:
        errors: Refusals.
        jobs: What became of each job: its terminal messages, by job id.
        others: Everything else that was said at once.
    """

    errors: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)


class Exchange:
    """A connection of a client of its own, which speaks `forgesyte.v2`."""

    def __init__(self, port: int) -> None:
        self._connecting = connect(
            f"ws://127.0.0.1:{port}/ws/fuzz-{next(_numbers)}",
            subprotocols=[Subprotocol("forgesyte.v2")],
            compression=None,
            max_size=None,
            proxy=None,
        )
        self._seq = 0

    def __enter__(self) -> Self:
        self._socket = self._connecting.__enter__()
        assert self._next()["type"] == "hello"
        return self

    def __exit__(self, *error: Any) -> None:
        self._connecting.__exit__(*error)

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(PATIENCE_S))
        self._seq += 1
        assert message["seq"] == self._seq, "a hole in the numbers"
        return message

    def say(self, messages: list[bytes], *, binary: bool) -> list[Answers]:
        """Send messages, one after the other, and wait until all is said; what came to each."""
        for message in messages:
            self._socket.send(message, text=not binary)
            self._socket.send('{"type": "fence"}')
        return self._hear(len(messages))

    def last_word(self, message: bytes, *, text: bool) -> int:
        """Send a message that ends the connection; the code with which the server ends it."""
        with contextlib.suppress(ConnectionClosed):
            self._socket.send(message, text=text)
            self._next()
            raise AssertionError(f"the connection goes on after {message!r}")
        return self._socket.protocol.close_rcvd.code if self._socket.protocol.close_rcvd is not None else 1006

    def _hear(self, count: int) -> list[Answers]:
        answers: list[Answers] = []
        current = Answers()
        under_way: set[str] = set()
        jobs: dict[str, list[dict[str, Any]]] = {}
        while len(answers) < count or under_way:
            message = self._next()
            kind, job_id = message["type"], message.get("job_id")
            if kind == "error" and message["message"].startswith("unknown type 'fence'"):
                answers.append(current)
                current = Answers()
            elif kind == "job_update":
                if message["status"] == "pending":
                    jobs[job_id] = current.jobs[job_id] = []
                    under_way.add(job_id)
                elif message["status"] in ("completed", "failed"):
                    under_way.remove(job_id)
            elif job_id is not None:
                jobs[job_id].append(message)
            else:
                (current.errors if kind == "error" else current.others).append(message)
        return answers
