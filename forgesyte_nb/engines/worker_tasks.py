"""The tasks that a worker process was handed and has not answered, and what it says of them.

A task is a job on its way through one worker, known by its number: its picture lies in the memory shared with the
worker, unless it is too large, and everything said of it, by either side, says that number. What is said of a task
whose job is not the first of its lane, or was answered because its time was up, is heard, and nobody is told.
"""

from __future__ import annotations

from typing import Any

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.lane_memory import LaneMemory
from forgesyte_nb.engines.pipe import Kind, message
from forgesyte_nb.engines.slot import LaneListener, Slot
from forgesyte_nb.errors import WIRE_ERRORS
from forgesyte_nb.jobs import Job

_QUIET_S = 0.01  # of tasks that take less the worker does not say at once that they have begun
_LAST_WORDS = (Kind.RESULT, Kind.FAILED, Kind.RECALLED)


class WorkerTasks:
    """One worker's tasks, on the server's side."""

    def __init__(self, engine: LaneListener, memory: LaneMemory) -> None:
        """None yet.

        Args:
            engine: Who is told.
            memory: What is shared with the worker.
        """
        self._engine = engine
        self._memory = memory
        self._handed = 0
        self._jobs: dict[int, Job] = {}

    def hand_over(self, job: Job) -> bytes:
        """Number a job and put its picture into the shared memory; the message that hands it over.

        Raises:
            OSError: If the picture cannot be read back from the backlog's file.
        """
        plugin, image = job.entry.plugin, job.image
        size = len(image)
        self._handed = number = self._handed + 1
        self._jobs[number] = job
        if self._memory.put_image(number, image):
            image = b""
        else:
            size = -1
        start_is_news = self._engine.expected_s(plugin.name) > _QUIET_S
        task = (plugin.name, plugin.revision, job.frame_id, job.stream_key, job.seq, job.captured_at, job.options, size)
        return message(Kind.TASK, (number, start_is_news, *task), image)

    def recall(self, job: Job) -> bool:
        """Take a task back if it has not begun."""
        number = self.number_of(job)
        if not number or not self._memory.recall(number):
            return False
        del self._jobs[number]
        return True

    def number_of(self, job: Job) -> int:
        """The number of a job; 0 if it is not here."""
        return next((number for number, one in self._jobs.items() if one is job), 0)

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
        """The worker says something of a task."""
        number, started_at, _, *more = body
        job = self.begun(slot, number, started_at) if kind != Kind.RECALLED else self._jobs.get(number)
        if job is not None and slot is not None:
            self._tell(job, slot, kind, more, tail)
        if kind in _LAST_WORDS:
            self._jobs.pop(number, None)

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
        elif kind == Kind.RECALLED:
            engine.lane_returned(slot, job)  # it seemed to have begun when it was recalled
