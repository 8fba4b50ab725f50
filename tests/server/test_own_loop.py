"""The server's loop: its own thread may end it, and no event loop policy of a cell has a say in it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, run_cell, wait_for

PLUGINS = """
@fs.plugin(engine="inline")
def ends(frame):
    servers[0].close()
    return {"running": servers[0].running}

@fs.plugin(engine="inline")
def waits(frame):
    servers[0]._loop.run(servers[0]._async.close(0))
"""

POLICIES = """
import asyncio, os, time, warnings
import numpy as np
import forgesyte_nb as fs

warnings.simplefilter("ignore", DeprecationWarning)  # later versions of Python warn of policies

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        raise RuntimeError("not for threads of a library")

def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

def use(policy, url=None):
    server = fs.serve(port=0, engine="inline")
    client = fs.BlockingClient(server)
    stream = fs.stream("synthetic", "image_stats", loop=True)
    next(iter(stream))
    asyncio.set_event_loop_policy(policy)
    other = fs.BlockingClient(server)
    again = fs.stream([np.zeros((8, 8, 3), np.uint8)], "image_stats").wait(90)
    print(again.status, again.ledger["results"])
    for one in (stream, again, client, other, server):
        one.close()

use(asyncio.DefaultEventLoopPolicy())
before = descriptors()
use(Policy())
asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
use(asyncio.DefaultEventLoopPolicy())
end = time.monotonic() + 30
while descriptors() > before and time.monotonic() < end:
    time.sleep(0.01)
print("none left" if descriptors() <= before else f"{descriptors() - before} left")
"""


async def test_a_server_may_be_closed_on_its_own_thread(serve_on: Any, client: Connect, tiny: bytes) -> None:
    registry, servers = Registry(), []
    run_cell(PLUGINS, registry, servers=servers)
    servers.append(serve_on(registry))
    one = await client(servers[0])
    await one.frame("f", tiny, "ends")
    assert (await one.terminal("f"))["type"] == "frame_result"
    wait_for(lambda: not servers[0].running and servers[0]._loop.loop.is_closed(), "the server to close")


async def test_waiting_for_itself_is_refused(serve_on: Any, client: Connect, tiny: bytes) -> None:
    registry, servers = Registry(), []
    run_cell(PLUGINS, registry, servers=servers)
    servers.append(serve_on(registry))
    one = await client(servers[0])
    answer = await one.analyze("f", tiny, "waits")
    assert "the server's own thread cannot wait for the server" in answer["message"]


def test_event_loop_policies_change_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", POLICIES], capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["ended 1"] * 3 + ["none left"], "")


def test_numbers_that_cannot_be_are_refused(serve_on: Any) -> None:
    server = serve_on()
    for call, name in (
        (lambda: server.close(drain_timeout_s=-1), "drain_timeout_s"),
        (lambda: server.log_tail(-1), "lines"),
        (lambda: server.recent_jobs(0), "most"),
    ):
        with pytest.raises(ValueError, match=f"{name}="):
            call()
    assert server.running
    assert isinstance(server, fs.Server)
