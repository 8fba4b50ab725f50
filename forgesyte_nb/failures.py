"""Failed frames of late: what a client is not told, kept in this process for whoever mends the plugin.

Over the wire goes one line. The picture, the options and the plugin's own traceback stay here, within bounds, for as
long as the process: dispatchers add to the book, clients and displays of the same process look into it. Many failures
of one plugin displace each other before they displace those of another. Thread-safe; nothing here does I/O.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Self

from forgesyte_nb.errors import ForgeSyteError
from forgesyte_nb.image.data import ImageData, size_bytes
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Registry

MOST_FAILURES = 256
MOST_BYTES = 64 * 1024 * 1024  # of pictures, raw pixels at worst, and tracebacks
MOST_KINDS = 1000


@dataclass(frozen=True, slots=True)
class FailedFrame:
    """One frame that a plugin failed on.

    Attributes:
        job_id: Of its job, unique over all servers.
        plugin: Name of the plugin.
        revision: Which code of it failed; 0 if that is not known.
        registry: Returns where the plugin is found, as long as that lives: a failure keeps no plugin alive.
        frame_id: The sender's name for it.
        seq: Number of the frame among those of its stream.
        options: JSON, as they were sent.
        image: The image file, or raw pixels; empty if it was gone already.
        error: What the client was told, with the plugin's traceback as `detail` if it raised something.
        captured_at: Time of capture, seconds since the epoch; None if unknown.
        time_s: Position in the clip, in seconds; None if unknown.
        failed_at: Seconds since the epoch.
    """

    job_id: str
    plugin: str
    revision: int
    registry: Callable[[], Registry | None]
    frame_id: str
    seq: int
    options: bytes
    image: ImageData
    error: ForgeSyteError
    captured_at: float | None = None
    time_s: float | None = None
    failed_at: float = field(default_factory=time.time)

    @classmethod
    def of(cls, job: Job, error: ForgeSyteError, registry: Registry) -> Self:
        """What is to be remembered of a job that fails; before its picture is let go."""
        plugin, place = job.entry.plugin, weakref.ref(registry)
        try:
            image = job.image
        except OSError:
            image = b""  # the backlog's file cannot be read, which may be why it failed
        return cls(
            job.job_id,
            plugin.name,
            plugin.revision,
            place,
            job.frame_id,
            job.seq,
            job.options,
            image,
            error,
            job.captured_at,
            job.time_s,
        )

    @property
    def kind(self) -> Hashable:
        """Key of equal failures: plugin, revision, type and text of the error."""
        return (self.plugin, self.revision, type(self.error), str(self.error))

    @property
    def detail(self) -> str:
        """The plugin's own traceback; empty if there is none."""
        return str(getattr(self.error, "detail", ""))

    @property
    def size(self) -> int:
        """Bytes of what is large in it."""
        return size_bytes(self.image) + len(self.detail)


class FailureCounts:
    """Counts failures by kind (`FailedFrame.kind`), including those no longer kept. Not thread-safe."""

    def __init__(self) -> None:
        """Count from 0."""
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def add(self, kind: Hashable) -> None:
        """Count one. Of more than `MOST_KINDS` kinds the one longest not seen is dropped."""
        self._counts[kind] = self._counts.pop(kind, 0) + 1
        if len(self._counts) > MOST_KINDS:
            self._counts.popitem(last=False)

    def of(self, kind: Hashable) -> int:
        """Failures of a kind so far."""
        return self._counts.get(kind, 0)


class FailureBook:
    """The failed frames of one process."""

    def __init__(self, *, most: int = MOST_FAILURES, most_bytes: int = MOST_BYTES) -> None:
        """Make an empty book with these bounds."""
        self._most, self._most_bytes = most, most_bytes
        self._by_job: dict[str, FailedFrame] = {}
        self._by_plugin: dict[str, deque[FailedFrame]] = {}
        self._bytes = 0
        self._counts: weakref.WeakKeyDictionary[Registry, FailureCounts] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def add(self, failed: FailedFrame) -> None:
        """Remember one; over the bounds, the plugin with the most of them loses its oldest."""
        with self._lock:
            if (registry := failed.registry()) is not None:
                self._counts.setdefault(registry, FailureCounts()).add(failed.kind)
            self._by_job[failed.job_id] = failed
            self._by_plugin.setdefault(failed.plugin, deque()).append(failed)
            self._bytes += failed.size
            while len(self._by_job) > self._most or (self._bytes > self._most_bytes and len(self._by_job) > 1):
                self._forget(max(self._by_plugin.values(), key=len)[0])

    def _forget(self, failed: FailedFrame) -> None:
        del self._by_job[failed.job_id]
        group = self._by_plugin[failed.plugin]
        group.popleft()
        if not group:
            del self._by_plugin[failed.plugin]
        self._bytes -= failed.size

    def of_job(self, job_id: str) -> FailedFrame | None:
        """The failed frame of a job; None if it is none of this process, or of long ago."""
        return self._by_job.get(job_id)

    def count(self, kind: Hashable, registry: Registry) -> int:
        """Number of failures of a kind (`FailedFrame.kind`) in a registry, including those no longer kept."""
        with self._lock:
            return self._counts.get(registry, FailureCounts()).of(kind)

    def of_plugin(self, plugin: str, registry: Registry) -> list[FailedFrame]:
        """Those of a plugin of this registry, oldest first."""
        with self._lock:
            return [failed for failed in self._by_plugin.get(plugin, ()) if failed.registry() is registry]


_book = FailureBook()


def failure_book() -> FailureBook:
    """The failed frames of this process."""
    return _book
