"""Calls that are cancelled, made twice at a time, or made where one would not expect them: nothing hangs or is left."""

from __future__ import annotations

import asyncio
import os
import threading

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from tests.conftest import PATIENCE_S


def own_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("forgesyte-")}


async def none_left() -> None:
    async with asyncio.timeout(PATIENCE_S):
        while own_tasks():
            await asyncio.sleep(0)


async def test_connecting_twice_at_a_time_dials_once(cable, picture):
    client = Client(cable.url)
    await asyncio.gather(*(client.connect() for _ in range(5)))
    assert cable.accepted == 1
    assert (await client.analyze(picture, "mean")).ok
    await client.close()
    await none_left()


async def test_closing_while_it_connects_leaves_no_connection(cable):
    cable.cut()  # new connections wait for `mend`
    client = Client(cable.url)
    connecting = asyncio.create_task(client.connect())
    while not cable.accepted:
        await asyncio.sleep(0)
    await client.close()
    cable.mend()
    with pytest.raises(fs.ConnectionLost, match="closed while it connected"):
        await connecting
    assert not client.connected
    await none_left()


async def test_connecting_that_is_cancelled_anywhere_leaves_nothing(server):
    for turns in range(200):
        client = Client(server.url)
        connecting = asyncio.create_task(client.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        if not connecting.cancel():
            await client.close()
            break
        await asyncio.gather(connecting, return_exceptions=True)
        if not connecting.cancelled():
            await client.close()
        await none_left()


async def test_closing_that_is_cancelled_cuts_the_connection(cable, picture, gate):
    client = Client(cable.url)
    await client.connect()
    asked = asyncio.create_task(client.analyze(picture, "gated"))
    await asyncio.to_thread(gate.wait_for, 1)
    cable.clog()  # the server does not answer the goodbye
    closing = asyncio.create_task(client.close())
    while client._link.upkeep.lost is None:
        await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(fs.ConnectionLost):
        await asked
    await none_left()


async def test_a_listener_may_close_the_client(server, picture):
    client = Client(server.url)
    closed = asyncio.Event()

    @client.on_frame_result
    async def end(_message):
        await client.drain(timeout_s=PATIENCE_S)  # its own call is not waited for
        await client.close()
        closed.set()

    await client.connect()
    await client.send_frame(picture, "mean")
    async with asyncio.timeout(PATIENCE_S):
        await closed.wait()
    await none_left()
    await client.connect()  # and it may be used again, listeners included
    closed.clear()
    await client.send_frame(picture, "mean")
    async with asyncio.timeout(PATIENCE_S):
        await closed.wait()
    await none_left()


async def test_a_refused_subscription_raises(start_server, picture):
    server = start_server(max_topics=1)
    async with Client(server.url) as client:
        await client.subscribe("plugin_mean")
        for _ in range(2):
            with pytest.raises(fs.InvalidMessage, match="plugin_boom: 1 topics are subscribed already, the limit"):
                await client.subscribe("plugin_boom")
        twice = await asyncio.gather(client.subscribe("all"), client.subscribe("all"), return_exceptions=True)
        assert [type(error) for error in twice] == [fs.InvalidMessage] * 2
        await client.unsubscribe("plugin_mean")
        await client.subscribe("plugin_boom")
        assert list(client._link.topics) == ["plugin_boom"]
    with fs.BlockingClient(server) as blocking:
        blocking.subscribe("all")
        with pytest.raises(fs.InvalidMessage, match="the limit"):
            blocking.subscribe("plugin_mean")


async def test_topics_that_another_server_refuses_are_warned_of(start_server, server, caplog):
    first = start_server()
    client = Client(first.url, backoff_s=0.01, max_backoff_s=0.05)
    async with client:
        await client.subscribe("plugin_mean")
        await client.subscribe("plugin_boom")
        await asyncio.to_thread(first.close)
        start_server(port=first.port, max_topics=1)
        async with asyncio.timeout(PATIENCE_S):
            while len(client._link.topics) > 1:
                await asyncio.sleep(0.001)
    assert "plugin_boom is subscribed no longer" in caplog.text


class Slow:
    """A picture whose pixels come when they are allowed to."""

    def __init__(self, gray: int) -> None:
        self.pixels = np.full((8, 8), gray, np.uint8)
        self.asked, self.go, self.thread = threading.Event(), threading.Event(), ""

    def __array__(self, dtype=None, copy=None):
        self.thread = threading.current_thread().name
        self.asked.set()
        assert self.go.wait(60)
        return self.pixels


async def test_pictures_are_made_beside_the_loop_and_keep_their_order(server):
    slow, quick = Slow(10), np.full((8, 8), 200, np.uint8)
    async with Client(server.url) as client:
        updates = client.messages("job_update")
        first = asyncio.create_task(client.send_frame(slow, "mean", frame_id="first", stream_id="s"))
        second = asyncio.create_task(client.analyze(quick, "mean", stream_id="s"))
        third = asyncio.create_task(client.send_frame(b"no picture", "mean", frame_id="third", stream_id="s"))
        beside = await client.analyze(quick, "mean", stream_id="another")  # while the first is being made
        assert await asyncio.to_thread(slow.asked.wait, 60)
        assert beside.ok
        assert not any(task.done() for task in (first, second, third))
        slow.go.set()
        result = await second
        await asyncio.gather(first, third)
        await client.drain()
        await client.close()
        pending = [m["frame_id"] async for m in updates if m["status"] == "pending"]
    assert pending == [beside.frame_id, "first", result.frame_id]
    assert slow.thread == "forgesyte-picture"


async def test_a_picture_that_cannot_be_made_or_is_cancelled_holds_nothing_up(server, picture):
    slow, slower = Slow(1), Slow(2)
    async with Client(server.url) as client:
        sent = [
            asyncio.create_task(client.analyze(image, "mean", stream_id="s")) for image in (slow, slower, {}, picture)
        ]
        await asyncio.to_thread(slow.asked.wait, 60)
        sent[1].cancel()
        await asyncio.gather(*sent[1:3], return_exceptions=True)
        assert sent[1].cancelled()
        assert isinstance(sent[2].exception(), fs.SourceError)
        assert not sent[3].done(), "it waits for the first"
        slow.go.set()
        assert (await sent[3]).ok
        assert (await sent[0]).ok
        slower.go.set()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_file_that_never_answers_does_not_keep_the_loop(server, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")

    async def main():
        async with Client(server.url) as client:
            with pytest.raises(fs.ProcessingTimeout):
                await client.analyze(tmp_path / "pipe.png", "mean", timeout_s=0.1)

    asyncio.run(main())  # it waits for executor threads
    with fs.BlockingClient(server) as client, pytest.raises(fs.ProcessingTimeout):
        client.analyze(tmp_path / "pipe.png", "mean", timeout_s=0.1)
    while "forgesyte-picture" in {thread.name for thread in threading.enumerate()}:
        os.close(os.open(tmp_path / "pipe.png", os.O_RDWR))  # which lets those who wait for a writer go


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", float("nan")])
async def test_numbers_that_cannot_be_are_refused_in_words(server, picture, value):
    async with Client(server.url) as client:
        for call in (client.stream, fs.BlockingClient.stream.__get__(_Blocking(client))):
            with pytest.raises(ValueError, match=rf"concurrency={value!r}: give a whole number, 1 or more"):
                call([picture], "mean", concurrency=value)
        with pytest.raises(ValueError, match="concurrency="):
            await client.batch([picture], "mean", concurrency=value)
    with pytest.raises(ValueError, match="concurrency="):
        fs.batch([picture], "mean", url=server, concurrency=value)
    with pytest.raises(ValueError, match="concurrency="):
        fs.stream([picture], "mean", server=server, concurrency=value)
    with pytest.raises(ValueError, match="window="):
        Client(server.url, window=value)


class _Blocking:
    """As much of a `BlockingClient` as its `stream` needs, on the loop of the test."""

    def __init__(self, client: Client) -> None:
        self._client, self._call = client, None


@pytest.mark.parametrize("value", [-1, float("nan"), "1", None])
async def test_times_that_cannot_be_are_refused_in_words(server, picture, value):
    names = ["backoff_s", "max_backoff_s", "ping_interval_s", "ping_timeout_s"]
    for name in [*names, "max_retries"]:
        with pytest.raises(ValueError, match=f"{name}="):
            Client(server.url, **{name: value})
    if value is None:
        return
    async with Client(server.url) as client:
        with pytest.raises(ValueError, match="timeout_s="):
            await client.analyze(picture, "mean", timeout_s=value)
        with pytest.raises(ValueError, match="timeout_s="):
            await client.drain(timeout_s=value)
    with fs.BlockingClient(server) as blocking, pytest.raises(ValueError, match="timeout_s="):
        blocking.messages(timeout_s=value)


async def test_more_than_the_window_is_refused_with_the_remedy(server, picture):
    async with Client(server.url) as client:
        with pytest.raises(ValueError, match=r"concurrency=64: this client has window=16 .*make it with window=64"):
            client.stream([picture], "mean", concurrency=64)
