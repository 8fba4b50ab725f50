"""Announces the starts of one stream's jobs in the order in which they were sent.

Lanes work side by side, so a job may start while one sent before it still waits behind another in its lane. The earlier
one is then announced first: it has been handed to a lane and is about to start. No result is held back. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from forgesyte_nb.engines.contract import Listener
from forgesyte_nb.jobs import Job


class StartOrder:
    """Start ordering between the lanes and the listener."""

    def __init__(self, listener: Listener) -> None:
        """Announce starts to `listener`."""
        self._listener = listener
        self._handed: dict[Any, deque[Job]] = {}

    def handed(self, job: Job) -> None:
        """Note that a job was handed to a lane; a job handed to a second lane keeps its place."""
        if job.attempts == 1:
            queue = self._handed.get(job.stream)
            if queue is None:
                queue = self._handed[job.stream] = deque()
            queue.append(job)

    def started(self, job: Job) -> None:
        """Announce the start of a job, after those of its stream that were handed over before it."""
        queue = self._handed.get(job.stream)
        if queue is None or job not in queue:
            return  # announced already
        announced = None
        while announced is not job:
            announced = queue.popleft()
            self._listener.started(announced)
        self._drop_if_empty(job, queue)

    def forget(self, job: Job) -> None:
        """Forget a job that has ended or will not start."""
        queue = self._handed.get(job.stream)
        if queue is not None and job in queue:
            queue.remove(job)
            self._drop_if_empty(job, queue)

    def _drop_if_empty(self, job: Job, queue: deque[Job]) -> None:
        if not queue:
            del self._handed[job.stream]
