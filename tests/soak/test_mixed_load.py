"""Mixed load for half an hour: memory does not grow, nothing is left open, every frame has its answer.

`FORGESYTE_SOAK_MINUTES` sets another duration. The short form is the same for some seconds, too few to speak of growth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.apart import Apart
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.ledger import counts_of
from tests.conftest import PATIENCE_S, get, wait_for
from tests.figures import Figures
from tests.soak.load import PLUGINS, Load
from tests.soak.samples import Sample, Samples, sample

SUITE = "soak, mixed load"
WORKERS = 2
SETTINGS: dict[str, Any] = {
    "workers": WORKERS,
    "ping_interval_s": 2.0,
    "ping_timeout_s": 6.0,
    "session_grace_s": 1.0,
    "stream_grace_s": 1.0,
    "job_history": 200,
}


def at_rest(server: Apart) -> bool:
    """Whether it has no clients, no sessions and no jobs any more, and all its workers and the spare."""
    if len(server.workers) != WORKERS + 1:
        return False
    lines = dict(line.rsplit(" ", 1) for line in get(server, "/metrics")[1].decode().splitlines() if line[0] != "#")
    return all(float(lines[f"forgesyte_{name}"]) == 0 for name in ("sessions", "connected_clients", "active_jobs"))


async def rest(server: Apart, before: Sample | None = None) -> Sample:
    """Wait until it is at rest, and, for a while, until it takes no more than before; what it takes."""
    await asyncio.to_thread(wait_for, lambda: at_rest(server), "the server to be at rest")
    least, end = sample(server), time.monotonic() + (1.0 if before is None else PATIENCE_S)
    while time.monotonic() < end and (before is None or least.descriptors > before.descriptors):
        await asyncio.sleep(0.1)  # the last look-up's connection may still be open
        least = min(least, sample(server), key=lambda one: (one.descriptors, one.threads))
    return least


@pytest.mark.timeout(7200)
async def test_nothing_grows_and_nothing_is_lost(tmp_path: Path, figures: Figures, jpeg: bytes) -> None:
    minutes = float(os.environ.get("FORGESYTE_SOAK_MINUTES", "30")) if figures.soak else 0.1
    warm_up_s = min(300.0, minutes * 60 / 3)
    samples = Samples()
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(Apart(PLUGINS, tmp_path, **SETTINGS))
        load = Load(
            server, stack.enter_context(FaultProxy(server.port)), jpeg, most_frames=40 if figures.soak else 12, seed=4
        )
        await load.use_each_plugin()
        await load.run(warm_up_s, kill_every_s=3.0)
        before = await rest(server)
        sampling = asyncio.create_task(samples.take(server, every_s=10.0 if figures.soak else 0.5))
        await load.run(minutes * 60 - warm_up_s, kill_every_s=10.0 if figures.soak else 2.0)
        sampling.cancel()
        after = await rest(server, before)
        counts = counts_of(server)
        kinds = {name for name in dir(Load) if not name.startswith("_")} - {"run", "use_each_plugin"}
    if figures.soak:
        growth_mib = samples.growth_per_hour("memory_mib")
        figures.add(SUITE, f"memory's growth in {minutes:g} minutes, MiB per hour", growth_mib, 1)
    figures.add(SUITE, "memory at rest after it, MiB more", after.memory_mib - before.memory_mib)
    figures.add(SUITE, "descriptors more", after.descriptors - before.descriptors, 0)
    figures.add(SUITE, "threads more", after.threads - before.threads, 0)
    figures.add(SUITE, "frames", counts.accepted)
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert set(load.visits) == kinds
    assert counts.accepted == counts.results + counts.errors, counts
    # Each visit has made sure of its own. More is accepted: of those who do not read, and of those who were cut off for
    # longer than a session lives, and so send again what was done already.
    assert counts.accepted >= load.answered, (counts, load.answered)
