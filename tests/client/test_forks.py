"""A process that is forked from one with clients and streams: its calls raise, and those of the parent go on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

SCRIPT = """
import asyncio, os, sys, warnings
import numpy as np
import forgesyte_nb as fs

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point of it
PICTURE = np.zeros((8, 8, 3), np.uint8)

async def one_shot(client):
    return await client.analyze(PICTURE, "image_stats")

def in_child(what):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            what()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

async def asynchronous():
    async with fs.Client({url!r}) as client:
        await one_shot(client)
        in_child(lambda: refused(lambda: asyncio.run(one_shot(client))))
        in_child(lambda: asyncio.run(client.close()))
        print("parent", (await one_shot(client)).ok)

def refused(call):
    try:
        call()
    except fs.ConnectionLost as error:
        print("child", str(error).partition(";")[0])

blocking = fs.BlockingClient({url!r})
stream = fs.stream("synthetic", "image_stats", server={url!r}, loop=True)
next(iter(stream))

def child():
    refused(lambda: blocking.analyze(PICTURE, "image_stats"))
    blocking.close()
    print("child", stream.wait(90).status, stream.problem)
    stream.close()
    with fs.BlockingClient({url!r}) as own:
        print("child", own.analyze(PICTURE, "image_stats").ok)

in_child(child)
print("parent", blocking.analyze(PICTURE, "image_stats").ok)
blocking.close()
before = stream.ledger["results"]
while stream.ledger["results"] == before:
    next(iter(stream))
stream.close()
asyncio.run(asynchronous())
"""


def test_a_forked_process_has_no_part_in_clients_and_streams(outside_stats):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{url!r}", repr(outside_stats.url))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lost = "belongs to the process that this one was forked from"
    assert done.stdout.splitlines() == [
        f"child the client {lost}",
        f"child failed the stream {lost}",
        "child True",
        "parent True",
        f"child the client {lost}",
        "parent True",
    ], done.stderr


@pytest.fixture
def outside_stats(tmp_path):
    import forgesyte_nb as fs

    with fs.Server(port=0, settings=fs.Settings(engine="inline"), log=tmp_path / "log") as server:
        yield server
