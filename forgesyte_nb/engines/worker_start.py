"""How the system is asked for a worker process, and what it says of its end.

A worker starts with SIGINT blocked, with one thread in each of its libraries, and with a memory allocator that keeps
what it has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

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


def start_process(theirs: socket.socket, memory: int, output: int) -> subprocess.Popen[bytes]:
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


def cause_of_death(returncode: int, reason: str) -> str:
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


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have (Linux; elsewhere none are known)."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def open_process(pid: int) -> int:
    """A descriptor that becomes readable when the process ends (Linux); -1 where there is no such thing."""
    return os.pidfd_open(pid) if sys.platform == "linux" else -1
