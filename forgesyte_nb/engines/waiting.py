"""The queue of jobs that wait for a lane: in order for each client, in turn between clients.

A client that sends a thousand frames at once does not keep another waiting for all of them: clients take turns,
one job each. Sans-I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from forgesyte_nb.jobs import Job

Place = TypeVar("Place")


class WaitingJobs:
    """Jobs by owner, owners in turn."""

    def __init__(self) -> None:
        """Make an empty queue."""
        self._queues: OrderedDict[Any, OrderedDict[Job, None]] = OrderedDict()  # to take any one out at once
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> int:
        """How many have jobs here."""
        return len(self._queues)

    def add(self, job: Job) -> None:
        """Put a job at the end of its owner's queue."""
        queue = self._queues.get(job.owner)
        if queue is None:
            queue = self._queues[job.owner] = OrderedDict()
        queue[job] = None
        self._count += 1

    def put_back(self, job: Job) -> None:
        """Put a job that was taken, but not started, first again."""
        queue = self._queues.setdefault(job.owner, OrderedDict())
        queue[job] = None
        queue.move_to_end(job, last=False)
        self._queues.move_to_end(job.owner, last=False)
        self._count += 1

    def take(self, room_for: Callable[[Job], Place | None]) -> tuple[Job, Place] | None:
        """Take the first job there is room for, looking at the first of each owner, the longest waiting first.

        Args:
            room_for: The place for a job; None if there is none now.
        """
        for owner, queue in self._queues.items():
            job = next(iter(queue))
            place = room_for(job)
            if place is not None:
                del queue[job]
                self._count -= 1
                if queue:
                    self._queues.move_to_end(owner)
                else:
                    del self._queues[owner]
                return job, place
        return None

    def remove(self, job: Job) -> bool:
        """Take out a certain job; whether it was there."""
        queue = self._queues.get(job.owner)
        if queue is None or job not in queue:
            return False
        del queue[job]
        self._count -= 1
        if not queue:
            del self._queues[job.owner]
        return True

    def drain(self) -> list[Job]:
        """Take all of them."""
        jobs = [job for queue in self._queues.values() for job in queue]
        self._queues.clear()
        self._count = 0
        return jobs
