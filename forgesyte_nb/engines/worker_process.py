"""A worker process as its server sees it: a lane that is a process, a socket and some shared memory.

The loop reads the socket. What is reported of tasks goes to `WorkerTasks`, of plugins to `WorkerPlugins`; the process
itself is a `ChildProcess`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Protocol

from forgesyte_nb.engines.child_process import ChildProcess
from forgesyte_nb.engines.lane_memory import LaneMemory
from forgesyte_nb.engines.permits import Permits
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.slot import LaneListener, Slot
from forgesyte_nb.engines.worker_output import WorkerOutput
from forgesyte_nb.engines.worker_plugins import WorkerPlugins
from forgesyte_nb.engines.worker_tasks import WorkerTasks
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_SOCKET_BYTES = 1 << 20
_LAST_WORDS_S = 1.0


class Workplace(LaneListener, Protocol):
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

    def unloadable(self, name: str, revision: int, error: WireError) -> None:
        """A worker could not load the plugin of one of its jobs."""

    def start_succeeded(self, slot: Slot | None) -> None:
        """A worker is ready."""

    def worker_ready(self) -> None:
        """Likewise, after that has been noted."""

    def worker_died(self, worker: WorkerProcess, cause: str) -> None:
        """It is gone, and its process has ended."""


class WorkerProcess(asyncio.BufferedProtocol):
    """One worker process, and the server's end of its socket.

    Attributes:
        slot: The slot it works in; None while it is a spare.
        ready: Set when it has imported what it needs.
        gone: Set when its socket has ended, or the process has: a child of it may hold on to the socket.
    """

    def __init__(self, engine: Workplace, settings: Settings) -> None:
        """Start the process; the socket is joined to the loop by `_attach`.

        Raises:
            OSError: If the system has no more descriptors, processes or memory; nothing is left open then.
        """
        self._engine = engine
        self._buffer = engine.buffer
        self._inbox = Inbox()
        self._plugins = WorkerPlugins(engine.unloadable)
        self.slot: Slot | None = None
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.output = WorkerOutput(engine.logged, engine.outputs)
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
            self._permits = Permits()
            ours.callback(self._permits.close)
            inherited = (their_socket.fileno(), self._permits.theirs.fileno(), self._memory.file)
            self.process = ChildProcess(inherited, output_end, settings)
            ours.pop_all()  # started: from here on they are closed when it ends
        self._tasks = WorkerTasks(engine, self._memory, self._permits)
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
        self.process.watch(self.process_ended)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what it reads: one buffer for all workers of an engine, emptied before the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The worker says something."""
        for kind, body, tail in self._inbox.feed(self._buffer[:nbytes]):
            self._hear(kind, body, tail)

    def _garbled(self, why: str) -> None:
        """A plugin wrote to the socket: nothing after it can be trusted."""
        self.kill(f"what it sent could not be read: {why}")
        if self._transport is not None:
            self._transport.abort()

    def look(self) -> None:
        """See what the worker is at; and whether it has ended, where the loop cannot watch a process."""
        if not self.gone.is_set():
            self._tasks.look(self._own_slot)
        if self.process.descriptor < 0 and self._transport is not None and self.process.has_ended:
            self.process_ended()

    def process_ended(self) -> None:
        """The process has ended; its socket need not have."""
        self.process.unwatch()
        if self._transport is None or self._transport.is_closing():
            return
        with contextlib.suppress(OSError):  # when there is no more
            while size := self._socket.recv_into(self._buffer):  # its last words
                self.buffer_updated(size)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has died, or was killed; said once, whichever of the two ways it was noticed."""
        self.process.unwatch()
        self._tasks.look(self._own_slot)
        self.gone.set()
        self._memory.close()
        self._permits.close()
        self._engine.spawn(self._reap())

    async def _reap(self) -> None:
        cause = await self.process.ended()
        if not self.ready.is_set() and not self.process.was_killed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.output.ended.wait()
            cause = f"worker processes cannot start: {cause}\n{self.output.last_lines}".rstrip()
        self._plugins.lost(cause)
        self._engine.worker_died(self, cause)

    @property
    def _own_slot(self) -> Slot | None:
        """Its slot, unless it has none, or another lane is in it by now."""
        slot = self.slot
        return slot if slot is not None and slot.lane is self else None

    # Lane

    def hand_over(self, job: Job) -> None:
        """Send a job, and its plugin before it if the worker has not got that yet."""
        if self.gone.is_set():
            return  # `worker_died` will put it back
        task = self._tasks.hand_over(job)
        if plugin := self._plugins.missing(job.entry):
            self._write(plugin)
        self._write(task)

    def recall(self, job: Job) -> bool:
        """Take a task back if it has not begun."""
        return not self.gone.is_set() and self._tasks.recall(job)

    def kill(self, reason: str) -> None:
        """End the process, whatever it is doing, and what it has started."""
        self.process.kill(reason)

    def disown(self) -> list[int]:
        """In a process forked from this one: let go of the lane's memory; what tells of its end."""
        with contextlib.suppress(BufferError):  # somebody reads it; then it goes with this process
            self._memory.close()
        return [self._socket.fileno(), self.process.descriptor, *self._permits.descriptors]

    def tell_cancelled(self, job: Job) -> None:
        """The plugin that runs for it may look at `ctx.cancelled`."""
        if number := self._tasks.number_of(job):
            self._write(message(Kind.CANCELLED, number))

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of streams."""
        self._write(message(Kind.FORGET, prefix))

    def load(self, entry: Entry) -> asyncio.Future[WireError | None]:
        """Load a plugin after the jobs that the worker has."""
        load, loaded = self._plugins.load(entry)
        if not self.gone.is_set():  # else `lost` answers soon
            self._write(load)
        return loaded

    def unload(self, name: str, kept: list[int]) -> asyncio.Future[None]:
        """Unload all revisions of a plugin but those kept, after the jobs that the worker has."""
        unload, unloaded = self._plugins.unload(name, kept)
        if unload and not self.gone.is_set():
            self._write(unload)
        return unloaded

    def _write(self, encoded: bytes) -> None:
        """Send in this turn of the loop or the next; tasks that are handed over together are one write."""
        self._unsent.append(encoded)
        if not self._flushing and self._transport is not None:
            self._flushing = True
            self._engine.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and not self._transport.is_closing():
            self._tasks.grant()
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
            if (own := self._own_slot) is not None:
                engine.lane_ready(own)
        elif kind == Kind.GARBLED:
            self._garbled(body)
        elif kind == Kind.LOADED:
            self._plugins.loaded(*body)
        elif kind == Kind.UNLOADED:
            self._plugins.unloaded()
        elif kind == Kind.RENEW:
            if (own := self._own_slot) is not None:
                own.stopping = self
            self.kill(body)
        else:
            self._tasks.hear(self._own_slot, kind, body, tail)

    def close(self) -> None:
        """Hang up; the worker ends by itself."""
        if self._transport is not None:
            self._transport.close()
        else:
            self.process.abandon()
