"""A slot is the place for a lane: what the lane in it offers and tells to its engine, and the engine's view of both.

The lane may be replaced, the slot stays. Jobs that were handed over are in the slot, in order, until they have ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry


class Lane(Protocol):
    """What a lane must offer to the engine."""

    def hand_over(self, job: Job) -> None:
        """Take one more job; `OSError` if its picture cannot be read back from the backlog's file."""

    def kill(self, reason: str) -> None:
        """Stop whatever is running, now; the engine hears `lane_died`."""

    def recall(self, job: Job) -> bool:
        """Take back a job that was handed over; False if it has started."""

    def tell_cancelled(self, job: Job) -> None:
        """Tell the plugin that runs, or will run, for `job` that nobody waits any more."""

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of all streams whose key starts so."""

    def load(self, entry: Entry) -> asyncio.Future[WireError | None]:
        """Load a plugin after the jobs that the lane has; the error if it cannot be loaded, or the lane has died."""

    def unload(self, name: str, kept: list[int]) -> asyncio.Future[None]:
        """Unload all revisions of a plugin but those kept, after the jobs that the lane has."""


class LaneListener(Protocol):
    """What a lane tells its engine, and may ask it; always on the loop."""

    def expected_s(self, plugin: str) -> float:
        """What a frame of a plugin takes, by experience."""

    def lane_ready(self, slot: Slot) -> None:
        """The lane has done its starting and takes jobs."""

    def lane_started(self, slot: Slot, started_at: float | None = None) -> None:
        """The lane has started on the first of its jobs: now, or at a time in monotonic seconds."""

    def lane_progressed(self, slot: Slot, percent: float) -> None:
        """The running plugin reports progress."""

    def lane_ended(self, slot: Slot, outcome: Outcome) -> None:
        """The first of its jobs is done."""


class Slot:
    """A place for a lane, and the engine's view of it.

    Attributes:
        lane: The lane in it; None while a dead one is being replaced.
        stopping: The lane that was killed because a plugin could not be set up in time, or needs a new process; what
            else was to be loaded in it is loaded in the next one.
        jobs: Handed over and not ended, in order; the first is running or about to.
        deadline: When the running job is overdue, monotonic seconds; infinite while none runs.
        stuck: Whether the running job takes so long that nothing is handed over ahead.
        overrun: The job that was ended for running too long; its lane's death is no news.
        ready: Whether the lane could start at once; a process that is still starting could not.
        unfinished: Jobs that the last lane that died had not finished.
        loading: Plugins being loaded ahead of their first frame; meanwhile jobs go to other lanes.
    """

    __slots__ = (
        "deadline",
        "jobs",
        "lane",
        "loading",
        "overrun",
        "ready",
        "running",
        "stopping",
        "stuck",
        "unfinished",
    )

    def __init__(self) -> None:
        """Make an empty slot."""
        self.lane: Lane | None = None
        self.stopping: Lane | None = None
        self.jobs: deque[Job] = deque()
        self.running: Job | None = None
        self.deadline = float("inf")
        self.stuck = False
        self.overrun: Job | None = None
        self.ready = True
        self.unfinished: frozenset[Job] = frozenset()
        self.loading = 0
