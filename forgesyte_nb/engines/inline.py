"""The inline engine: plugins run on the event loop's own thread, one frame at a time.

For debugging, for tests, and for plugins so short that a hand-over costs more than they do. While a plugin runs the
loop stands still, so a watching thread stops one that exceeds its limit: code in pure Python at once, C code when it
returns. It is the engine that other engines' behaviour is compared with.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome, closed_outcome, unreadable
from forgesyte_nb.engines.interrupt import Interruptible, Stopped
from forgesyte_nb.engines.job_queue import JobQueue
from forgesyte_nb.engines.raised import raise_in_cell
from forgesyte_nb.engines.revisions import Revisions
from forgesyte_nb.engines.runner import LaneRunner, task_of
from forgesyte_nb.errors import PluginDefinitionError, PluginError, ProcessingTimeout, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_WATCH_INTERVAL_S = 0.05
_TURN_S = 0.002  # of plugin work before the loop may read its sockets again


def timeout_of(job: Job, limit_s: float) -> Outcome:
    """What a frame is answered whose plugin was stopped in a thread."""
    return Outcome(
        error=ProcessingTimeout(
            f"{job.entry.plugin.name} ran longer than its limit of {limit_s:g} s and was stopped; "
            'make it faster, or raise the limit with @fs.plugin("…", timeout_s=…)'
        )
    )


class InlineEngine:
    """One lane, which is the loop itself."""

    name = "inline"

    def __init__(self, settings: Settings, listener: Listener) -> None:
        """Make an engine on the running loop."""
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._run_times_s: dict[str, float] = {}
        self._waiting = JobQueue(self._run_times_s)
        self._runner = LaneRunner(max_result_bytes=settings.max_result_bytes, stream_states=settings.stream_states)
        self._runner.log = listener.logged
        self._revisions = Revisions()
        self._scheduled = False
        self._stopwatch = _Stopwatch()

    def start(self) -> None:
        """Nothing to make ready."""

    def submit(self, job: Job) -> None:
        """Queue a job for this or one of the next turns of the loop."""
        if self._revisions.submitted(job.entry.plugin):
            self._unload_old(job.entry.plugin.name)
        self._waiting.add(job)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        end = time.perf_counter() + _TURN_S
        while (taken := self._waiting.take(_anywhere)) is not None:
            self._run(taken[0])
            if time.perf_counter() > end:
                break
        self._scheduled = len(self._waiting) > 0
        if self._scheduled:
            self._loop.call_soon(self._turn)

    def _run(self, job: Job) -> None:
        plugin = job.entry.plugin
        job.attempts += 1
        job.started_at = time.monotonic()
        self._listener.started(job)
        limit_s = plugin.timeout_s or self._settings.plugin_timeout_s
        try:
            task = task_of(job)
            if not self._runner.knows(task.key):
                self._load(plugin)
            with self._stopwatch.limit(limit_s):
                outcome = self._runner.run(task, report=self._reporter(job))
        except WireError as error:
            self._listener.unloadable(plugin, error)
            outcome = Outcome(error=error)
        except Stopped:
            outcome = timeout_of(job, limit_s)
        except OSError as error:
            outcome = Outcome(error=unreadable(error))
        except KeyboardInterrupt:
            outcome = Outcome(error=PluginError("interrupted by the notebook's stop button"))
        spent_s = self._run_times_s[plugin.name] = time.monotonic() - job.started_at
        self._waiting.settle(job, spent_s)
        self._forget(job)
        self._listener.ended(job, outcome)

    def _load(self, plugin: Plugin) -> None:
        """Set a plugin up, within the time there is for that.

        Raises:
            WireError: If it raises, or takes too long.
        """
        limit_s = self._settings.setup_timeout_s
        try:
            with self._stopwatch.limit(limit_s):
                self._runner.load(plugin)
        except Stopped:
            raise ProcessingTimeout(f"{plugin.name} could not be set up within {limit_s:g} s and was stopped") from None

    def _reporter(self, job: Job) -> Callable[[float], None]:
        return lambda percent: self._listener.progressed(job, percent)

    def cancel(self, job: Job) -> bool:
        """End a job that waits."""
        if not self._waiting.remove(job):
            return False
        self._forget(job)
        return True

    def _forget(self, job: Job) -> None:
        if self._revisions.ended(job.entry.plugin):
            self._unload_old(job.entry.plugin.name)

    def _unload_old(self, name: str) -> None:
        self._runner.unload(name, self._revisions.needed(name))

    def supersede(self, plugin: Plugin) -> None:
        """Unload older revisions of a plugin, each with its last frame."""
        if self._revisions.supersede(plugin):
            self._unload_old(plugin.name)

    async def unload(self, name: str) -> None:
        """Unload all revisions of a plugin; the next frame loads it again."""
        self._runner.unload(name)

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of all streams whose key starts so."""
        self._runner.forget_streams(prefix)

    def disown(self) -> list[int]:
        """None: the lane is the loop."""
        return []

    async def trial(self, entry: Entry) -> None:
        """Load it here: this is where it will run."""
        try:
            self._load(entry.plugin)
        except ProcessingTimeout as error:
            raise PluginDefinitionError(str(error)) from None
        except WireError as error:
            raise_in_cell(entry, error)
        self.supersede(entry.plugin)

    async def close(self) -> None:
        """Answer what waits, tear plugins down."""
        for job in self._waiting.drain():
            self._listener.ended(job, closed_outcome())
        self._stopwatch.close()
        self._runner.close()

    def stats(self) -> dict[str, Any]:
        """One lane."""
        return {"lanes": 1, "busy": int(self._scheduled), "waiting": len(self._waiting), "replaced": 0, "streams": 0}


def _anywhere(_job: Job) -> bool:
    return True


class _Stopwatch:
    """A thread that stops the guarded section when its time is up; it is started with the first one."""

    def __init__(self) -> None:
        self._interruptible = Interruptible()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def limit(self, limit_s: float) -> Any:
        self._deadline = time.monotonic() + limit_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="forgesyte-inline-limit", daemon=True)
            self._thread.start()
        return self._interruptible.section()

    def _watch(self) -> None:
        while not self._closing.wait(_WATCH_INTERVAL_S):
            # Again and again: a plugin may catch what stops it.
            self._interruptible.stop(self._is_overdue)

    def _is_overdue(self) -> bool:
        return time.monotonic() > self._deadline

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
