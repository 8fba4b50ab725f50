"""All frames at once from the seed's own clients, unmodified, onto a slow plugin: all are answered, nobody is cut off.

The clients are the seed's two, each a process of its own. Their frame ids are made of the clock and collide, so jobs
are counted by `job_id`. More image bytes are sent than may wait in memory: the rest waits in a file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.apart import MIB, PeakMemory
from tests.chaos.conftest import StartApart
from tests.chaos.ledger import counts_of
from tests.conftest import encoded
from tests.figures import Figures
from tests.seed_clients.test_seed_clients import NODE

SUITE = "all frames at once from the seed's clients"
HERE = Path(__file__).parent
PLUGINS = """
import time
import forgesyte_nb as fs

@fs.plugin
def slow(frame) -> dict:
    time.sleep({seconds})
    return {{"size": list(frame.size_wh)}}
"""
UNDER_WAY_MIB = 32
"""What the server may take beside the images that wait: what it is reading, has not written yet, and its job book."""


async def ledger_of(port: int, picture: bytes, *command: str) -> dict[str, Any]:
    """Run a client; the ledger that it prints at last."""
    environment = {"FORGESYTE_URL": f"ws://127.0.0.1:{port}", "FORGESYTE_PICTURE": base64.b64encode(picture).decode()}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, limit=64 * MIB
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out[-2000:], err)
    ledger: dict[str, Any] = json.loads(out.splitlines()[-1])
    return ledger


@pytest.mark.timeout(7200)
async def test_all_are_answered_and_nobody_is_cut_off(
    apart: StartApart, astronaut: np.ndarray, figures: Figures
) -> None:
    frames, seconds, queue_mib, ping = (1000, 0.05, 16, ()) if figures.soak else (100, 0.02, 2, ("0.5",))
    picture = encoded(astronaut[:, :, ::-1], "JPEG", quality=92)
    sent_mib = 2 * frames * len(picture) / MIB
    assert sent_mib > 2 * queue_mib, "more than may wait in memory"
    server = apart(PLUGINS.format(seconds=seconds), queue_bytes=queue_mib * MIB, ping_interval_s=1.0)
    commands = [(NODE, "all_at_once.mjs", str(frames)), (sys.executable, "all_at_once.py", str(frames), *ping)]
    own = [server.process.pid]
    with PeakMemory(lambda: own) as memory:
        ledgers = await asyncio.gather(
            *(ledger_of(server.port, picture, one, str(HERE / two), *more) for one, two, *more in commands)
        )
    for ledger in ledgers:
        assert ledger["closed"] is None, f"cut off with {ledger['closed']}"
        assert len(ledger["sent"]) == frames
        assert Counter(frame_id for _, frame_id, *_ in ledger["terminal"]) == Counter(ledger["sent"])
        assert {kind for kind, *_ in ledger["terminal"]} == {"result"}
        jobs = [job_id for _, _, job_id, *_ in ledger["terminal"]]
        assert sorted(jobs) == sorted(ledger["accepted"])
        assert len(set(jobs)) == frames
    counts = counts_of(server)
    assert (counts.accepted, counts.results, counts.errors, counts.active) == (2 * frames, 2 * frames, 0, 0)
    assert memory.more_mib <= queue_mib + UNDER_WAY_MIB

    answered = sum(len(ledger["terminal"]) for ledger in ledgers)
    figures.add(SUITE, f"frames unanswered, of {2 * frames} ({sent_mib:.0f} MiB)", 2 * frames - answered, 0)
    figures.add(SUITE, "connections closed with 1011", sum(ledger["closed"] == 1011 for ledger in ledgers), 0)
    limit_mib = queue_mib + UNDER_WAY_MIB
    figures.add(SUITE, f"MiB more in the server, {queue_mib} of them for images", memory.more_mib, limit_mib)
