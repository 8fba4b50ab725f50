"""`LoopThread`: an event loop in a thread of its own, for callers that wait.

`call` runs a coroutine there and waits for its outcome; an interrupt ends the wait at once and cancels the work.
After `close` the thread is gone, and with it every task, async generator and executor thread of the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from forgesyte_nb.errors import ConnectionLost

Value = TypeVar("Value")
Farewell = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """A running loop."""

    def __init__(self, name: str, farewell: Farewell) -> None:
        """Start it; `farewell` is run last, when it is closed."""
        self._loop = asyncio.new_event_loop()
        self._farewell = farewell
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._loop.is_closed()

    def call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine on the loop and wait for it.

        Raises:
            ConnectionLost: If the loop is closed, or is closed meanwhile.
            RuntimeError: If it is called on the loop's own thread, where it would wait for itself.
            BaseException: What the work raised, or an interrupt.
        """
        if self.closed:
            work.close()
            raise ConnectionLost("the client is closed; make a new one with fs.BlockingClient()")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call in the client's own thread would wait for itself; use fs.Client there")
        waiting = _Call(work)
        try:
            self._loop.call_soon_threadsafe(waiting.start)
            return waiting.answer.result()
        except CancelledError:
            raise ConnectionLost("the client was closed") from None
        except BaseException:
            # An interrupt may come at any point above, even before the loop has taken the work up.
            self._loop.call_soon_threadsafe(waiting.cancel)
            raise

    def close(self) -> None:
        """End it and wait for the thread; twice is once."""
        if self.closed or threading.current_thread() is self._thread:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        """The thread: the loop until it is stopped, then its end."""
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(self._farewell())
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


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
