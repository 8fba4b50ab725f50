"""Announces the starts of one client's jobs in the order in which they were sent.

Lanes work side by side, so the news that the second job has started may arrive before the news of the first. Here
the second is held back until the first has started (or ended), and its result with it. A job that was handed
over but does not get to start, behind one that runs longer than it ever did, holds back the others for
`PATIENCE_S` at most. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome
from forgesyte_nb.jobs import Job

PATIENCE_S = 1.0


class StartOrder:
    """Between the lanes and the listener."""

    def __init__(self, listener: Listener) -> None:
        """Announce to `listener`."""
        self._listener = listener
        self._handed: dict[Any, deque[Job]] = {}
        self._held: dict[Job, Outcome] = {}

    def handed(self, job: Job) -> None:
        """A job goes to a lane; one that goes to its second lane keeps its place."""
        if job.attempts == 1:
            queue = self._handed.get(job.owner)
            if queue is None:
                queue = self._handed[job.owner] = deque()
            queue.append(job)

    def started(self, job: Job) -> None:
        """A lane has started on it (`started_at` is set)."""
        queue = self._handed.get(job.owner)
        if queue is not None and queue[0] is job:
            self._release(job.owner, queue)

    def ended(self, job: Job, outcome: Outcome) -> None:
        """It is done, or will never start."""
        if job.status != "pending":
            self._listener.ended(job, outcome)
            return
        queue = self._handed.get(job.owner)
        if queue is None or job not in queue:
            self._listener.ended(job, outcome)
        elif job.started_at:
            self._held[job] = outcome
        else:
            queue.remove(job)
            self._listener.ended(job, outcome)
            self._release(job.owner, queue)

    def forget(self, job: Job) -> None:
        """It was taken back and will never start."""
        queue = self._handed.get(job.owner)
        if queue is not None and job in queue:
            queue.remove(job)
            self._release(job.owner, queue)

    def overdue(self, now: float) -> None:
        """Let those go that were held back too long."""
        for owner, queue in list(self._handed.items()):
            if any(job.started_at and now - job.started_at > PATIENCE_S for job in queue):
                waiting = deque(job for job in queue if not job.started_at)
                for job in queue:
                    if job.started_at:
                        self._announce(job)
                self._handed[owner] = waiting
                self._release(owner, waiting)

    def _release(self, owner: Any, queue: deque[Job]) -> None:
        while queue and queue[0].started_at:
            self._announce(queue.popleft())
        if not queue:
            del self._handed[owner]

    def _announce(self, job: Job) -> None:
        self._listener.started(job)
        outcome = self._held.pop(job, None)
        if outcome is not None:
            self._listener.ended(job, outcome)
