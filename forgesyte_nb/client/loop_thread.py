"""`LoopThread`: an event loop in a thread of its own, for callers that wait.

`call` runs a coroutine there and waits for its outcome; an interrupt ends the wait at once and cancels the work.
After `close` the thread is gone, and with it every task, async generator and executor thread of the loop. In a forked
process there is no such thread: every call raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from forgesyte_nb.background import disown_when_forked, loop_runner
from forgesyte_nb.errors import ConnectionLost

Value = TypeVar("Value")
Farewell = Callable[[], Coroutine[Any, Any, None]]

_CLOSE_S = 10.0  # longest wait for the thread: a callback or an executor thread may block

_log = logging.getLogger("forgesyte_nb.client")


class LoopThread:
    """A running loop."""

    def __init__(self, name: str, farewell: Farewell) -> None:
        """Start it; `farewell` is run last, when it is closed."""
        self._runner = loop_runner()
        self._loop = self._runner.get_loop()
        self._farewell = farewell
        self._is_forked = self._closing = False
        self._posting = threading.RLock()  # nothing is posted behind the stop, where it would never run
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        disown_when_forked(self, LoopThread._disown)

    @property
    def closed(self) -> bool:
        """True if it was closed, or belongs to the process that this one was forked from."""
        return self._is_forked or self._closing

    def _disown(self) -> None:
        """In a forked process: the thread is the parent's."""
        self._is_forked = True
        self._posting = threading.RLock()  # another thread may have held it

    def call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine on the loop and wait for it.

        Raises:
            ConnectionLost: If the loop is closed, or is closed meanwhile, or if this process was forked since.
            RuntimeError: If it is called on the loop's own thread, where it would wait for itself.
            BaseException: What the work raised, or an interrupt.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call in the client's own thread would wait for itself; use fs.Client there")
        waiting = _Call(work)
        try:
            with self._posting:
                self._check_open(work)
                self._loop.call_soon_threadsafe(waiting.start)
            return waiting.answer.result()
        except CancelledError:
            raise ConnectionLost("the client was closed") from None
        except BaseException:
            # An interrupt may come at any point above, even before the loop has taken the work up.
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the work
                self._loop.call_soon_threadsafe(waiting.cancel)
            raise

    def _check_open(self, work: Coroutine[Any, Any, Any]) -> None:
        if self.closed:
            work.close()
            why = "belongs to the process that this one was forked from" if self._is_forked else "is closed"
            raise ConnectionLost(f"the client {why}; make a new one with fs.BlockingClient()")

    def post(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, without waiting for it; never if the loop is closed."""
        with self._posting:
            if not self.closed:
                self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End it and wait for the thread, unless it is the caller's. Idempotent."""
        with self._posting:
            if self.closed:
                return
            self._closing = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is self._thread:
            return
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _log.warning("%s has not ended within %g s; it is left to end by itself", self._thread.name, _CLOSE_S)

    def _run(self) -> None:
        """The thread: the loop until it is stopped, then its end."""
        with self._runner:
            self._loop.run_forever()
            self._loop.run_until_complete(self._farewell())


class _Call(Generic[Value]):
    """Work for the loop, and its outcome for the thread that waits."""

    def __init__(self, work: Coroutine[Any, Any, Value]) -> None:
        self.answer: Future[Value] = Future()
        self._work = work
        self._task: asyncio.Task[Value] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        if self._task is None:
            self._work.close()
        else:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Value]) -> None:
        if task.cancelled():
            self.answer.cancel()
        elif (error := task.exception()) is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(task.result())
