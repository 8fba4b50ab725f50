"""One run of the benchmarks: its children, its messages, and the order in which contestants take turns."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Self

import psutil

from tests.benchmarks import pictures
from tests.benchmarks.child import Child
from tests.benchmarks.sockets import Messages
from tests.benchmarks.table import BASE, Scale

PICTURES: Mapping[str, Callable[[int], list[bytes]]] = {
    "stills": pictures.stills,
    "walk": pictures.walk,
    "page": pictures.page,
}


_LOOK_S, _REST_S, _RESTLESS_S = 0.1, 0.015, 5.0  # at rest is who works for no more than one tick of 10 ms in 100


class Skipped(Exception):
    """A row that cannot be measured on this machine: why, and what to install."""


class Bench:
    """What rows need.

    Attributes:
        quick: Whether figures may be rough.
    """

    def __init__(self, *, rounds: int, quick: bool) -> None:
        """Start nothing yet.

        Args:
            rounds: Rounds at the base scale.
            quick: Shorter windows, fewer repetitions.
        """
        self.quick = quick
        self._rounds = rounds
        self._children: dict[tuple[str, ...], Child] = {}
        self._messages: dict[tuple[str, str, int], Messages] = {}

    def rounds(self, scale: Scale) -> int:
        """Rounds at a scale: all at the base, a third of them where only growth is looked at."""
        return self._rounds if scale == BASE else max(1, self._rounds // 3)

    def seconds(self, full_s: float) -> float:
        """Length of a window: as given, or a fifth of it."""
        return full_s / 5 if self.quick else full_s

    def child(self, module: str, *arguments: str) -> Child:
        """A child that is shared by all rows, started when first asked for."""
        key = (module, *arguments)
        if key not in self._children:
            self._children[key] = Child(*key)
        return self._children[key]

    def messages(self, plugin: str, kind: str, area: int) -> Messages:
        """The ring of messages for a plugin, with pictures of a kind."""
        key = (plugin, kind, area)
        if key not in self._messages:
            if len(self._messages) > 3:
                self._messages.clear()  # a ring of large frames is 30 MB
            self._messages[key] = Messages(plugin, PICTURES[kind](area))
        return self._messages[key]

    def in_turns(self, contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
        """Let each contestant measure itself once in each round, each round beginning with another one."""
        measured: dict[str, list[float]] = {name: [] for name in contestants}
        names = list(contestants)
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                measured[name].append(contestants[name]())
        return measured

    def close(self) -> None:
        """End all children."""
        for child in self._children.values():
            with contextlib.suppress(OSError):
                child.hang_up()
        while self._children:
            self._children.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_round(over: list[float], under: list[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def memory_kib(pid: int, *, tree: bool = False) -> float:
    """Memory of a process in KiB, and of its children; shared pages count by the part that is its own (PSS)."""
    processes = [psutil.Process(pid)]
    if tree:
        processes += processes[0].children(recursive=True)
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss) / 1024
    return total


def settle(pid: int) -> None:
    """Wait until a process is at rest, or for `_RESTLESS_S`: what ends in the background has ended then."""
    process = psutil.Process(pid)
    deadline, spent_s = time.monotonic() + _RESTLESS_S, -1.0
    while time.monotonic() < deadline and sum(process.cpu_times()[:2]) - spent_s > _REST_S:
        spent_s = sum(process.cpu_times()[:2])
        time.sleep(_LOOK_S)


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us, here and in children; how many that is."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(wanted)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
