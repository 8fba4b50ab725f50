"""Stopping Python code that runs in a thread of this process.

A thread cannot be killed. What can be done is to have the interpreter raise an exception in it at its next
bytecode (`PyThreadState_SetAsyncExc`, CPython C API): that ends a loop in pure Python at once, and C code when it
returns. `Interruptible` makes sure that the exception hits the plugin and nothing after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator


class Stopped(BaseException):
    """Raised inside a plugin that ran too long; a BaseException, so that `except Exception` does not eat it."""


class Interruptible:
    """One thread's guarded sections that another thread may stop."""

    def __init__(self) -> None:
        """Make one for a thread that will enter `section`."""
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._sent = False

    @contextlib.contextmanager
    def section(self) -> Iterator[None]:
        """Within it, `stop` raises `Stopped`; after it, never."""
        with self._lock:
            self._thread_id = threading.get_ident()
            self._sent = False
        try:
            yield
        finally:
            left = False
            while not left:
                try:
                    with self._lock:
                        thread_id, self._thread_id = self._thread_id, None
                        if self._sent and thread_id is not None:
                            _set_async_exception(thread_id, None)
                    left = True
                except Stopped:
                    continue  # it arrived while this very block ran

    def stop(self, overdue: Callable[[], bool] = lambda: True) -> bool:
        """Stop the section if one is running and `overdue`; whether it was. May be said again to a deaf one."""
        with self._lock:
            if self._thread_id is None or not overdue():
                return False
            self._sent = True
            _set_async_exception(self._thread_id, Stopped)
            return True


def _set_async_exception(thread_id: int, exception: type[BaseException] | None) -> None:
    argument = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
