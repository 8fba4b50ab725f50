"""What a server's processes take, sampled while it works, and whether it grows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import psutil

from tests.chaos.apart import MIB, Apart, pss_bytes


@dataclass(frozen=True)
class Sample:
    """At one moment.

    Attributes:
        at_s: Monotonic seconds.
        memory_mib: Of the server and its workers, what they share counted once.
        descriptors: Open in the server's process.
        threads: Of the server's process.
        processes: The server, its workers and its spare.
    """

    at_s: float
    memory_mib: float
    descriptors: int
    threads: int
    processes: int


def sample(server: Apart) -> Sample:
    """What it takes now."""
    process, family = psutil.Process(server.process.pid), server.processes
    memory_mib = pss_bytes(family) / MIB
    return Sample(time.monotonic(), memory_mib, process.num_fds(), process.num_threads(), len(family))


@dataclass
class Samples:
    """In the order they were taken."""

    taken: list[Sample] = field(default_factory=list)

    async def take(self, server: Apart, every_s: float) -> None:
        """Take one now and then, until cancelled."""
        while True:
            self.taken.append(await asyncio.to_thread(sample, server))
            await asyncio.sleep(every_s)

    def growth_per_hour(self, what: str) -> float:
        """The median of the slopes between any two samples (Theil and Sen): a peak does not count, a trend does."""
        at_h = np.array([one.at_s for one in self.taken]) / 3600
        values = np.array([float(getattr(one, what)) for one in self.taken])
        first, second = np.triu_indices(len(values), k=1)
        if not len(first):
            return 0.0
        return float(np.median((values[second] - values[first]) / (at_h[second] - at_h[first])))
