"""A worker process as its server sees it: a lane that is a process, a socket and some shared memory.

The loop reads the socket; what is in the post box is read before each message of the socket, whenever any worker
rings, and every time the engine looks. Tasks that were handed over and not answered are known by their numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
from collections import deque
from typing import Any, Protocol

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.lane_memory import LaneMemory
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.runner import PluginKey
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.engines.worker_output import WorkerOutput
from forgesyte_nb.engines.worker_start import cause_of_death, descendants, open_process, start_process
from forgesyte_nb.errors import WIRE_ERRORS, PluginError, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_SOCKET_BYTES = 1 << 20
_LAST_WORDS_S = 1.0
_LOOK_INTERVAL_S = 0.005
_QUIET_S = 0.01  # of tasks that take less the worker does not say at once that they have begun
_LAST_WORDS = (Kind.RESULT, Kind.FAILED, Kind.RECALLED)


class Workplace(Protocol):
    """What a worker process needs of its engine."""

    buffer: memoryview
    outputs: set[asyncio.BaseTransport]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs on."""

    def spawn(self, work: Any) -> None:
        """Run a coroutine to its end."""

    def logged(self, plugin: str, text: str) -> None:
        """For the log."""

    def collect(self) -> None:
        """Read what all workers have posted."""

    def expected_s(self, plugin: str) -> float:
        """What a frame of a plugin takes, by experience."""

    def unloadable(self, name: str, revision: int, error: WireError) -> None:
        """A worker could not load the plugin of one of its jobs."""

    def start_succeeded(self, slot: Slot | None) -> None:
        """A worker is ready."""

    def worker_ready(self) -> None:
        """Likewise, after that has been noted."""

    def worker_died(self, worker: WorkerProcess, cause: str) -> None:
        """It is gone, and its process has ended."""

    def lane_ready(self, slot: Slot) -> None:
        """See `LaneEngine`."""

    def lane_started(self, slot: Slot, started_at: float | None = None) -> None:
        """See `LaneEngine`."""

    def lane_progressed(self, slot: Slot, percent: float) -> None:
        """See `LaneEngine`."""

    def lane_ended(self, slot: Slot, outcome: Outcome) -> None:
        """See `LaneEngine`."""

    def lane_returned(self, slot: Slot, job: Job) -> None:
        """See `LaneEngine`."""


