"""Queue of jobs that wait for a lane: first in, first out within each stream, fair between streams.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) in seconds of lane time. Each stream has a virtual time
that advances by the run time of its jobs: the expected one when a job is taken, corrected to the real one when it ends.
The next job is the one that would finish first in virtual time. A stream that becomes active starts at the queue's
virtual time: it gets the next free lane if its jobs are short, and no credit for the time when it was idle. Sans-I/O.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from forgesyte_nb.jobs import Job

Place = TypeVar("Place")


class _Stream:
    """Waiting jobs of one stream.

    Attributes:
        jobs: Waiting jobs, in the order to start them; a dict so that any can be removed in constant time.
        served_s: Virtual time at which its jobs taken so far finish.
        under_way: Jobs taken and not settled.
        floor_s: The queue's virtual time when its first waiting job became the first.
        entry: Number of its valid entry in the heap.
    """

    __slots__ = ("entry", "floor_s", "jobs", "served_s", "under_way")

    def __init__(self, now_s: float) -> None:
        self.jobs: OrderedDict[Job, None] = OrderedDict()
        self.served_s = now_s
        self.under_way = 0
        self.floor_s = now_s
        self.entry = -1

    @property
    def start_s(self) -> float:
        """Virtual start of its first waiting job."""
        return max(self.floor_s, self.served_s)


class JobQueue:
    """Waiting jobs of all streams.

    A stream is named by `Job.stream`: owner and `stream_id`, or owner and plugin. A client of the seed's protocol sends
    no `stream_id`; its frames for one plugin do not wait for all that it has sent to a slower one.
    """

    def __init__(self, run_times_s: Mapping[str, float] | None = None) -> None:
        """Make an empty queue.

        Args:
            run_times_s: Mean run time of a frame by plugin name, in seconds; it may change at any time. A plugin that
                is not in it counts as free until its first job has ended.
        """
        self._run_times_s = {} if run_times_s is None else run_times_s
        self._streams: dict[Any, _Stream] = {}
        self._heap: list[tuple[float, int, Any]] = []  # virtual finish of a stream's first job, entry, stream
        self._entries = 0
        self._charged: dict[Job, float] = {}
        self._now_s = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: Job) -> bool:
        """Append a job to its stream; True if it is the first there, so the next job to take may have changed."""
        stream = self._stream(job)
        stream.jobs[job] = None
        self._count += 1
        if len(stream.jobs) > 1:
            return False
        self._first_changed(job.stream, stream)
        return True

    def put_back(self, job: Job) -> None:
        """Put a job that was taken, but did not run, first in its stream again."""
        self.discard(job)
        stream = self._stream(job)
        stream.jobs[job] = None
        stream.jobs.move_to_end(job, last=False)
        self._count += 1
        self._first_changed(job.stream, stream)

    def take(self, room_for: Callable[[Job], Place | None]) -> tuple[Job, Place] | None:
        """Take the next job for which there is room; only the first of each stream is considered.

        Args:
            room_for: Returns the place for a job; None if there is none now.
        """
        passed_over: list[tuple[float, int, Any]] = []
        taken = None
        while self._heap and taken is None:
            entry = heapq.heappop(self._heap)
            stream = self._streams.get(entry[2])
            if stream is None or stream.entry != entry[1]:
                continue  # superseded
            job = next(iter(stream.jobs))
            if stream.start_s + self._expected_s(job) > entry[0]:
                self._schedule(entry[2], stream)  # its plugin is slower than was known
                continue
            place = room_for(job)
            if place is None:
                passed_over.append(entry)
            else:
                self._charge(job, stream)
                taken = job, place
        for entry in passed_over:
            heapq.heappush(self._heap, entry)
        return taken

    def settle(self, job: Job, spent_s: float) -> None:
        """Correct the charge of a job that was taken and has ended.

        Args:
            job: The job.
            spent_s: Time for which it occupied a lane, in seconds.
        """
        charged_s = self._charged.pop(job, None)
        stream = self._streams.get(job.stream)
        if charged_s is None or stream is None:
            return
        # What a lane has done for one of the active streams: their fair shares have grown by that much.
        self._now_s += spent_s / len(self._streams)
        stream.served_s += spent_s - charged_s
        stream.under_way -= 1
        if stream.jobs:
            self._schedule(job.stream, stream)
        else:
            self._drop_if_idle(job.stream, stream)

    def remove(self, job: Job) -> bool:
        """Remove a waiting job; False if it is not waiting."""
        stream = self._streams.get(job.stream)
        if stream is None or job not in stream.jobs:
            return False
        was_first = next(iter(stream.jobs)) is job
        del stream.jobs[job]
        self._count -= 1
        if was_first:
            self._first_changed(job.stream, stream)
        return True

    def discard(self, job: Job) -> None:
        """Refund a job that was taken and will not run."""
        charged_s = self._charged.pop(job, None)
        stream = self._streams.get(job.stream)
        if charged_s is not None and stream is not None:
            stream.served_s -= charged_s
            stream.under_way -= 1
            self._first_changed(job.stream, stream)

    def drain(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        jobs = [job for stream in self._streams.values() for job in stream.jobs]
        self._streams.clear()
        self._heap.clear()
        self._charged.clear()
        self._count = 0
        return jobs

    @property
    def streams(self) -> int:
        """Number of streams with jobs waiting or under way."""
        return len(self._streams)

    def _stream(self, job: Job) -> _Stream:
        stream = self._streams.get(job.stream)
        if stream is None:
            stream = self._streams[job.stream] = _Stream(self._now_s)
        return stream

    def _charge(self, job: Job, stream: _Stream) -> None:
        del stream.jobs[job]
        self._count -= 1
        cost_s = self._charged[job] = self._expected_s(job)
        start_s = stream.start_s
        self._now_s = max(self._now_s, start_s)
        stream.served_s = start_s + cost_s
        stream.under_way += 1
        self._first_changed(job.stream, stream)

    def _first_changed(self, name: Any, stream: _Stream) -> None:
        stream.entry = -1
        if stream.jobs:
            stream.floor_s = self._now_s
            self._schedule(name, stream)
        else:
            self._drop_if_idle(name, stream)

    def _schedule(self, name: Any, stream: _Stream) -> None:
        """Enter a stream into the heap by its first job."""
        first = next(iter(stream.jobs))
        self._entries += 1
        stream.entry = self._entries
        heapq.heappush(self._heap, (stream.start_s + self._expected_s(first), self._entries, name))
        if len(self._heap) > 4 * len(self._streams) + 64:  # most are superseded
            self._heap = [entry for entry in self._heap if self._is_valid(entry)]
            heapq.heapify(self._heap)

    def _expected_s(self, job: Job) -> float:
        return self._run_times_s.get(job.entry.plugin.name, 0.0)

    def _is_valid(self, entry: tuple[float, int, Any]) -> bool:
        stream = self._streams.get(entry[2])
        return stream is not None and stream.entry == entry[1]

    def _drop_if_idle(self, name: Any, stream: _Stream) -> None:
        if not stream.jobs and not stream.under_way:
            del self._streams[name]
