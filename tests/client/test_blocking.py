"""The blocking client: in scripts, in a running loop, interrupted, closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.blocking import BlockingClient


@pytest.fixture
def client(server):
    with BlockingClient(server) as made:
        yield made


def own_threads() -> set[str]:
    return {
        t.name for t in threading.enumerate() if not t.name.startswith(("MainThread", "forgesyte-server", "pytest"))
    }


def test_one_picture_one_result(client, picture):
    assert client.analyze(picture, "mean", k=2)["k"] == 2
    assert client.connected
    with pytest.raises(fs.PluginNotFound, match="did you mean"):
        client.analyze(picture, "meen")


def test_a_stream_is_a_plain_iterator(client, pictures):
    stream = client.stream(pictures(50), "mean", ordered=True)
    assert [result.seq for result in stream] == list(range(50))
    assert (stream.sent, stream.answered, stream.failed, stream.skipped) == (50, 50, 0, 0)
    assert stream.problem is None
    assert list(stream) == []


def test_leaving_a_stream_early_leaves_the_client_usable(client, picture):
    for result in client.stream("synthetic", "mean", loop=True):
        assert result.ok
        break
    with client.stream("synthetic", "mean", loop=True) as stream:
        next(stream)
    assert client.analyze(picture, "mean").ok


def test_messages_of_frames_that_were_sent(client, picture):
    messages = client.messages("frame_result")
    client.subscribe("plugin_mean")
    ids = {client.send_frame(picture, "mean"), client.send_frame(picture, "mean", {"k": 2})}
    assert {next(messages)["frame_id"], next(messages)["frame_id"]} == ids
    client.unsubscribe("plugin_mean")
    client.drain()
    assert list(client.messages("broadcast", timeout_s=0.01)) == []


async def test_it_works_inside_a_running_loop(server, pictures):
    assert asyncio.get_running_loop().is_running()
    with BlockingClient(server.url) as client:
        assert client.analyze(pictures(1)[0], "mean").ok
        assert len(list(client.stream(pictures(10), "mean"))) == 10


def test_no_thread_is_left_after_close(server, pictures, tmp_path):
    before = own_threads()
    client = BlockingClient(server)
    abandoned = client.stream("synthetic", "mean", loop=True)
    next(abandoned)
    client.batch(pictures(3), "mean")
    client.close()
    client.close()
    assert own_threads() <= before
    assert "closed" in repr(client)
    with pytest.raises(fs.ConnectionLost, match="make a new one"):
        client.analyze(pictures(1)[0], "mean")
    with pytest.raises(fs.ConnectionLost), contextlib.closing(abandoned):
        for result in abandoned:
            assert result.ok or isinstance(result.error, fs.ConnectionLost)


def test_a_server_that_is_not_there_leaves_nothing_behind():
    before = own_threads()
    with pytest.raises(fs.ConnectionLost, match="No server at"):
        BlockingClient("ws://localhost:1")
    assert own_threads() == before


@pytest.mark.skipif(os.name != "posix", reason="signals as a notebook's stop button sends them on POSIX")
@pytest.mark.parametrize("what", ["analyze", "stream", "batch"])
def test_an_interrupt_ends_the_call_at_once_and_leaves_the_client_usable(client, picture, gate, what):
    calls = {
        "analyze": lambda: client.analyze(picture, "gated"),
        "stream": lambda: list(client.stream([picture] * 3, "gated")),
        "batch": lambda: client.batch([picture] * 3, "gated", progress=False),
    }

    def interrupt():
        gate.wait_for(1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):  # while the gate is shut: nothing else could end it
        calls[what]()
    thread.join()
    gate.open()
    assert client.analyze(picture, "mean").ok
    assert [result.ok for result in client.stream([picture] * 3, "mean")] == [True] * 3


def test_a_call_in_its_own_thread_is_refused_instead_of_hanging(client):
    caught = []

    async def wrong():
        try:
            client.subscribe("all")
        except RuntimeError as error:
            caught.append(str(error))

    client._call(wrong())
    assert "wait for itself" in caught[0]


def test_a_script_that_forgets_to_close_ends(server):
    script = f"import forgesyte_nb as fs; c = fs.BlockingClient({server.url!r}); print(c.connected)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_nested_asyncio_run_in_a_running_loop(server, picture, tmp_path):
    """In a process of its own: nest_asyncio changes asyncio for good."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture)
    script = f"""
import asyncio
import forgesyte_nb as fs

async def main():
    async with fs.Client({server.url!r}) as client:
        return (await client.analyze({str(path)!r}, "mean"))["k"]

async def cell():
    try:
        work = main()
        asyncio.run(work)
    except RuntimeError:
        work.close()
    else:
        raise AssertionError("asyncio.run works already")
    fs.load_ipython_extension(None)
    with fs.BlockingClient({server.url!r}) as client:
        return asyncio.run(main()), client.analyze({str(path)!r}, "mean")["k"]

fs.allow_nested_asyncio()  # no loop is running: nothing happens
print(asyncio.run(cell()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(1, 1)\n", "")
