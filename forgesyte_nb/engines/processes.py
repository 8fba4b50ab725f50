"""The processes engine, the default: each lane is a worker process and a socket pair, served by the event loop.

A worker that runs too long or dies is replaced from a warm spare, so that the lane is back at once. Plugins are
loaded in a worker when it first needs them; a new revision is tried in the spare before it comes into force.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from forgesyte_nb.engines.contract import Listener, Outcome
from forgesyte_nb.engines.image_slots import ImageSlots
from forgesyte_nb.engines.lanes import LaneEngine, Slot
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.runner import PluginKey, raise_in_cell
from forgesyte_nb.errors import WIRE_ERRORS, PluginDefinitionError, PluginError, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings

_SOCKET_BYTES = 1 << 20
_READ_BYTES = 256 * 1024
_CLOSE_S = 2.0
_LAST_WORDS_S = 1.0
_LAST_LINES, _LAST_BYTES = 12, 4096  # of what a worker wrote that could not start, for the error
_LOOK_INTERVAL_S = 0.005
_HOPELESS = 3  # failed starts in a row in every slot, until jobs are answered instead of kept waiting
_RETRY_S, _MAX_RETRY_S = 0.1, 5.0  # until a worker that could not be started is tried again, doubled each time
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m`: neither the working directory nor the package's own folder may shadow a library. What the plugins import
# from there is found later: a plugin comes with the `sys.path` of its sender.
_WORKER_CODE = (
    f"import sys; sys.path[:] = [*filter(None, sys.path), {_PACKAGE_ROOT!r}]; "
    "from forgesyte_nb.engines.worker import main; main()"
)
_WORKER_ENVIRONMENT = {
    # One frame at a time in each of the workers: threads of their libraries would only get in each other's way.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT"), "1"),
    # glibc (mallopt(3)): keep freed pictures' pages instead of giving them back after every frame. Left to itself it
    # did so or not by the luck of the heap's layout, at 700 page faults a frame of 640×480 and 1.7 times its cost.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}


class WorkerProcess(asyncio.BufferedProtocol):
    """One worker process, and the server's end of its socket.

    Attributes:
        slot: The slot it works in; None while it is a spare.
        ready: Set when it has imported what it needs.
        gone: Set when its socket has ended, or the process has: a child of it may hold on to the socket.
    """

    def __init__(self, engine: ProcessEngine, settings: Settings) -> None:
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
        self.output = _Output(engine)
        self._reason = ""
        self._process_file = -1
        self._handed = 0
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._socket, their_socket = socket.socketpair()
            ours.callback(self._socket.close)
            theirs.callback(their_socket.close)
            for end in (self._socket, their_socket):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self._output, output_end = os.pipe()
            ours.callback(os.close, self._output)
            theirs.callback(os.close, output_end)
            self._slots = ImageSlots.create()
            ours.callback(self._slots.close)
            theirs.callback(self._slots.close_file)
            self.process = _start(their_socket, self._slots.file, output_end)
            ours.pop_all()  # started: from here on they are closed when it ends
        self._socket.setblocking(False)
        self._transport: asyncio.Transport | None = None
        self._unsent = [message(Kind.SETTINGS, (settings.max_result_bytes, settings.stream_states))]
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
            self._process_file = _open_process(self.process.pid)
        if self._process_file >= 0:
            self._engine.loop.add_reader(self._process_file, self.process_ended)
        for data in self._unsent:
            self._write(data)
        self._unsent.clear()

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
        """Where the loop cannot watch a process: see whether it has ended."""
        if self._process_file < 0 and self._transport is not None and self.process.poll() is not None:
            self.process_ended()

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
        self.gone.set()
        self._slots.close()
        self._engine.spawn(self._reap())

    async def _reap(self) -> None:
        cause = _cause_of_death(await self.ended(), self._reason)
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
        plugin = job.entry.plugin
        self._handed += 1
        self._send_plugin(job.entry)
        image = job.image
        slot = self._slots.put(image)
        body = (plugin.name, plugin.revision, job.frame_id, job.stream_key, job.seq, job.options, slot, len(image))
        self._write(message(Kind.TASK, body, image if slot < 0 else b""))

    def kill(self, reason: str) -> None:
        """End the process, whatever it is doing, and what it has started."""
        self._reason = reason
        if self.process.poll() is not None:
            return
        children = _descendants(self.process.pid)
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    @property
    def was_killed(self) -> bool:
        """Whether it ended because we would have it so."""
        return bool(self._reason)

    def tell_cancelled(self, job: Job) -> None:
        """The plugin that runs for it may look at `ctx.cancelled`."""
        if self.slot is not None and job in self.slot.jobs:
            self._write(message(Kind.CANCELLED, self._handed - len(self.slot.jobs) + self.slot.jobs.index(job) + 1))

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

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            self._unsent.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

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
        elif slot is None or slot.lane is not self or not slot.jobs or slot.overrun is not None:
            return  # the last words of a worker whose job has been answered
        elif kind == Kind.STARTED:
            engine.lane_started(slot)
        elif kind == Kind.RESULT:
            engine.lane_ended(slot, Outcome(tail, None, *body))
        elif kind == Kind.PROGRESS:
            engine.lane_progressed(slot, body)
        elif kind == Kind.FAILED:
            decode_ms, plugin_ms, output, code, text, detail = body
            error = WIRE_ERRORS[code](text, detail=detail)  # the runner knows no others
            engine.lane_ended(slot, Outcome(None, error, decode_ms, plugin_ms, output))

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


def _descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have (Linux; elsewhere none are known)."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _open_process(pid: int) -> int:
    """A descriptor that becomes readable when the process ends (Linux); -1 where there is no such thing."""
    return os.pidfd_open(pid) if sys.platform == "linux" else -1


class ProcessEngine(LaneEngine):
    """Lanes that are worker processes, and a warm spare."""

    name = "processes"

    def __init__(self, settings: Settings, listener: Listener) -> None:
        """Make an engine that is not started yet."""
        super().__init__(settings, listener)
        self._workers: set[WorkerProcess] = set()
        self._spare: WorkerProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # How often in a row starting a worker failed, by the slot it was for; None for the spare.
        self._failed_starts: dict[Slot | None, int] = {}
        self._retries: dict[Slot | None, asyncio.TimerHandle] = {}
        self.outputs: set[asyncio.BaseTransport] = set()
        # Not one for all engines: each server has a loop thread of its own, and reading lets go of the GIL.
        self.buffer = memoryview(bytearray(_READ_BYTES))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs on."""
        return self._loop

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
            reason = f"worker processes cannot start: {error}"
            self.logged("processes", reason)
            self._start_failed(slot)
            self._answer_if_hopeless(reason)
            return None

    def _answer_if_hopeless(self, reason: str) -> None:
        """Answer what waits if starting a worker has failed too often in every slot."""
        if all(self._failed_starts.get(slot, 0) >= _HOPELESS for slot in self._slots):
            for job in self._waiting.drain():
                self._order.ended(job, Outcome(error=PluginError(f"{job.entry.plugin.name}: {reason}")))

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
        if not self._closed and (worker.slot is not None or worker is self._spare or worker.was_killed):
            self.logged("processes", f"worker {worker.process.pid} {cause}")
        failed = not worker.ready.is_set() and not worker.was_killed and not self._closed
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

    async def trial(self, entry: Entry) -> None:
        """Load the plugin in the spare, or in a worker made for it; raise what it raises."""
        if entry.payload is None:
            raise PluginDefinitionError(f"{entry.plugin.name} cannot be sent to a worker process")
        worker = self._spare or self._new_worker()
        try:
            error = await worker.load(entry)
        except asyncio.CancelledError:
            worker.kill("a plugin could not be set up in time")  # it may hang for ever
            if worker is self._spare:
                self._spare = None
                self.worker_ready()
            raise
        finally:
            if worker is not self._spare and worker.slot is None:
                worker.close()
        if error is not None:
            raise_in_cell(entry, error)

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
                await asyncio.gather(*(worker.ended() for worker in workers))
        for worker in workers:
            worker.kill("the server was closed")
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # the loop reads what the workers wrote last
        for output in list(self.outputs):
            output.close()  # a process that a plugin started may hold the other end for ever
        await asyncio.sleep(0)