class WorkerProcess(asyncio.BufferedProtocol):
    """One worker process, and the server's end of its socket.

    Attributes:
        slot: The slot it works in; None while it is a spare.
        ready: Set when it has imported what it needs.
        gone: Set when its socket has ended, or the process has: a child of it may hold on to the socket.
    """

    def __init__(self, engine: Workplace, settings: Settings) -> None:
        """Start the process; the socket is joined to the loop by `attach`.

        Raises:
            OSError: If the system has no more descriptors, processes or memory; nothing is left open then.
        """
        self._engine = engine
        self._buffer = engine.buffer
        self._inbox = Inbox()
        self._known: set[PluginKey] = set()
        self._loads: dict[PluginKey, asyncio.Future[WireError | None]] = {}
        self.slot: Slot | None = None
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.output = WorkerOutput(engine.logged, engine.outputs)
        self._reason = ""
        self._process_file = -1
        self._handed = 0
        self._tasks: dict[int, Job] = {}
        self._posts = Inbox()
        self._posted: deque[tuple[int, Any, bytes]] = deque()
        self._heard = 0
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._socket, their_socket = socket.socketpair()
            ours.callback(self._socket.close)
            theirs.callback(their_socket.close)
            for end in (self._socket, their_socket):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self._output, output_end = os.pipe()
            ours.callback(os.close, self._output)
            theirs.callback(os.close, output_end)
            self._memory = LaneMemory.create()
            ours.callback(self._memory.close)
            theirs.callback(self._memory.close_file)
            self.process = start_process(their_socket, self._memory.file, output_end)
            ours.pop_all()  # started: from here on they are closed when it ends
        self._socket.setblocking(False)
        self._transport: asyncio.Transport | None = None
        self._unsent = [message(Kind.SETTINGS, (settings.max_result_bytes, settings.stream_states))]
        self._flushing = False
        self._engine.spawn(self._attach())

    async def _attach(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, sock=self._socket)
        await loop.connect_read_pipe(lambda: self.output, os.fdopen(self._output, "rb"))

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is joined to the loop."""
        self._transport = transport  # type: ignore[assignment]  # a socket's transport writes
        with contextlib.suppress(OSError):
            self._process_file = open_process(self.process.pid)
        if self._process_file >= 0:
            self._engine.loop.add_reader(self._process_file, self.process_ended)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what it reads: one buffer for all workers of an engine, emptied before the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The worker says something."""
        for kind, body, tail in self._inbox.feed(self._buffer[:nbytes]):
            if kind == Kind.BELL:
                self._engine.collect()  # from all workers: one wake-up does for them
            else:
                self.collect()  # what was said before
                self._heard += 1
                self._hear(kind, body, tail)

    def collect(self) -> None:
        """Read the post box, as far as what the socket brought before has been read."""
        if self.gone.is_set():
            return
        posted = self._posted
        posted.extend(self._posts.feed(self._memory.posts.take()))
        while posted and (posted[0][0] == Kind.GARBLED or posted[0][1][2] <= self._heard):
            self._hear(*posted.popleft())

    def _garbled(self, why: str) -> None:
        """A plugin wrote to the socket: nothing after it can be trusted."""
        self.kill(f"what it sent could not be read: {why}")
        if self._transport is not None:
            self._transport.abort()

    def look(self) -> None:
        """See what the worker is at; and whether it has ended, where the loop cannot watch a process."""
        self._look_at_work()
        if self._process_file < 0 and self._transport is not None and self.process.poll() is not None:
            self.process_ended()

    def _look_at_work(self) -> None:
        """Find out what the worker has begun: of short tasks it does not say so, and they may hang or kill it."""
        if not self.gone.is_set():
            begun = self._memory.begun()
            self.collect()  # what it has answered since is no longer at work
            self._begun(*begun)

    def process_ended(self) -> None:
        """The process has ended; its socket need not have."""
        self._unwatch_process()
        if self._transport is None or self._transport.is_closing():
            return
        with contextlib.suppress(OSError):  # when there is no more
            while size := self._socket.recv_into(self._buffer):  # its last words
                self.buffer_updated(size)
        self._transport.abort()

    def _unwatch_process(self) -> None:
        if self._process_file >= 0:
            self._engine.loop.remove_reader(self._process_file)
            os.close(self._process_file)
            self._process_file = -1

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has died, or was killed; said once, whichever of the two ways it was noticed."""
        self._unwatch_process()
        self._look_at_work()
        self.gone.set()
        self._memory.close()
        self._engine.spawn(self._reap())

    async def _reap(self) -> None:
        cause = cause_of_death(await self.ended(), self._reason)
        if not self.ready.is_set() and not self._reason:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.output.ended.wait()
            cause = f"worker processes cannot start: {cause}\n{self.output.last_lines}".rstrip()
        for future in self._loads.values():
            if not future.done():
                future.set_result(PluginError(cause))
        self._engine.worker_died(self, cause)

    async def ended(self) -> int:
        """Wait for the process and return its exit code.

        By looking, not with a thread: when the interpreter is about to end, no thread can be started any more.
        """
        while (returncode := self.process.poll()) is None:
            await asyncio.sleep(_LOOK_INTERVAL_S)
        return returncode

    # Lane

    def hand_over(self, job: Job) -> None:
        """Send a job, and its plugin before it if the worker has not got that yet."""
        if self.gone.is_set():
            return  # `worker_died` will put it back
        plugin, image = job.entry.plugin, job.image
        size = len(image)
        self._handed = number = self._handed + 1
        self._tasks[number] = job
        self._send_plugin(job.entry)
        if self._memory.put_image(number, image):
            image = b""
        else:
            size = -1
        start_is_news = self._engine.expected_s(plugin.name) > _QUIET_S
        task = (plugin.name, plugin.revision, job.frame_id, job.stream_key, job.seq, job.options, size)
        self._write(message(Kind.TASK, (number, start_is_news, *task), image))

    def recall(self, job: Job) -> bool:
        """Take a task back if it has not begun."""
        number = self._number_of(job)
        if self.gone.is_set() or not number or not self._memory.recall(number):
            return False
        del self._tasks[number]
        return True

    def _number_of(self, job: Job) -> int:
        return next((number for number, one in self._tasks.items() if one is job), 0)

    def kill(self, reason: str) -> None:
        """End the process, whatever it is doing, and what it has started."""
        self._reason = reason
        if self.process.poll() is not None:
            return
        children = descendants(self.process.pid)
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def disown(self) -> list[int]:
        """In a process forked from this one: let go of the lane's memory; what tells of its end."""
        with contextlib.suppress(BufferError):  # somebody reads it; then it goes with this process
            self._memory.close()
        return [self._socket.fileno(), self._process_file]

    @property
    def was_killed(self) -> bool:
        """Whether it ended because we would have it so."""
        return bool(self._reason)

    def tell_cancelled(self, job: Job) -> None:
        """The plugin that runs for it may look at `ctx.cancelled`."""
        if number := self._number_of(job):
            self._write(message(Kind.CANCELLED, number))

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of streams."""
        self._write(message(Kind.FORGET, prefix))

    def load(self, entry: Entry) -> asyncio.Future[WireError | None]:
        """Load a plugin now; the future tells why it could not be."""
        plugin = entry.plugin
        future: asyncio.Future[WireError | None] = asyncio.get_running_loop().create_future()
        self._loads[PluginKey(plugin.name, plugin.revision)] = future
        self._send_plugin(entry)
        return future

    def _send_plugin(self, entry: Entry) -> None:
        key = PluginKey(entry.plugin.name, entry.plugin.revision)
        if key not in self._known:
            # The worker lets old revisions go by the same rule; who still has frames for one sends it again.
            self._known = {one for one in self._known if one.name != key.name or one.revision >= key.revision - 1}
            self._known.add(key)
            self._write(message(Kind.LOAD, None, pickle.dumps(entry.payload)))

    def _write(self, encoded: bytes) -> None:
        """Send in this turn of the loop or the next; tasks that are handed over together are one write."""
        self._unsent.append(encoded)
        if not self._flushing and self._transport is not None:
            self._flushing = True
            self._engine.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _hear(self, kind: int, body: Any, tail: bytes) -> None:
        engine, slot = self._engine, self.slot
        if kind == Kind.LOG:
            engine.logged(*body)
        elif kind == Kind.READY:
            self.ready.set()
            engine.start_succeeded(slot)
            engine.worker_ready()
            if slot is not None and slot.lane is self:
                engine.lane_ready(slot)
        elif kind == Kind.GARBLED:
            self._garbled(body)
        elif kind == Kind.LOADED:
            self._loaded(*body)
        else:
            number, started_at, _, *more = body
            job = self._begun(number, started_at) if kind != Kind.RECALLED else self._tasks.get(number)
            if job is not None and slot is not None:
                self._hear_of(job, slot, kind, more, tail)
            if kind in _LAST_WORDS:
                self._tasks.pop(number, None)

    def _begun(self, number: int, started_at: float) -> Job | None:
        """The job of a task that has begun; None if nobody waits for it any more."""
        slot, job = self.slot, self._tasks.get(number)
        if slot is None or slot.lane is not self or slot.overrun is not None:
            return None  # the last words of a worker whose job has been answered
        if job is None or not slot.jobs or slot.jobs[0] is not job:
            return None
        if slot.running is not job:
            self._engine.lane_started(slot, started_at)
        return job

    def _hear_of(self, job: Job, slot: Slot, kind: int, more: list[Any], tail: bytes) -> None:
        engine = self._engine
        if kind == Kind.RESULT:
            engine.lane_ended(slot, Outcome(tail, None, *more))
        elif kind == Kind.PROGRESS:
            engine.lane_progressed(slot, more[0])
        elif kind == Kind.FAILED:
            decode_ms, plugin_ms, output, code, text, detail = more
            error = WIRE_ERRORS[code](text, detail=detail)  # the runner knows no others
            engine.lane_ended(slot, Outcome(None, error, decode_ms, plugin_ms, output))
        elif kind == Kind.RECALLED and slot.lane is self:
            engine.lane_returned(slot, job)  # it seemed to have begun when it was recalled

    def _loaded(self, name: str, revision: int, code: str, text: str, detail: str) -> None:
        error = WIRE_ERRORS[code](text, detail=detail) if code else None
        future = self._loads.pop(PluginKey(name, revision), None)
        if future is not None and not future.done():
            future.set_result(error)
        elif error is not None:
            self._engine.unloadable(name, revision, error)

    def close(self) -> None:
        """Hang up; the worker ends by itself."""
        if self._transport is not None:
            self._transport.close()
        else:
            self.process.kill()
