"""The frames of one client that have not been answered, and the memory of those that have. Sans-I/O.

A frame is answered once. When a connection breaks, its frames are sent again on the next one, so a second answer
may come for the same frame, from the job that was thought lost: it is recognised by its `frame_id` or `job_id` and
swallowed. Messages about other clients' frames (a subscriber gets those too) are left alone: from the first
subscription on, a frame whose `frame_id` its sender chose travels under a name that nobody else can have chosen, and
the messages about it get the chosen one back. A frame that was refused and is sent with other options gets such a name,
too.
"""

from __future__ import annotations

import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from forgesyte_nb.client.results import Result, error_of
from forgesyte_nb.errors import ForgeSyteError
from forgesyte_nb.image.pictures import Picture

_REMEMBERED = 4096  # answered frames whose second answer is recognised; windows are far smaller


@dataclass(slots=True, eq=False)
class SentFrame:
    """One frame on its way.

    Attributes:
        frame_id: Its name; unique among those unanswered.
        plugin: Name of the plugin.
        options: JSON.
        stream_id: Which stream of this client it belongs to.
        picture: The picture.
        deliver: Called once with its `Result`.
        renew_options: Called when it was refused for its options, to give it others; whether there were any.
        chosen: Whether the sender chose `frame_id`, so that another client may have chosen the same.
        outlives: Whether the server is to work on it when the client has left: others may be subscribed to its result.
        wire_id: Its name on the wire, where it was sent last.
        jobs: The job that each of its names on the wire became; empty before anything is known of it.
        job_id: The job it became when it was sent last; empty before its first message.
        sent_at: When it was first sent, monotonic seconds; 0 before.
        connection: Number of the connection it was last sent on; 0 before.
        attempts: How often it was sent with these options.
    """

    frame_id: str
    plugin: str
    options: bytes
    stream_id: str
    picture: Picture
    deliver: Callable[[Result], object]
    renew_options: Callable[[], bool] = lambda: False
    chosen: bool = False
    outlives: bool = False
    wire_id: str = ""
    jobs: dict[str, str] = field(default_factory=dict)
    job_id: str = ""
    sent_at: float = 0.0
    connection: int = 0
    attempts: int = 0

    def failed(self, error: ForgeSyteError, now: float) -> Result:
        """Its result if it ended without an answer."""
        return Result(
            frame_id=self.frame_id,
            plugin=self.plugin,
            error=error,
            name=self.picture.frame_id,
            seq=self.picture.seq,
            time_s=self.picture.time_s,
            job_id=self.job_id,
            latency_ms=(now - self.sent_at) * 1000 if self.sent_at else None,
            frame=self.picture,
        )

    def answered(self, message: dict[str, Any], now: float) -> Result:
        """Its result from its terminal message."""
        error = error_of(message)
        return Result(
            frame_id=self.frame_id,
            plugin=self.plugin,
            result=message.get("result") or {} if error is None else {},
            error=error,
            name=self.picture.frame_id,
            seq=self.picture.seq,
            time_s=self.picture.time_s,
            job_id=message.get("job_id") or self.job_id,
            processing_time_ms=message.get("processing_time_ms"),
            latency_ms=(now - self.sent_at) * 1000,
            timings=message.get("timings") or {},
            plugin_revision=message.get("plugin_revision"),
            frame=self.picture,
        )


class Unanswered:
    """What was sent and not answered, in the order it was sent.

    Attributes:
        overhears: Whether messages about other clients' frames may come; true from the first subscription on.
    """

    def __init__(self) -> None:
        """Make an empty book."""
        self.overhears = False
        self._waiting: dict[str, SentFrame] = {}
        self._by_wire_id: dict[str, SentFrame] = {}
        self._answered: OrderedDict[Any, bool] = OrderedDict()  # ids; whether others may have chosen the same
        self._mark = f"~{secrets.token_hex(4)}."
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[SentFrame]:
        return iter(list(self._waiting.values()))

    def __contains__(self, frame: SentFrame) -> bool:
        return self._waiting.get(frame.frame_id) is frame

    def add(self, frame: SentFrame) -> None:
        """Enter a frame that is about to be sent.

        Raises:
            ValueError: If one of that `frame_id` is unanswered: their answers could not be told apart.
        """
        if frame.frame_id in self._waiting:
            raise ValueError(
                f"frame_id {frame.frame_id!r} is on its way already; leave it out and a unique one is made, or wait "
                "for its answer"
            )
        self._waiting[frame.frame_id] = frame
        self._answered.pop(frame.frame_id, None)

    def name(self, frame: SentFrame) -> str:
        """The name under which a frame is sent now. Answers to those it was sent under before are still known."""
        if self.overhears and frame.chosen and frame.wire_id in ("", frame.frame_id):
            if not frame.jobs.get(frame.frame_id):
                self._by_wire_id.pop(frame.frame_id, None)  # nothing would tell an answer to it from another client's
            frame.wire_id = self._new_name(frame)
        frame.wire_id, frame.job_id = frame.wire_id or frame.frame_id, ""
        self._by_wire_id[frame.wire_id] = frame
        return frame.wire_id

    def rename(self, frame: SentFrame) -> None:
        """It was refused, and is another frame from now on: the refusal may come again after a connection broke."""
        self._by_wire_id.pop(frame.wire_id, None)
        self._remember(frame, frame.wire_id)
        frame.wire_id, frame.attempts = self._new_name(frame), 0

    def _new_name(self, frame: SentFrame) -> str:
        return f"{frame.frame_id}{self._mark}{next(self._numbers)}"

    def find(self, message: dict[str, Any]) -> SentFrame | None:
        """The unanswered frame that a message is about."""
        wire_id, job_id = str(message.get("frame_id")), message.get("job_id") or ""
        frame = self._by_wire_id.get(wire_id)
        if frame is None:
            return None
        # Sent before the first subscription: what the server said of it came before what it says of others.
        known = frame.jobs.get(wire_id) if self.overhears and frame.chosen and wire_id == frame.frame_id else None
        if known and job_id and job_id != known:
            return None
        frame.job_id = frame.job_id or job_id
        frame.jobs[wire_id] = frame.jobs.get(wire_id) or job_id
        return frame

    def is_repeat(self, message: dict[str, Any]) -> bool:
        """Whether a terminal message is about a frame that has been answered."""
        if message.get("job_id") in self._answered:
            return True
        is_chosen = self._answered.get(message.get("frame_id"))
        return is_chosen is not None and not (is_chosen and self.overhears)

    def restore_name(self, message: dict[str, Any]) -> None:
        """Give a message about a frame of this client, answered or not, the `frame_id` that its sender chose."""
        if isinstance(wire_id := message.get("frame_id"), str) and self._mark in wire_id:
            message["frame_id"] = wire_id.rpartition(self._mark)[0]

    def remove(self, frame: SentFrame, job_id: str | None = None) -> None:
        """It is answered (by that job), or nobody waits for it any more."""
        self._waiting.pop(frame.frame_id, None)
        for wire_id in {frame.wire_id, *frame.jobs}:
            if self._by_wire_id.get(wire_id) is frame:
                del self._by_wire_id[wire_id]
        for known in {frame.wire_id, *frame.jobs.values(), job_id}:
            if known:
                self._remember(frame, known)

    def _remember(self, frame: SentFrame, known: str) -> None:
        self._answered[known] = frame.chosen and known == frame.frame_id
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
