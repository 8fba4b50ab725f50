"""A server in a process of its own, so that its memory, processes and descriptors are its own, too.

    with Apart(PLUGINS, tmp_path, max_image_pixels=1_000_000) as server:
        … f"ws://127.0.0.1:{server.port}/ws/me" …
        with PeakMemory(server.processes) as memory: …

`Apart` starts Python on a file, as somebody's script, with the plugins in a folder beside it. It serves until `close`,
which lets it end by itself, or until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from tests.conftest import PATIENCE_S

_SCRIPT = """
import json, sys
import forgesyte_nb as fs

settings = fs.Settings(**json.loads(sys.argv[1]))
server = fs.serve(port=0, plugins=[sys.argv[2]], settings=settings, log=sys.argv[3])
print(json.dumps({"port": server.port}), flush=True)
sys.stdin.read()
server.close()
print("closed", flush=True)
"""
_SAMPLE_S = 0.02
MIB = 1024 * 1024


class Apart:
    """A running server and its process.

    Attributes:
        port: Where it listens.
        log: Path of its log.
        process: Its process; its pid leads a process group of its own.
    """

    def __init__(self, plugins: str, folder: Path, **settings: Any) -> None:
        """Start it, and wait until it listens.

        Args:
            plugins: Text of a file of plugins.
            folder: An empty one to put things in.
            settings: As for `fs.Settings`.
        """
        (folder / "plugins").mkdir()
        (folder / "plugins" / "chaos_plugins.py").write_text(plugins)
        (folder / "serve.py").write_text(_SCRIPT)
        self.log = folder / "server.log"
        values = json.dumps({"workers": 2, "drain_timeout_s": 1.0, **settings})
        self.process = subprocess.Popen(
            [sys.executable, "serve.py", values, str(folder / "plugins"), str(self.log)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended before it listened: exit code {self.process.wait(PATIENCE_S)}"
        self.port: int = json.loads(line)["port"]

    @property
    def processes(self) -> list[int]:
        """It and everything it has started."""
        try:
            process = psutil.Process(self.process.pid)
            return [process.pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    @property
    def workers(self) -> list[int]:
        """Its worker processes, the spare included."""
        return workers_of(self.process.pid)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of it and everything it has started, those that have ended included."""
        process = psutil.Process(self.process.pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:4]) for one in family)  # user, system, and of ended children

    def kill(self) -> None:
        """End it at once, as the system does for want of memory."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Have it end by itself; it does so within the test's patience."""
        family = [psutil.Process(pid) for pid in self.processes]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(PATIENCE_S)
        finally:
            for one in family:
                if one.is_running():
                    one.kill()
            self.process.wait()
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def workers_of(pid: int) -> list[int]:
    """The worker processes of a server's process, the spare included."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            if "forgesyte_nb.engines.worker" in child.cmdline():
                found.append(child.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def have_loaded(pids: list[int]) -> bool:
    """Whether worker processes have loaded all that they load before their first frame."""
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            return False  # it has ended
        if "/cv2/" not in maps or "/pydantic_core/" not in maps:
            return False
    return True


def pss_bytes(pids: list[int]) -> int:
    """Memory of processes, what they share counted once (proportional set size)."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (OSError, ProcessLookupError):
            continue  # it has ended
        total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


class PeakMemory:
    """Within it, memory is sampled: `more_mib` is the most that was added since it was entered.

    Attributes:
        before_mib: When it was entered.
        peak_mib: At the most.
    """

    def __init__(self, processes: Callable[[], list[int]]) -> None:
        self._processes = processes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.before_mib = self.peak_mib = 0.0

    def _sample(self) -> None:
        while not self._end.wait(_SAMPLE_S):
            self.peak_mib = max(self.peak_mib, pss_bytes(self._processes()) / MIB)

    @property
    def more_mib(self) -> float:
        """What was added at the most."""
        return self.peak_mib - self.before_mib

    def __enter__(self) -> Self:
        self.before_mib = self.peak_mib = pss_bytes(self._processes()) / MIB
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
