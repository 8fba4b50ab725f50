"""The frames of one client that have not been answered, and the memory of those that have. Sans-I/O.

A frame is answered once. When a connection breaks, its frames are sent again on the next one, so a second answer
may come for the same frame, from the job that was thought lost: it is recognised by its `frame_id` or `job_id` and
swallowed. Messages about other clients' frames (a subscriber gets those too) are left alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from forgesyte_nb.client.pictures import Picture
from forgesyte_nb.client.results import Result, error_of
from forgesyte_nb.errors import ForgeSyteError

_REMEMBERED = 4096  # answered frames whose second answer is recognised; windows are far smaller


@dataclass(slots=True, eq=False)
class SentFrame:
    """One frame on its way.

    Attributes:
        frame_id: Its name on the wire; unique among those unanswered.
        plugin: Name of the plugin.
        options: JSON.
        stream_id: Which stream of this client it belongs to.
        picture: The picture.
        deliver: Called once with its `Result`.
        job_id: From its first `job_update`; empty before.
        sent_at: When it was first sent, monotonic seconds; 0 before.
        connection: Number of the connection it was last sent on; 0 before.
        attempts: How often it was sent.
    """

    frame_id: str
    plugin: str
    options: bytes
    stream_id: str
    picture: Picture
    deliver: Callable[[Result], object]
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
            job_id=message.get("job_id") or self.job_id,
            processing_time_ms=message.get("processing_time_ms"),
            latency_ms=(now - self.sent_at) * 1000,
            timings=message.get("timings") or {},
            plugin_revision=message.get("plugin_revision"),
            frame=self.picture,
        )


class Unanswered:
    """What was sent and not answered, in the order it was sent."""

    def __init__(self) -> None:
        """Make an empty book."""
        self._waiting: dict[str, SentFrame] = {}
        self._answered: OrderedDict[str, None] = OrderedDict()

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

    def find(self, message: dict[str, Any]) -> SentFrame | None:
        """The unanswered frame that a message is about."""
        frame_id = message.get("frame_id")
        frame = self._waiting.get(frame_id) if isinstance(frame_id, str) else None
        if frame is not None and not frame.job_id:
            frame.job_id = message.get("job_id") or ""
        return frame

    def is_repeat(self, message: dict[str, Any]) -> bool:
        """Whether a terminal message is about a frame that has been answered."""
        return message.get("frame_id") in self._answered or message.get("job_id") in self._answered

    def remove(self, frame: SentFrame, job_id: str | None = None) -> None:
        """It is answered (by that job), or nobody waits for it any more."""
        self._waiting.pop(frame.frame_id, None)
        for known in {frame.frame_id, frame.job_id, job_id}:
            if known:
                self._answered[known] = None
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
