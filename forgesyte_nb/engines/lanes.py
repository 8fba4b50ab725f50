"""The part that all engines with lanes share: jobs are handed over, run, and taken back; deadlines, and lanes that die.

`LaneEngine` hands jobs to `Lane`s, as `Placement` says, and hears from them; it knows neither processes nor threads. A
lane has one job running and maybe some that were handed over ahead. If the running one takes long after all, or another
lane is idle, those behind it are taken back. Only the job that had started pays for a crash; one handed over but not
started goes to another lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome, closed_outcome, unreadable
from forgesyte_nb.engines.job_queue import JobQueue
from forgesyte_nb.engines.placement import AHEAD_S, SHORT_S, Placement
from forgesyte_nb.engines.raised import raise_in_cell
from forgesyte_nb.engines.revisions import Revisions
from forgesyte_nb.engines.slot import Lane, Slot
from forgesyte_nb.engines.start_order import StartOrder
from forgesyte_nb.errors import PluginDefinitionError, PluginError, ProcessingTimeout, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

WATCH_INTERVAL_S = 0.05

START_S = 30.0
"""A lane that is still starting has so much longer to load the plugin of its first job."""

_LATE = 2.0  # times the time that a job should take
_MAX_DEATHS = 3
_MANY_STREAMS = 4


class LaneEngine:
    """Base of the engines with lanes; a subclass fills slots with lanes in `_fill`."""

    name = "lanes"
    lane_jobs = 2
    """Jobs that a lane has at most."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        """Make an engine that is not started yet."""
        self._settings = settings
        self._listener = listener
        self._order = StartOrder(listener)
        self._revisions = Revisions()
        self._loads: set[asyncio.Task[None]] = set()
        self._slots = [Slot() for _ in range(settings.lanes)]
        run_times_s: dict[str, float] = {}
        self._waiting = JobQueue(run_times_s)
        self._placement = Placement(self._slots, self._waiting, run_times_s, self.lane_jobs)
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._replaced = 0

    def _fill(self, slot: Slot) -> None:
        """Put a lane into an empty slot, now or soon; then call `_pump`."""
        raise TypeError(f"{type(self).__name__} does not say how to make a lane")

    def start(self) -> None:
        """Fill the slots."""
        for slot in self._slots:
            self._fill(slot)

    def submit(self, job: Job) -> None:
        """Queue a job, and hand it over if there is room."""
        if self._revisions.submitted(job.entry.plugin):
            self._unload_old(job.entry.plugin.name)
        is_first = self._waiting.add(job)
        self._pump()
        if is_first and self._waiting:
            # What lanes got ahead was the best choice without this job.
            self._take_back_ahead()

    def cancel(self, job: Job) -> bool:
        """End a job that waits; one that a lane has already is told."""
        if self._waiting.remove(job):
            self._forget(job)
            return True
        for slot in self._slots:
            if job in slot.jobs and slot.lane is not None:
                if job is not slot.running and slot.lane.recall(job):
                    slot.jobs.remove(job)
                    self._waiting.discard(job)
                    self._forget(job)
                    self._pump()
                    return True
                slot.lane.tell_cancelled(job)
        return False

    def forget_streams(self, prefix: str) -> None:
        """Let go of streams, here and in the lanes."""
        self._placement.forget_streams(prefix)
        for slot in self._slots:
            if slot.lane is not None:
                slot.lane.forget_streams(prefix)

    def disown(self) -> list[int]:
        """None, where lanes are in this process."""
        return []

    def stats(self) -> dict[str, Any]:
        """Lanes and queue, as numbers."""
        return {
            "lanes": len(self._slots),
            "busy": sum(1 for slot in self._slots if slot.jobs),
            "waiting": len(self._waiting),
            "replaced": self._replaced,
            "streams": self._placement.streams,
        }

    def expected_s(self, plugin: str) -> float:
        """What a frame of a plugin takes, by experience."""
        return self._placement.expected_s(plugin)

    # Handing over

    def _pump(self) -> None:
        """Hand over jobs while there is room for them."""
        # With many streams it is worth to see first whether there is room for any.
        while self._waiting and (self._waiting.streams < _MANY_STREAMS or self._placement.has_room_anywhere()):
            taken = self._waiting.take(self._placement.room_for)
            if taken is None:
                break
            self._hand_over(*taken)

    def _hand_over(self, job: Job, slot: Slot) -> None:
        job.attempts += 1
        slot.jobs.append(job)
        self._order.handed(job)
        if slot.lane is not None:
            if len(slot.jobs) == 1:
                # Until it has started, it is its plugin that is being loaded.
                slot.deadline = time.monotonic() + self._settings.setup_timeout_s + (0 if slot.ready else START_S)
            try:
                slot.lane.hand_over(job)
            except OSError as error:
                slot.jobs.remove(job)
                self._ended(job, Outcome(error=unreadable(error)))
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Answer a job: the last event of it."""
        self._waiting.settle(job, time.monotonic() - job.started_at if job.started_at else 0.0)
        self._forget(job)
        self._listener.ended(job, outcome)

    def _forget(self, job: Job) -> None:
        """A job has ended, or will not start."""
        self._order.forget(job)
        if self._revisions.ended(job.entry.plugin):
            self._unload_old(job.entry.plugin.name)

    # Plugins in lanes

    async def trial(self, entry: Entry) -> None:
        """Load a plugin in a lane, which keeps it, and raise what that raises; the other lanes load it afterwards.

        If every lane is held by a long frame, the plugin is tried in the spare, which does not keep it.
        """
        slot, spare = self._placement.lane_to_load(), self._spare_lane()
        if spare is not None and (slot is None or self._is_held(slot)):
            slot, error = None, await self._try_in(spare, entry)
        elif slot is not None:
            error = await self._load(slot, entry)
        else:
            raise PluginDefinitionError(f"{entry.plugin.name} cannot be loaded: no lane could be started; see the log")
        if error is not None:
            raise_in_cell(entry, error)
        self.supersede(entry.plugin)
        for other in self._slots:
            if other is not slot and other.lane is not None:
                task = self._loop.create_task(self._load_ahead(other, entry))
                self._loads.add(task)
                task.add_done_callback(self._loads.discard)

    def _spare_lane(self) -> Lane | None:
        """A lane in no slot, without jobs; None if there is none."""
        return None

    def _is_held(self, slot: Slot) -> bool:
        """True if what a lane has to do before it could load a plugin takes long."""
        if slot.stuck or slot.loading:
            return True
        running = slot.running
        if running is not None and time.monotonic() - running.started_at > AHEAD_S:
            return True
        return sum(self.expected_s(job.entry.plugin.name) for job in slot.jobs) > AHEAD_S

    async def _try_in(self, spare: Lane, entry: Entry) -> WireError | None:
        """Load a plugin in a lane that is in no slot, and unload it."""
        try:
            error = await spare.load(entry)
        except asyncio.CancelledError:
            spare.kill("a plugin could not be set up in time")
            raise
        if self._spare_lane() is spare:  # else it has taken the place of a lane, and needs the plugin
            spare.unload(entry.plugin.name, [])
        return error

    async def _load(self, slot: Slot, entry: Entry) -> WireError | None:
        """Load a plugin in a lane; if nobody waits for it any more, the lane is replaced.

        If the lane ends because of a job that came before, the plugin is loaded in the next lane of the slot.
        """
        lane, before = slot.lane, list(slot.jobs)
        if lane is None:
            return PluginError("cannot be loaded: no lane could be started; see the log")
        slot.loading += 1
        try:
            error = await lane.load(entry)
            died_before = slot.lane is not lane and not slot.unfinished.isdisjoint(before)
            if error is None or not (slot.stopping is lane or died_before) or self._closed:
                return error
        except asyncio.CancelledError:
            if slot.lane is lane and not any(job in slot.jobs for job in before):  # it may hang for ever
                slot.stopping = lane
                lane.kill("a plugin could not be set up in time")
            raise
        finally:
            slot.loading -= 1
            if not self._closed:
                self._pump()
        return await self._load(slot, entry)  # in the lane that has taken its place

    async def _load_ahead(self, slot: Slot, entry: Entry) -> None:
        """Load a plugin that is in force, so that its first frame does not wait for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.setup_timeout_s):
                if (error := await self._load(slot, entry)) is not None and slot.lane is not None:
                    self._listener.unloadable(entry.plugin, error)

    def supersede(self, plugin: Plugin) -> None:
        """Unload older revisions of a plugin, each with its last frame."""
        if self._revisions.supersede(plugin):
            self._unload_old(plugin.name)

    def _unload_old(self, name: str) -> None:
        kept = self._revisions.needed(name)
        for slot in self._slots:
            if slot.lane is not None:
                slot.lane.unload(name, kept)

    async def unload(self, name: str) -> None:
        """Unload all revisions of a plugin from all lanes, each after the frames that it has."""
        await asyncio.gather(*(slot.lane.unload(name, []) for slot in self._slots if slot.lane is not None))

    # What lanes say; always on the loop

    def lane_ready(self, slot: Slot) -> None:
        """The lane has done its starting and takes jobs."""
        slot.ready = True
        if slot.jobs:
            slot.deadline = time.monotonic() + self._settings.setup_timeout_s
        self._pump()

    def lane_started(self, slot: Slot, started_at: float | None = None) -> None:
        """The lane has started on the first of its jobs: now, or at a time in monotonic seconds."""
        job = slot.jobs[0]
        job.started_at = began = started_at or time.monotonic()
        slot.running = job
        slot.deadline = began + (job.entry.plugin.timeout_s or self._settings.plugin_timeout_s)
        self._order.started(job)

    def lane_progressed(self, slot: Slot, percent: float) -> None:
        """The running plugin reports progress."""
        if slot.running is not None and slot.running.status == "processing":
            self._listener.progressed(slot.running, percent)

    def lane_ended(self, slot: Slot, outcome: Outcome) -> None:
        """The first of its jobs is done."""
        job = slot.jobs.popleft()
        slot.running = None
        slot.stuck = False
        slot.deadline = float("inf") if not slot.jobs else time.monotonic() + self._settings.setup_timeout_s
        spent_s = (outcome.plugin_ms + outcome.decode_ms) / 1000
        self._placement.learn(job.entry.plugin.name, spent_s)
        self._waiting.settle(job, spent_s)
        if self._waiting:
            self._pump()
        elif not slot.jobs:
            self._relieve()
        self._ended(job, outcome)

    def lane_died(self, slot: Slot, reason: str) -> None:
        """The lane is gone: the job that had started fails, those that had not go elsewhere."""
        lane, running, overrun = slot.lane, slot.running, slot.overrun
        jobs = list(slot.jobs)
        slot.lane = slot.running = slot.overrun = None
        slot.unfinished = frozenset(jobs)
        slot.jobs.clear()
        slot.stuck = False
        slot.deadline = float("inf")
        if jobs and slot.stopping is not lane:
            jobs[0].deaths += 1
        self._placement.lost(slot)
        for job in reversed(jobs):
            if job is overrun:
                continue
            # One that waited behind another is innocent of the lane's death, however often it happens.
            if job is running or (job is jobs[0] and job.deaths >= _MAX_DEATHS):
                self._ended(job, Outcome(error=PluginError(f"{job.entry.plugin.name}: {reason}")))
            else:
                self._waiting.put_back(job)
        if not self._closed:
            self._replaced += 1
            self._fill(slot)
            self._pump()

    # Deadlines

    def _look(self) -> None:
        """Every `WATCH_INTERVAL_S` while there is work: stop what runs too long."""
        now = time.monotonic()
        for slot in self._slots:
            if now > slot.deadline and slot.lane is not None and slot.jobs and slot.overrun is None:
                self._stop_overrun(slot)
            elif len(slot.jobs) > 1 and slot.running is not None:
                expected_s = self.expected_s(slot.running.entry.plugin.name)
                if now - slot.running.started_at > max(SHORT_S, _LATE * expected_s):
                    self._take_back(slot)
        busy = any(slot.jobs for slot in self._slots) or len(self._waiting) > 0
        self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look) if busy and not self._closed else None

    def _take_back(self, slot: Slot) -> None:
        """What waits in a lane behind a job that takes long waits here instead, for whichever lane is free first."""
        slot.stuck = True
        for job in reversed(list(slot.jobs)[1:]):
            if slot.lane is not None and slot.lane.recall(job):
                slot.jobs.remove(job)
                self._waiting.put_back(job)
        self._pump()

    def _take_back_ahead(self) -> None:
        """Let the queue choose again which longer job waits in a lane behind another."""
        for slot in self._slots:
            if self._placement.is_ahead_of_work(slot) and slot.lane is not None and slot.lane.recall(slot.jobs[-1]):
                self._waiting.put_back(slot.jobs.pop())
        self._pump()

    def _relieve(self) -> None:
        """A lane is idle: it gets a job that waits behind a long one in another lane."""
        for slot in self._slots:
            if slot.lane is None or not self._placement.is_ahead_of_work(slot) or slot.jobs[-1].stream_key:
                continue
            if slot.lane.recall(slot.jobs[-1]):
                self._waiting.put_back(slot.jobs.pop())
                self._pump()
                return

    def _stop_overrun(self, slot: Slot) -> None:
        job = slot.jobs[0]
        plugin = job.entry.plugin
        slot.overrun = job
        if slot.running is job:
            limit_s = plugin.timeout_s or self._settings.plugin_timeout_s
            text = (
                f"{plugin.name} ran longer than its limit of {limit_s:g} s and was stopped; "
                'make it faster, or raise the limit with @fs.plugin("…", timeout_s=…)'
            )
        else:
            text = f"{plugin.name} could not be set up within {self._settings.setup_timeout_s:g} s and was stopped"
        slot.deadline = float("inf")
        self._ended(job, Outcome(error=ProcessingTimeout(text)))
        if slot.lane is not None:
            slot.lane.kill("it ran too long")

    def _answer_all(self) -> None:
        """At the end: everything that is left gets its terminal message."""
        self._closed = True
        for task in self._loads:
            task.cancel()
        if self._watch is not None:
            self._watch.cancel()
        left = self._waiting.drain() + [job for slot in self._slots for job in slot.jobs if job is not slot.overrun]
        for slot in self._slots:
            slot.jobs.clear()
            slot.running = None
        for job in left:
            if not job.ended:
                self._ended(job, closed_outcome())
