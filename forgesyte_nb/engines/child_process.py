"""A worker process as the operating system knows it: how it is started, watched and killed, and how it ended.

A worker starts with SIGINT blocked, with limits for the threads of its libraries, and an allocator that keeps
what it has. What is said to it, and what it answers, is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from forgesyte_nb.engines.thread_limits import thread_variables
from forgesyte_nb.settings import Settings

_LOOK_INTERVAL_S = 0.005
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m`: neither the working directory nor the package's own folder may shadow a library. What the plugins import
# from there is found later: a plugin comes with the `sys.path` of its sender.
_WORKER_CODE = (
    f"import sys; sys.path[:] = [*filter(None, sys.path), {_PACKAGE_ROOT!r}]; "
    "from forgesyte_nb.engines.worker import main; main()"
)
_WORKER_ENVIRONMENT = {
    # glibc (mallopt(3)): keep freed pictures' pages instead of giving them back after every frame. Left to itself it
    # did so or not by the luck of the heap's layout, at 700 page faults a frame of 640×480 and 1.7 times its cost.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}


class ChildProcess:
    """One worker process, from its start to its end.

    Attributes:
        pid: Its number.
        descriptor: What becomes readable when it ends, while it is watched; else -1.
    """

    def __init__(self, inherited: tuple[int, ...], output: int, settings: Settings) -> None:
        """Start it, with the descriptors that it inherits and that of its stdout and stderr.

        Raises:
            OSError: If the system has no more processes or memory.
        """
        self._process = _start(inherited, output, settings)
        self.pid = self._process.pid
        self.descriptor = -1
        self._reason = ""

    def watch(self, on_end: Callable[[], None]) -> None:
        """Have the running loop call `on_end` when it ends, where a loop can watch a process."""
        with contextlib.suppress(OSError):
            self.descriptor = _open_process(self.pid)
        if self.descriptor >= 0:
            asyncio.get_running_loop().add_reader(self.descriptor, on_end)

    def unwatch(self) -> None:
        """Watch it no longer."""
        if self.descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1

    @property
    def has_ended(self) -> bool:
        """Whether it has; asks the system."""
        return self._process.poll() is not None

    @property
    def was_killed(self) -> bool:
        """Whether it ended, or is about to, because we would have it so."""
        return bool(self._reason)

    def kill(self, reason: str) -> None:
        """End it, whatever it is doing, and what it has started."""
        self._reason = reason
        if self.has_ended:
            return
        children = _descendants(self.pid)
        self._process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def abandon(self) -> None:
        """End it before it was told anything."""
        self._process.kill()

    async def ended(self) -> str:
        """Wait for its end, and return a sentence on how it came.

        By looking, not with a thread: when the interpreter is about to end, no thread can be started any more.
        """
        while (returncode := self._process.poll()) is None:
            await asyncio.sleep(_LOOK_INTERVAL_S)
        return _cause_of_death(returncode, self._reason)


def _start(inherited: tuple[int, ...], output: int, settings: Settings) -> subprocess.Popen[bytes]:
    """Start a worker with SIGINT blocked, so that the stop button cannot hit it before it ignores the signal."""
    arguments = ["forgesyte_nb.engines.worker", *map(str, inherited), str(settings.threads)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _WORKER_CODE, *arguments],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(settings),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _environment(settings: Settings) -> dict[str, str]:
    """Environment of a worker: the kernel's, limits for threads, and `Settings.env`."""
    threads = thread_variables(settings.threads)
    own, explicit = (threads, {}) if not settings.threads_per_worker else ({}, threads)
    return {**_WORKER_ENVIRONMENT, **own, **os.environ, **explicit, **(settings.env or {})}


def _cause_of_death(returncode: int, reason: str) -> str:
    """A sentence on how a process ended: as we would have it, for `reason`, or by itself."""
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


def _descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have (Linux; elsewhere none are known)."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended, or no descriptors are left
        return found
    for thread in threads:
        with contextlib.suppress(OSError):
            for child in map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _open_process(pid: int) -> int:
    """A descriptor that becomes readable when the process ends (Linux); -1 where there is no such thing."""
    return os.pidfd_open(pid) if sys.platform == "linux" else -1
