"""The threads engine: plugins run in threads of this process, where they can reach the kernel's live objects.

A thread cannot be killed. A plugin that runs too long is answered `PROCESSING_TIMEOUT`, an exception is raised in
it (which ends pure Python at once), and if it does not end, its thread is put in quarantine: a new one takes its
place, its late result is thrown away, and the log says so.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome, unreadable
from forgesyte_nb.engines.interrupt import Interruptible, Stopped
from forgesyte_nb.engines.lanes import LaneEngine
from forgesyte_nb.engines.runner import LaneRunner, task_of
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.errors import PluginError, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_GRACE_S = 1.0  # for a stopped plugin to end before its thread is given up
_JOIN_S = 2.0


class ThreadLane:
    """One thread with its plugin instances; talks to the engine through the loop."""

    def __init__(self, engine: ThreadEngine, slot: Slot, settings: Settings, listener: Listener) -> None:
        """Start the thread."""
        self._engine = engine
        self._slot = slot
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._interruptible = Interruptible()
        self._given_up = threading.Event()
        self._cancelled: set[Job] = set()
        self._awaited: set[asyncio.Future[WireError | None]] = set()
        self._handed: set[Job] = set()  # and not begun; who takes a job out, the thread or the loop, has it
        self._runner = LaneRunner(max_result_bytes=settings.max_result_bytes, stream_states=settings.stream_states)
        self._listener = listener
        self._runner.log = lambda plugin, text: self._say(listener.logged, plugin, text)
        self.thread = threading.Thread(target=self._main, name="forgesyte-lane", daemon=True)
        self.thread.start()

    # On the loop

    def hand_over(self, job: Job) -> None:
        """Take one more job."""
        self._handed.add(job)
        self._work.put(lambda: self._run(job))

    def recall(self, job: Job) -> bool:
        """Take a job back if the thread has not begun it."""
        return self._take(job)

    def _take(self, job: Job) -> bool:
        try:
            self._handed.remove(job)
        except KeyError:
            return False
        return True

    def kill(self, reason: str) -> None:
        """Stop the plugin if it can be stopped; give the thread up if it cannot."""
        self._give_up(reason)
        self._engine.given_up(self, reason)
        self._engine.lane_died(self._slot, reason)

    def stop(self) -> None:
        """Stop the plugin, if it can be stopped."""
        self._interruptible.stop()

    def tell_cancelled(self, job: Job) -> None:
        """The plugin that runs for it may look at `ctx.cancelled`."""
        self._cancelled.add(job)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._cancelled.discard(job)  # here: it may be cancelled until this is known
        self._engine.lane_ended(self._slot, outcome)

    def forget_streams(self, prefix: str) -> None:
        """Let go of states, in the thread that owns them."""
        self._work.put(lambda: self._runner.forget_streams(prefix))

    def close(self) -> None:
        """End after what is running."""
        self._give_up("the server was closed")

    def load(self, entry: Entry) -> asyncio.Future[WireError | None]:
        """Load a plugin after the jobs that the thread has."""
        return self._later(lambda: self._load(entry.plugin))

    def unload(self, name: str, kept: list[int]) -> asyncio.Future[Any]:
        """Unload all revisions of a plugin but those kept, after the jobs that the thread has."""
        return self._later(lambda: self._runner.unload(name, kept))

    def _later(self, work: Callable[[], WireError | None]) -> asyncio.Future[WireError | None]:
        """Have the thread do something; if it is given up before, the result is an error."""
        future: asyncio.Future[WireError | None] = self._loop.create_future()
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)
        self._work.put(lambda: self._say(_settle, future, work()))
        return future

    def _give_up(self, reason: str) -> None:
        self._given_up.set()
        self._interruptible.stop()
        self._work.put(None)
        for future in list(self._awaited):
            _settle(future, PluginError(reason))

    # On the thread

    def _load(self, plugin: Plugin) -> WireError | None:
        try:
            with self._interruptible.section():
                self._runner.load(plugin)
        except WireError as error:
            return error
        except Stopped:
            return PluginError("stopped")
        return None

    def _main(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        self._runner.close()

    def _run(self, job: Job) -> None:
        if self._given_up.is_set() or not self._take(job):
            return
        try:
            with self._interruptible.section():
                outcome = self._outcome(job)
        except Stopped:
            outcome = Outcome(error=PluginError("stopped"))  # answered already; nobody listens any more
        self._say(self._ended, job, outcome)

    def _outcome(self, job: Job) -> Outcome:
        try:
            self._runner.load(job.entry.plugin)
        except WireError as error:
            self._say(self._listener.unloadable, job.entry.plugin, error)
            self._say(self._engine.lane_started, self._slot)
            return Outcome(error=error)
        self._say(self._engine.lane_started, self._slot)
        try:
            task = task_of(job)
        except OSError as error:
            return Outcome(error=unreadable(error))
        return self._runner.run(
            task,
            report=lambda percent: self._say(self._engine.lane_progressed, self._slot, percent),
            cancelled=lambda: job in self._cancelled,
        )

    def _say(self, hear: Callable[..., None], *news: Any) -> None:
        """Tell the loop, unless this thread was given up."""
        if not self._given_up.is_set():
            self._loop.call_soon_threadsafe(self._if_current, hear, news)

    def _if_current(self, hear: Callable[..., None], news: tuple[Any, ...]) -> None:
        if not self._given_up.is_set():
            hear(*news)


def _settle(future: asyncio.Future[WireError | None], error: WireError | None) -> None:
    if not future.done():
        future.set_result(error)


class ThreadEngine(LaneEngine):
    """Lanes that are threads."""

    name = "threads"

    def __init__(self, settings: Settings, listener: Listener) -> None:
        """Make an engine that is not started yet."""
        super().__init__(settings, listener)
        self._threads: list[threading.Thread] = []

    def _fill(self, slot: Slot) -> None:
        lane = ThreadLane(self, slot, self._settings, self._listener)
        self._threads = [thread for thread in self._threads if thread.is_alive()] + [lane.thread]
        slot.lane = lane

    def given_up(self, lane: ThreadLane, reason: str) -> None:
        """A lane's plugin was told to stop; look later whether it did."""
        self._loop.call_later(_GRACE_S, self._check_given_up, lane, reason)

    def _check_given_up(self, lane: ThreadLane, reason: str) -> None:
        if not lane.thread.is_alive() or self._closed:
            return
        if reason:
            self._listener.logged(
                "threads",
                f"a thread does not stop ({reason}); it is in quarantine and its result will be thrown away. "
                'Plugins that may hang belong into engine="processes"',
            )
        lane.stop()  # again: a plugin may have caught what was to stop it
        self._loop.call_later(_GRACE_S, self._check_given_up, lane, "")

    async def close(self) -> None:
        """Answer what is left, and wait a little for the threads."""
        self._answer_all()
        for slot in self._slots:
            if isinstance(slot.lane, ThreadLane):
                slot.lane.close()
        # By looking, not in another thread: at the end of the interpreter none can be started any more.
        deadline = time.monotonic() + _JOIN_S
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
