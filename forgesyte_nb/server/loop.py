"""An event loop on a thread of its own, so that the server lives beside the notebook's cells.

While one runs, the interpreter's switch interval is 0.5 ms instead of 5: a frame takes the GIL several times, and
a cell spinning in pure Python would cost it 5 ms each. It is put back when the last loop ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from forgesyte_nb.background import loop_runner
from forgesyte_nb.errors import ServerError

SWITCH_INTERVAL_S = 0.0005
_CLOSED = "the server is closed; start one with fs.serve()"

Answer = TypeVar("Answer")


class BackgroundLoop:
    """A running loop and its thread.

    Attributes:
        loop: The loop; touch it only through `run` and `call_soon_threadsafe`.
    """

    _running = 0
    _usual_interval_s = 0.0
    _lock = threading.Lock()

    def __init__(self, name: str) -> None:
        """Start a loop on a daemon thread called `name`."""
        self._runner = loop_runner()
        self.loop = self._runner.get_loop()
        self._submitting = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        with BackgroundLoop._lock:
            if BackgroundLoop._running == 0:
                BackgroundLoop._usual_interval_s = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_INTERVAL_S)
            BackgroundLoop._running += 1
        self._thread.start()

    def _main(self) -> None:
        with self._runner:
            self.loop.run_forever()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this loop's thread, and so must not wait for it."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, Answer], timeout_s: float | None = None) -> Answer:
        """Run a coroutine on the loop and wait for it from another thread.

        Raises:
            TimeoutError: If it takes longer than `timeout_s`; it is cancelled.
            ServerError: If the loop is closed or closes meanwhile, or if the caller is on its thread and would wait for
                itself.
        """
        if self.is_current:
            work.close()
            raise ServerError("the server's own thread cannot wait for the server: call it from another thread")
        with self._submitting:  # what is submitted while a loop ends is never run, and its result would not come
            if self._closing:
                work.close()
                raise ServerError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError as error:
            raise ServerError(_CLOSED) from error
        except (TimeoutError, KeyboardInterrupt):
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop, wait for its thread, and put the switch interval back. Idempotent."""
        with self._submitting:
            if self._closing:
                return
            self._closing = True
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        with BackgroundLoop._lock:
            BackgroundLoop._running -= 1
            if BackgroundLoop._running == 0:
                sys.setswitchinterval(BackgroundLoop._usual_interval_s)
