"""The tasks that a worker process was handed and has not answered, and what it reports of them.

A task is a job on its way through one worker, known by its number: its picture lies in the memory shared with the
worker, unless it is too large or there is no place left. What is reported of a task whose job is not the first of its
lane, or was answered because its time was up, is ignored.
"""

from __future__ import annotations

import time
from typing import Any

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.lane_memory import PLACE_BYTES, PLACES, LaneMemory
from forgesyte_nb.engines.permits import Permits
from forgesyte_nb.engines.pipe import Kind, message
from forgesyte_nb.engines.slot import LaneListener, Slot
from forgesyte_nb.errors import WIRE_ERRORS
from forgesyte_nb.image.data import as_buffer, raw_format
from forgesyte_nb.jobs import Job

_QUIET_S = 0.01  # the worker does not report the start of tasks that take less
_NOWHERE = -1
_LAST_WORDS = (Kind.RESULT, Kind.FAILED)


class WorkerTasks:
    """One worker's tasks, on the server's side."""

    def __init__(self, engine: LaneListener, memory: LaneMemory, permits: Permits) -> None:
        """Start without any.

        Args:
            engine: Receives the events.
            memory: Shared with the worker.
            permits: For tasks to begin.
        """
        self._engine = engine
        self._memory = memory
        self._permits = permits
        self._handed = 0
        self._jobs: dict[int, Job] = {}
        self._places: dict[int, int] = {}
        self._free = list(range(PLACES))
        self._granted: list[int] = []

    def hand_over(self, job: Job) -> bytes:
        """Number a job and put its picture into the shared memory; the message that hands it over.

        Raises:
            OSError: If the picture cannot be read back from the backlog's file.
        """
        plugin, image = job.entry.plugin, job.image
        layout, buffer = raw_format(image), as_buffer(image)
        size, place = len(buffer), _NOWHERE
        self._handed = number = self._handed + 1
        self._jobs[number] = job
        self._granted.append(number)
        if size <= PLACE_BYTES and self._free:
            place = self._places[number] = self._free.pop()
            self._memory.put(place, buffer)
            buffer = b""
        start_is_news = self._engine.expected_s(plugin.name) > _QUIET_S
        origin = (job.frame_id, job.stream_key, job.seq, job.captured_at, job.time_s)
        task = (plugin.name, plugin.revision, origin, job.options, place, size, layout)
        return message(Kind.TASK, (number, start_is_news, *task), buffer)

    def grant(self) -> None:
        """Let the worker begin all tasks handed over."""
        if self._granted:
            self._permits.grant(self._granted)
            self._granted.clear()

    def recall(self, job: Job) -> bool:
        """Take a task back; False if it has begun."""
        self.grant()
        number = self.number_of(job)
        if not number or not self._permits.revoke(number):
            return False
        self._forget(number)
        return True

    def number_of(self, job: Job) -> int:
        """The number of a job; 0 if it is not here."""
        return next((number for number, one in self._jobs.items() if one is job), 0)

    def look(self, slot: Slot | None) -> None:
        """Find out what the worker has begun without reporting it: a short task, which may hang or kill it."""
        if slot is None or not slot.jobs or slot.running is not None:
            return
        number = self.number_of(slot.jobs[0])
        if number and number not in self._granted and number not in self._permits.waiting():
            self.begun(slot, number, time.monotonic())

    def begun(self, slot: Slot | None, number: int, started_at: float) -> Job | None:
        """A task has begun, which may be known already; its job, or None if nobody waits for it any more.

        Args:
            slot: The worker's; None if another lane is in it by now.
            number: The task.
            started_at: When it began, monotonic seconds.
        """
        job = self._jobs.get(number)
        if slot is None or slot.overrun is not None:
            return None  # the last words of a worker whose job has been answered
        if job is None or not slot.jobs or slot.jobs[0] is not job:
            return None
        if slot.running is not job:
            self._engine.lane_started(slot, started_at)
        return job

    def hear(self, slot: Slot | None, kind: int, body: Any, tail: bytes) -> None:
        """The worker reports something of a task."""
        number, started_at, *more = body
        job = self.begun(slot, number, started_at)
        if kind in _LAST_WORDS:
            self._forget(number)
        if job is not None and slot is not None:
            self._tell(job, slot, kind, more, tail)

    def _forget(self, number: int) -> None:
        self._jobs.pop(number, None)
        place = self._places.pop(number, _NOWHERE)
        if place != _NOWHERE:
            self._free.append(place)

    def _tell(self, job: Job, slot: Slot, kind: int, more: list[Any], tail: bytes) -> None:
        engine = self._engine
        if kind == Kind.RESULT:
            engine.lane_ended(slot, Outcome(tail, None, *more))
        elif kind == Kind.PROGRESS:
            engine.lane_progressed(slot, more[0])
        elif kind == Kind.FAILED:
            decode_ms, plugin_ms, output, code, text, detail = more
            error = WIRE_ERRORS[code](text, detail=detail)  # the runner knows no others
            engine.lane_ended(slot, Outcome(None, error, decode_ms, plugin_ms, output))
