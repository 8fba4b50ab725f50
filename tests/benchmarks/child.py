"""Processes beside this one: started with a line that says how to reach them, ended when their stdin is closed.

A child prints one line of JSON when it is ready, reads commands as lines from stdin, and ends when that is closed,
which the operating system does for it whatever becomes of the parent. Children are in sessions of their own, so
Ctrl-C reaches the benchmark alone, and the benchmark ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
_END_S = 15.0

WORKERS = 2
"""Worker processes of every server, and of the bare processes that they are held against."""


class Child:
    """A running child.

    Attributes:
        pid: Its process id.
        said: What its first line said.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start `python -m tests.benchmarks.<module>` and wait until it is ready.

        Args:
            module: Its module.
            arguments: Of its command line.
            environment: Variables that only it gets.

        Raises:
            RuntimeError: If it ends before it is ready.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.name = " ".join((module, *arguments))
        self.said: dict[str, Any] = {}
        try:
            self.said = self.hear()
        except BaseException:
            self.close()
            raise

    def tell(self, command: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait(_END_S)}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def ask(self, command: str) -> dict[str, Any]:
        """Send it a line and wait for its answer."""
        self.tell(command)
        return self.hear()

    def hang_up(self) -> None:
        """Let it end."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def close(self) -> None:
        """Let it end, by force if it does not end by itself."""
        self.hang_up()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def say(**fields: Any) -> None:
    """In a child: answer the parent."""
    print(json.dumps(fields), flush=True)


async def until_stdin_closes() -> None:
    """In a child with a loop: wait for the end."""
    ended = asyncio.Event()
    # Not a thread in `sys.stdin.read()`: it would hold a lock that a forked child waits for.
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()
