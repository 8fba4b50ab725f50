"""A worker process: one lane, one socket to the server.

It is started as `python -c "…; main()" forgesyte_nb.engines.worker SOCKET MEMORY`, not with `-m`, so that a file in
the working directory cannot shadow a library (see `processes.py`).

It reads tasks, runs them one at a time, and answers on the same socket; the result becomes JSON here. It ignores
SIGINT from its first instruction (the server starts it with the signal blocked): the notebook's stop button must not
hurt a frame. It ends when the socket does, whatever the plugin is doing, and the operating system ends it with its
parent where it can.
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
from typing import Any

from forgesyte_nb.engines.image_slots import ImageSlots
from forgesyte_nb.engines.pipe import Inbox, Kind, message

_READ_BYTES = 256 * 1024
_TEARDOWN_S = 1.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Serve one socket until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    connection = socket.socket(fileno=int(sys.argv[2]))
    # A process that a plugin forks must not hold the socket open: its end is how the server hears of ours.
    os.register_at_fork(after_in_child=connection.close)
    threading.Thread(target=_end_with_socket, args=(connection,), name="forgesyte-end", daemon=True).start()
    slots = ImageSlots(int(sys.argv[3]))
    slots.close_file()
    Worker(connection, slots).serve()
    os._exit(0)  # no plugin's thread, no library's own ending may hold it up


class Worker:
    """The loop of a worker process."""

    def __init__(self, connection: socket.socket, slots: ImageSlots) -> None:
        """Make one; everything slow to import is imported here, before the first task."""
        import cv2
        import numpy  # noqa: F401 -- imported before the first task needs it

        from forgesyte_nb.engines.runner import LaneRunner, PluginKey, Task

        # One frame at a time in each of the workers: OpenCV's own threads would only get in each other's way.
        cv2.setNumThreads(1)
        self._connection = connection
        self._slots = slots
        self._inbox = Inbox()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._messages: deque[tuple[int, Any, bytes]] = deque()
        self._out: list[bytes] = []
        self._sending = threading.Lock()  # a plugin's own threads log and report, too
        self._tasks = 0
        self._cancelled: set[int] = set()
        self._key, self._task = PluginKey, Task
        self._runner = LaneRunner(max_result_bytes=0, stream_states=1, capture=True)
        self._runner.log = lambda plugin, text: self._send_now(Kind.LOG, (plugin, text))

    def serve(self) -> None:
        """Handle messages until the socket ends."""
        self._send_now(Kind.READY, os.getpid())
        while True:
            while not self._messages:
                self._flush()
                if not self._read(block=True):
                    self._runner.close()
                    return
            kind, body, tail = self._messages.popleft()
            if kind == Kind.TASK:
                self._work(body, tail)
            elif kind == Kind.LOAD:
                self._load(tail)
            elif kind == Kind.FORGET:
                self._runner.forget_streams(body)
            elif kind == Kind.CANCELLED:
                self._cancelled.add(body)
            elif kind == Kind.SETTINGS:
                self._runner.limit(max_result_bytes=body[0], stream_states=body[1])

    def _work(self, body: Any, image: bytes) -> None:
        name, revision, frame_id, stream_key, seq, options, slot, size = body
        if slot >= 0:
            image = self._slots.get(slot, size)
        # What is still to be said of the last task goes out with the news that this one has started.
        self._send(_STARTED)
        self._tasks += 1
        outcome = self._runner.run(
            self._task(self._key(name, revision), frame_id, stream_key, seq, options, image),
            report=lambda percent: self._send_now(Kind.PROGRESS, percent),
            cancelled=self._is_cancelled,
        )
        times = (outcome.decode_ms, outcome.plugin_ms, outcome.output)
        if outcome.error is None:
            self._out.append(message(Kind.RESULT, times, outcome.result or b"{}"))  # atomic, see `_flush`
        else:
            error = outcome.error
            self._out.append(message(Kind.FAILED, (*times, error.code, str(error), error.detail)))
        if not self._messages:
            self._read(block=False)

    def _load(self, pickled: bytes) -> None:
        """Load a plugin; if that fails, its tasks are answered with the reason."""
        from forgesyte_nb.engines.runner import as_wire_error
        from forgesyte_nb.plugins.payload import unpack

        payload = pickle.loads(pickled)  # noqa: S301 -- made by our own server, over our private socket
        answer = ("", "", "")
        try:
            with self._runner.printing_to_log(payload.name):
                self._runner.load(unpack(payload))
        except BaseException as raised:  # noqa: BLE001 -- importing a plugin runs the user's code
            error = as_wire_error(raised, "cannot be loaded: ")
            self._runner.fail(self._key(payload.name, payload.revision), error)
            answer = (error.code, str(error), error.detail)
        self._send_now(Kind.LOADED, (payload.name, payload.revision, *answer))

    def _is_cancelled(self) -> bool:
        self._read(block=False)
        self._cancelled.update(body for kind, body, _ in self._messages if kind == Kind.CANCELLED)
        return self._tasks in self._cancelled

    def _read(self, *, block: bool) -> bool:
        """Read what is there; False at the end."""
        try:
            size = self._connection.recv_into(self._buffer, 0, 0 if block else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._messages.extend(self._inbox.feed(self._buffer[:size]))
        return size > 0

    def _send_now(self, kind: Kind, body: Any) -> None:
        self._send(message(kind, body))

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._flush()

    def _flush(self) -> None:
        """Send what is there; another thread may be at it, and append meanwhile."""
        with self._sending:
            if count := len(self._out):
                data = b"".join(self._out[:count])
                del self._out[:count]
                with contextlib.suppress(OSError):  # the reader will see the end; a forked child has no socket
                    self._connection.sendall(data)


_STARTED = message(Kind.STARTED)


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