class _Output(asyncio.Protocol):
    """What a worker's C code and child processes write to stdout and stderr, for the log; a flood is cut."""

    _MAX_BYTES = 64 * 1024

    def __init__(self, engine: ProcessEngine) -> None:
        self._engine = engine
        self._left = self._MAX_BYTES
        self._last = b""
        self.ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._engine.outputs.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._engine.outputs.discard(self._transport)
        self.ended.set()

    @property
    def last_lines(self) -> str:
        """What was written last."""
        return "\n".join(self._last.decode("utf-8", "replace").splitlines()[-_LAST_LINES:])

    def data_received(self, data: bytes) -> None:
        self._last = (self._last + data)[-_LAST_BYTES:]
        if self._left > 0:
            text = data[: self._left].decode("utf-8", "replace").rstrip()
            self._left -= len(data)
            self._engine.logged("worker", f"wrote: {text}{' … (the rest is cut)' if self._left <= 0 else ''}")


def _start(theirs: socket.socket, memory: int, output: int) -> subprocess.Popen[bytes]:
    """Start a worker with SIGINT blocked, so that the stop button cannot hit it before it ignores the signal."""
    environment = {**_WORKER_ENVIRONMENT, **os.environ}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _WORKER_CODE, "forgesyte_nb.engines.worker", str(theirs.fileno()), str(memory)],
            pass_fds=(theirs.fileno(), memory) if memory >= 0 else (theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _cause_of_death(returncode: int, reason: str) -> str:
    if reason:
        return f"was stopped: {reason}"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        hints = {
            "SIGSEGV": "a crash in native code",
            "SIGKILL": "killed from outside, often for want of memory",
            "SIGABRT": "native code gave up",
        }
        hint = f" ({hints[name]})" if name in hints else ""
        return f"its worker process died of {name}{hint}; a new one has taken its place"
    return f"its worker process ended itself with exit code {returncode}; a new one has taken its place"
