"""A worker process: one lane, one socket to the server, and memory shared with it.

It is started as `python -c "…; main()" forgesyte_nb.engines.worker SOCKET PERMITS MEMORY THREADS`, not with `-m`, so
that a file in the working directory cannot shadow a library (see `child_process.py`).

It reads tasks, runs them one at a time, and answers; the result becomes JSON here.

It ignores SIGINT from its first instruction (the server starts it with the signal blocked): the notebook's stop button
must not hurt a frame. It ends when the socket does, whatever the plugin is doing, and the operating system ends it
with its parent where it can.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from forgesyte_nb.engines.lane_memory import LaneMemory
from forgesyte_nb.engines.permits import begin
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.thread_limits import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from forgesyte_nb.image.data import ImageData

_READ_BYTES = 256 * 1024
_NICENESS = 5  # the server, the notebook's cells and the browser go first where there is not enough for all
_TEARDOWN_S = 1.0
_LARGE_MS = 50.0  # of decoding: pictures of some ten megapixels, which leave the allocator with hundreds of megabytes
_REMEMBERED = 1000  # tasks whose cancellation a plugin's thread may still ask for
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Serve one socket until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    connection = socket.socket(fileno=int(sys.argv[2]))
    threading.Thread(target=_end_with_socket, args=(connection,), name="forgesyte-end", daemon=True).start()
    permits = socket.socket(fileno=int(sys.argv[3]))
    memory = LaneMemory(int(sys.argv[4]))
    memory.close_file()
    limit_threads(int(sys.argv[5]))
    worker = Worker(connection, permits, memory)
    os.register_at_fork(after_in_child=worker.disown)
    worker.serve()
    os._exit(0)  # no plugin's thread, no library's own ending may hold it up


class Worker:
    """The loop of a worker process."""

    def __init__(self, connection: socket.socket, permits: socket.socket, memory: LaneMemory) -> None:
        """Make one; everything slow to import is imported here, before the first task."""
        import numpy  # noqa: F401 -- imported before the first task needs it

        from forgesyte_nb.engines.runner import LaneRunner, PluginKey, Task
        from forgesyte_nb.image.data import RawFormat, from_buffer
        from forgesyte_nb.image.memory import limit_in_this_process

        limit_in_this_process()
        self._connection = connection
        self._permits = permits
        self._memory = memory
        self._inbox = Inbox()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._messages: deque[tuple[int, Any, bytes]] = deque()
        self._sending = threading.Lock()  # a plugin's own threads log and report, too
        self._reading = threading.Lock()  # and look whether they are cancelled
        self._cancelled: set[int] = set()
        self._swollen = False
        self._key, self._task = PluginKey, Task
        self._image: Callable[[bytes, list[Any] | None], ImageData] = lambda buffer, layout: from_buffer(
            buffer, None if layout is None else RawFormat(*layout)
        )
        self._runner = LaneRunner(max_result_bytes=0, stream_states=1, capture=True)
        self._runner.log = lambda plugin, text: self._send(Kind.LOG, (plugin, text))

    def disown(self) -> None:
        """In a process that a plugin forked: nothing of what it does reaches the server.

        It must not hold the socket open either: its end is how the server hears of ours.
        """
        self._connection.close()
        self._permits.close()
        self._memory = LaneMemory(-1)
        self._sending, self._reading = threading.Lock(), threading.Lock()  # another thread may have held them

    def serve(self) -> None:
        """Handle messages until the socket ends."""
        self._send(Kind.READY, os.getpid())
        while True:
            while not self._messages:
                self._give_back()
                if not self._read():
                    self._runner.close()
                    return
            kind, body, tail = self._messages.popleft()
            if kind == Kind.TASK:
                self._work(body, tail)
            elif kind == Kind.LOAD:
                if not self._load(tail):
                    return
            elif kind == Kind.UNLOAD:
                self._unload(*body)
            elif kind == Kind.FORGET:
                self._runner.forget_streams(body)
            elif kind == Kind.CANCELLED:
                recent = {number for number in self._cancelled if number > body - _REMEMBERED}
                self._cancelled = recent | {body}
            elif kind == Kind.SETTINGS:
                self._runner.limit(max_result_bytes=body[0], stream_states=body[1])

    def _work(self, body: Any, buffer: bytes) -> None:
        number, start_is_news, name, revision, origin, options, place, size, layout = body
        frame_id, stream_key, seq, captured_at, time_s = origin
        if place >= 0:
            buffer = self._memory.get(place, size)  # before `begin`: of a recalled task the place may be another's
        if not begin(self._permits, number):
            return
        now = time.monotonic()
        if start_is_news:
            self._send(Kind.STARTED, (number, now))
        outcome = self._runner.run(
            self._task(
                self._key(name, revision),
                frame_id,
                stream_key,
                seq,
                captured_at,
                time_s,
                options,
                self._image(buffer, layout),
            ),
            report=lambda percent: self._send(Kind.PROGRESS, (number, now, percent)),
            cancelled=lambda: self._is_cancelled(number),
        )
        self._swollen = self._swollen or outcome.decode_ms > _LARGE_MS
        times = (outcome.decode_ms, outcome.plugin_ms, outcome.output)
        if outcome.error is None:
            self._send(Kind.RESULT, (number, now, *times), outcome.result or b"{}")
        else:
            error = outcome.error
            self._send(Kind.FAILED, (number, now, *times, error.code, str(error), error.detail))

    def _give_back(self) -> None:
        """After a large picture, at rest: give the system back what the allocator has been told to keep."""
        if self._swollen:
            self._swollen = False
            _malloc_trim(0)

    def _load(self, pickled: bytes) -> bool:
        """Load a plugin; if that fails, its tasks are answered with the reason. False if this process has to end."""
        from forgesyte_nb.engines.raised import as_wire_error
        from forgesyte_nb.plugins.local_modules import note_imports, stale_module
        from forgesyte_nb.plugins.payload import unpack

        payload = pickle.loads(pickled)  # noqa: S301 -- made by our own server, over our private socket
        if stale := stale_module(payload.modules):
            self._runner.close()
            self._send(Kind.RENEW, f"{stale} has changed since it was imported")
            return False
        answer = ("", "", "")
        try:
            with self._runner.printing_to_log(payload.name):
                self._runner.load(unpack(payload))
        except BaseException as raised:  # noqa: BLE001 -- importing a plugin runs the user's code
            error = as_wire_error(raised, "cannot be loaded: ")
            self._runner.fail(self._key(payload.name, payload.revision), error)
            answer = (error.code, str(error), error.detail)
        note_imports()
        self._send(Kind.LOADED, (payload.name, payload.revision, *answer))
        return True

    def _unload(self, name: str, kept: list[int]) -> None:
        with self._runner.printing_to_log(name):
            self._runner.unload(name, kept)
        _malloc_trim(0)
        self._send(Kind.UNLOADED, name)

    def _is_cancelled(self, number: int) -> bool:
        """Whether the task is; asked on any thread of the plugin, also on one that outlives its task."""
        if self._reading.acquire(blocking=False):  # who holds it reads, or waits for the next task
            try:
                self._read_some(socket.MSG_DONTWAIT)
            finally:
                self._reading.release()
        return number in self._cancelled or (Kind.CANCELLED, number, b"") in list(self._messages)

    def _read(self) -> bool:
        """Read what comes next; False at the end."""
        with self._reading:
            return self._read_some(0)

    def _read_some(self, flags: int) -> bool:
        try:
            size = self._connection.recv_into(self._buffer, 0, flags)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._messages.extend(self._inbox.feed(self._buffer[:size]))
        return size > 0

    def _send(self, kind: Kind, body: Any, tail: bytes = b"") -> None:
        """Send a message; a plugin's own threads log and report, too."""
        encoded = message(kind, body, tail)
        with self._sending, contextlib.suppress(OSError):  # the reader will see the end; a forked child has no socket
            self._connection.sendall(encoded)


def _malloc_trim(pad: int) -> None:
    """As glibc has it (malloc_trim(3)); other allocators give back by themselves."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(pad)


def _end_with_socket(connection: socket.socket) -> None:
    """End the process when the server's end of the socket is closed, even in the middle of a plugin."""
    poll = select.poll()
    poll.register(connection, 0)  # only hang-up and errors, which poll reports unasked
    poll.poll()
    time.sleep(_TEARDOWN_S)  # a lane that is at rest has ended by itself before that
    os._exit(0)


def _die_with_parent() -> None:
    """On Linux, have the kernel end this process when the thread that started it is gone."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # a libc without prctl: the socket's end must do
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
