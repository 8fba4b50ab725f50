"""A job: one accepted frame on its way through a plugin, and the book of all jobs.

A `Job` moves `pending → processing → completed | failed`, never back, and ends once. `JobBook` numbers jobs,
knows those under way, and keeps a bounded number of ended ones with what was last said of them, so that a late
subscriber can be answered. Sans-I/O, but for a picture that is read back from the backlog's file; times are given in,
on a monotonic clock.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from forgesyte_nb.backlog import StoredImage
from forgesyte_nb.image.data import ImageData
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.protocol.messages import JobStatus
from forgesyte_nb.spool import Spooled

_HISTORY_BYTES = 16 * 1024 * 1024  # of messages kept for late subscribers, over all ended jobs


class Job:
    """One frame for one plugin.

    Attributes:
        job_id: Unique over all servers that ever were, starting with `job_`.
        frame_id: The client's name for the frame.
        entry: The plugin and how it travels.
        options: Raw JSON, already checked.
        stored_image: How the image is kept; dropped when the job ends.
        owner: The session that sent it; whatever the level above uses.
        stream: Owner and `stream_id`, or owner and plugin if the sender named no stream: frames of one stream start in
            the order sent.
        stream_key: Which state a stateful plugin uses; empty for a stateless one.
        seq: Number of the frame in its source, or among those of its stream.
        captured_at: Time of capture, seconds since the epoch; None if its sender did not say.
        time_s: Position in the clip, in seconds, likewise.
        status: State of the job.
        progress_percent: 0–100.
        received_at: Monotonic seconds.
        started_at: Monotonic seconds; 0 before a worker started on it.
        attempts: Times it was handed to a worker.
        deaths: Workers that died when it was their first.
    """

    __slots__ = (
        "attempts",
        "captured_at",
        "deaths",
        "entry",
        "frame_id",
        "job_id",
        "options",
        "owner",
        "progress_percent",
        "received_at",
        "seq",
        "started_at",
        "status",
        "stored_image",
        "stream",
        "stream_key",
        "time_s",
    )

    def __init__(
        self,
        job_id: str,
        frame_id: str,
        entry: Entry,
        options: bytes,
        stored_image: StoredImage,
        owner: Any,
        stream_key: str,
        seq: int,
        received_at: float,
        stream_id: str = "",
        captured_at: float | None = None,
        time_s: float | None = None,
    ) -> None:
        """Make a pending job."""
        self.captured_at, self.time_s = captured_at, time_s
        self.job_id = job_id
        self.frame_id = frame_id
        self.entry = entry
        self.options = options
        self.stored_image = stored_image
        self.owner = owner
        self.stream = (owner, stream_id, "" if stream_id else entry.plugin.name)
        self.stream_key = stream_key
        self.seq = seq
        self.received_at = received_at
        self.started_at = 0.0
        self.status: JobStatus = "pending"
        self.progress_percent = 0.0
        self.attempts = 0
        self.deaths = 0

    @property
    def image(self) -> ImageData:
        """The image file, read from the backlog's temporary file if it is there, or raw pixels.

        Raises:
            OSError: If that file cannot be read.
        """
        stored = self.stored_image
        return stored.read() if isinstance(stored, Spooled) else stored

    @property
    def ended(self) -> bool:
        """Whether it has had its terminal message."""
        return self.status in ("completed", "failed")

    def __repr__(self) -> str:
        return f"<Job {self.job_id} {self.entry.plugin.name} {self.status}>"


class EndedJob:
    """What is remembered of a job that has ended.

    Attributes:
        summary: For `/v1/jobs`.
        update: Its last `job_update`, encoded.
        terminal: Its terminal message, encoded; None if it was too large to keep.
    """

    __slots__ = ("summary", "terminal", "update")

    def __init__(self, summary: dict[str, Any], update: bytes, terminal: bytes | None) -> None:
        """Remember it."""
        self.summary = summary
        self.update = update
        self.terminal = terminal


class JobBook:
    """All jobs under way, and the last ones that ended."""

    def __init__(self, *, history: int) -> None:
        """Make an empty book that keeps `history` ended jobs."""
        self._prefix = f"job_{secrets.token_hex(4)}_"
        self._count = 0
        self._history = history
        self._history_bytes = 0
        self.active: dict[str, Job] = {}
        self._ended: OrderedDict[str, EndedJob] = OrderedDict()

    def open(
        self,
        frame_id: str,
        entry: Entry,
        options: bytes,
        image: StoredImage,
        owner: Any,
        stream_key: str,
        seq: int,
        received_at: float,
        stream_id: str = "",
        captured_at: float | None = None,
        time_s: float | None = None,
    ) -> Job:
        """A new pending job."""
        self._count += 1
        job_id = f"{self._prefix}{self._count}"
        job = Job(
            job_id,
            frame_id,
            entry,
            options,
            image,
            owner,
            stream_key,
            seq,
            received_at,
            stream_id,
            captured_at,
            time_s,
        )
        self.active[job_id] = job
        return job

    def end(self, job: Job, status: JobStatus, *, update: bytes, terminal: bytes, summary: dict[str, Any]) -> None:
        """End a job: it leaves the active ones, its image is let go, and the oldest ended job may be forgotten.

        Raises:
            ValueError: If it has ended before: a job has one terminal message.
        """
        if job.ended:
            raise ValueError(f"{job} has ended already")
        job.status = status
        job.stored_image = b""
        self.active.pop(job.job_id, None)
        if self._history:
            self._ended[job.job_id] = EndedJob(summary, update, terminal)
            self._history_bytes += len(terminal) + len(update)
            while len(self._ended) > self._history:
                self._forget(self._ended.popitem(last=False)[1])
            if self._history_bytes > _HISTORY_BYTES:
                self._trim()

    def _forget(self, ended: EndedJob) -> None:
        self._history_bytes -= len(ended.terminal or b"") + len(ended.update)

    def _trim(self) -> None:
        """Let go of the oldest terminal messages; their jobs stay listed."""
        for ended in self._ended.values():
            if self._history_bytes <= _HISTORY_BYTES:
                break
            self._history_bytes -= len(ended.terminal or b"")
            ended.terminal = None

    def ended(self, job_id: str) -> EndedJob | None:
        """What is remembered of an ended job."""
        return self._ended.get(job_id)

    def recent(self) -> Iterator[EndedJob]:
        """Ended jobs, the latest first."""
        return reversed(self._ended.values())

    @property
    def opened(self) -> int:
        """Jobs opened so far."""
        return self._count
