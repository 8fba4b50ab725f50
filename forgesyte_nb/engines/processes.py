"""The processes engine, the default: each lane is a worker process and a socket pair, served by the event loop.

A worker that runs too long or dies is replaced from a warm spare, so that the lane is back at once. Plugins are
loaded in a worker when it first needs them; a new revision is tried in a lane before it comes into force.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome
from forgesyte_nb.engines.lane_memory import PLACES
from forgesyte_nb.engines.lanes import LaneEngine
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.engines.worker_process import WorkerProcess
from forgesyte_nb.errors import PluginDefinitionError, PluginError, WireError
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_READ_BYTES = 256 * 1024
_CLOSE_S = 1.25  # a worker gives itself a second; a kernel that is asked to end has little more
_HOPELESS = 3  # failed starts in a row in every slot, until jobs are answered instead of kept waiting
_RETRY_S, _MAX_RETRY_S = 0.1, 5.0  # until a worker that could not be started is tried again, doubled each time
_LOG_INTERVAL_S = 1.0


class ProcessEngine(LaneEngine):
    """Lanes that are worker processes, and a warm spare."""

    name = "processes"
    lane_jobs = PLACES

    def __init__(self, settings: Settings, listener: Listener) -> None:
        """Make an engine that is not started yet."""
        super().__init__(settings, listener)
        self._workers: set[WorkerProcess] = set()
        self._spare: WorkerProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # How often in a row starting a worker failed, by the slot it was for; None for the spare.
        self._failed_starts: dict[Slot | None, int] = {}
        self._retries: dict[Slot | None, asyncio.TimerHandle] = {}
        self._next_log = float("-inf")  # when a failed start may be logged again, by the loop's clock
        self.outputs: set[asyncio.BaseTransport] = set()
        # Not one for all engines: each server has a loop thread of its own, and reading lets go of the GIL.
        self.buffer = memoryview(bytearray(_READ_BYTES))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs on."""
        return self._loop

    def disown(self) -> list[int]:
        """In a process forked from this one: let go of the lanes' memory; what tells of workers' ends."""
        return [descriptor for worker in list(self._workers) for descriptor in worker.disown()]

    def _look(self) -> None:
        for worker in list(self._workers):
            worker.look()
        super()._look()

    def spawn(self, work: Any) -> None:
        """Run a coroutine to its end, holding on to it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def logged(self, plugin: str, text: str) -> None:
        """For the log."""
        self._listener.logged(plugin, text)

    def unloadable(self, name: str, revision: int, error: WireError) -> None:
        """A worker could not load the plugin of one of its jobs."""
        for slot in self._slots:
            for job in slot.jobs:
                plugin = job.entry.plugin
                if (plugin.name, plugin.revision) == (name, revision):
                    self._listener.unloadable(plugin, error)
                    return

    def _new_worker(self) -> WorkerProcess:
        worker = WorkerProcess(self, self._settings)
        self._workers.add(worker)
        return worker

    def _fill(self, slot: Slot) -> None:
        """Put the spare in, or a new worker; jobs may be handed over before it is ready."""
        worker, self._spare = self._spare, None
        if worker is None:
            worker = self._start_for(slot)
        if worker is not None:
            slot.lane = worker
            worker.slot = slot
            slot.ready = worker.ready.is_set()
            self.worker_ready()

    def _start_for(self, slot: Slot | None) -> WorkerProcess | None:
        """A new worker for a slot, or to be the spare; None if there can be none now: it is tried again later."""
        if slot in self._retries:
            return None
        try:
            return self._new_worker()
        except OSError as error:
            reason = f"worker processes cannot start: {_explained(error)}"
            self._log_failed_start(reason)
            self._start_failed(slot)
            self._answer_if_hopeless(reason)
            return None

    def _log_failed_start(self, reason: str) -> None:
        """Log a line a second at most."""
        if self._loop.time() >= self._next_log:
            self._next_log = self._loop.time() + _LOG_INTERVAL_S
            self.logged("processes", reason)

    def _answer_if_hopeless(self, reason: str) -> None:
        """Answer what waits if starting a worker has failed too often in every slot."""
        if all(self._failed_starts.get(slot, 0) >= _HOPELESS for slot in self._slots):
            for job in self._waiting.drain():
                self._ended(job, Outcome(error=PluginError(f"{job.entry.plugin.name}: {reason}")))

    def _start_failed(self, slot: Slot | None) -> None:
        """Try again, later each time."""
        count = self._failed_starts[slot] = self._failed_starts.get(slot, 0) + 1
        delay_s = min(_RETRY_S * 2 ** (count - 1), _MAX_RETRY_S) if count < 16 else _MAX_RETRY_S
        self._retries[slot] = self._loop.call_later(delay_s, self._retry, slot)

    def start_succeeded(self, slot: Slot | None) -> None:
        """A worker is ready: the next failure is the first again."""
        self._failed_starts.pop(slot, None)

    def _retry(self, slot: Slot | None) -> None:
        del self._retries[slot]
        if self._closed:
            return
        if slot is None:
            self.worker_ready()
        elif slot.lane is None:  # else the spare has taken the place
            self._fill(slot)
            self._pump()

    def worker_ready(self) -> None:
        """Once all lanes are ready there is time to warm a spare."""
        if (
            self._spare is None
            and not self._closed
            and all(isinstance(slot.lane, WorkerProcess) and slot.lane.ready.is_set() for slot in self._slots)
        ):
            self._spare = self._start_for(None)

    def worker_died(self, worker: WorkerProcess, cause: str) -> None:
        """Replace it; whoever ran there is answered."""
        self._workers.discard(worker)
        if not self._closed and (worker.slot is not None or worker is self._spare or worker.process.was_killed):
            self.logged("processes", f"worker {worker.process.pid} {cause}")
        failed = not worker.ready.is_set() and not worker.process.was_killed and not self._closed
        if worker is self._spare:
            self._spare = None
            if failed:
                self._start_failed(None)
            self.worker_ready()
        elif worker.slot is not None and worker.slot.lane is worker:
            if failed:
                self._start_failed(worker.slot)
            self.lane_died(worker.slot, cause)
            self._answer_if_hopeless(cause)

    def _spare_lane(self) -> WorkerProcess | None:
        return self._spare

    async def trial(self, entry: Entry) -> None:
        """Load a plugin in a lane, which keeps it, and raise what that raises; the other lanes load it afterwards."""
        if entry.payload is None:
            raise PluginDefinitionError(f"{entry.plugin.name} cannot be sent to a worker process")
        await super().trial(entry)

    async def close(self) -> None:
        """Answer what is left and end all workers."""
        self._answer_all()
        for retry in self._retries.values():
            retry.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(*(worker.process.ended() for worker in workers))
        for worker in workers:
            worker.kill("the server was closed")
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # the loop reads what the workers wrote last
        for output in list(self.outputs):
            output.close()  # a process that a plugin started may hold the other end for ever
        await asyncio.sleep(0)


def _explained(error: OSError) -> str:
    """The reason for a failed start, with a remedy if descriptors are used up."""
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return str(error)
    return f"{error.strerror}; close files and connections, or raise `ulimit -n`. It is tried again every few seconds"
