"""Which lane a job goes to: where there is room for it, by what frames of its plugin have taken so far.

An idle lane comes first. If jobs of a plugin are short, some are handed over ahead so that a lane never waits for the
loop; of longer ones one, as long as there are enough for all lanes. A stream of a stateful plugin stays with the lane
that got it first. Sans-I/O.
"""

from __future__ import annotations

from collections import OrderedDict

from forgesyte_nb.engines.job_queue import JobQueue
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.jobs import Job

SHORT_S = 0.05
"""Jobs are handed over ahead as long as all of a lane's together should take less than this."""

AHEAD_S = 0.25
"""One job that takes up to so long is handed over ahead, if more wait than there are lanes; others may come, too."""

_MAX_PINNED = 10_000


class Placement:
    """Looks at slots and at how many jobs wait; remembers whose stream is where, and how long plugins take."""

    def __init__(self, slots: list[Slot], waiting: JobQueue, run_times_s: dict[str, float], lane_jobs: int) -> None:
        """Place jobs in `slots`, at most `lane_jobs` in each; `run_times_s` is kept up to date."""
        self._slots = slots
        self._waiting = waiting
        self._lane_jobs = lane_jobs
        self._pinned: OrderedDict[str, Slot] = OrderedDict()
        self._run_times_s = run_times_s

    def room_for(self, job: Job) -> Slot | None:
        """Where there is room for a job; None if nowhere."""
        if job.stream_key:
            slot = self._pinned.get(job.stream_key)
            if slot is None:
                slot = min(self._slots, key=self._load)
                self._pinned[job.stream_key] = slot
                if len(self._pinned) > _MAX_PINNED:
                    self._pinned.popitem(last=False)
            else:
                self._pinned.move_to_end(job.stream_key)  # who is pinned longest without a frame goes first
            return slot if slot.lane is not None and self._has_room(slot) else None
        ahead = None
        at_work = False
        for slot in self._slots:
            if slot.lane is None:
                continue
            if slot.ready and not slot.jobs and not slot.loading:
                return slot
            at_work = at_work or slot.ready or len(slot.jobs) > 0
            if slot.ready and self._has_room(slot) and (ahead is None or len(slot.jobs) < len(ahead.jobs)):
                ahead = slot
        if at_work:
            return ahead
        # All lanes are still starting: the first gets one job, so that jobs do not overtake each other.
        return next((slot for slot in self._slots if slot.lane is not None), None)

    def lane_to_load(self) -> Slot | None:
        """The lane in which to try a plugin: an idle one, with as few streams as possible; None if there is no lane."""
        return min(
            (slot for slot in self._slots if slot.lane is not None),
            key=lambda slot: (slot.loading, not slot.ready, len(slot.jobs), self._load(slot)),
            default=None,
        )

    def _load(self, slot: Slot) -> tuple[int, int]:
        return sum(1 for pinned in self._pinned.values() if pinned is slot), len(slot.jobs)

    def _has_room(self, slot: Slot) -> bool:
        jobs = slot.jobs
        count = len(jobs)
        if slot.loading and not all(one.loading or one.lane is None for one in self._slots):
            return False
        if not count:
            return True
        if slot.stuck or count >= self._lane_jobs:
            return False
        longest_s = max(self.expected_s(jobs[0].entry.plugin.name), self.expected_s(jobs[-1].entry.plugin.name))
        if count * longest_s < SHORT_S:
            return True
        return count == 1 and longest_s < AHEAD_S and len(self._waiting) >= len(self._slots)

    def is_ahead_of_work(self, slot: Slot) -> bool:
        """True if a lane has a job that waits behind a longer one."""
        return len(slot.jobs) > 1 and self.expected_s(slot.jobs[0].entry.plugin.name) > SHORT_S

    def has_room_anywhere(self) -> bool:
        """Whether any lane has room."""
        return any(slot.lane is not None and self._has_room(slot) for slot in self._slots)

    # What plugins take

    def expected_s(self, plugin: str) -> float:
        """What a frame of a plugin takes, by experience; long, as long as there is none."""
        return self._run_times_s.get(plugin, 1.0)

    def learn(self, plugin: str, spent_s: float) -> None:
        """A frame of a plugin took so long."""
        known_s = self._run_times_s.get(plugin)
        self._run_times_s[plugin] = spent_s if known_s is None else known_s + 0.2 * (spent_s - known_s)

    # Streams

    @property
    def streams(self) -> int:
        """How many have a lane of theirs."""
        return len(self._pinned)

    def forget_streams(self, prefix: str) -> None:
        """Let go of all streams whose key starts so."""
        for stream_key in [key for key in self._pinned if key.startswith(prefix)]:
            del self._pinned[stream_key]

    def lost(self, slot: Slot) -> None:
        """The lane of a slot is gone, and with it the states of its streams: they may go anywhere."""
        for stream_key in [key for key, pinned in self._pinned.items() if pinned is slot]:
            del self._pinned[stream_key]
