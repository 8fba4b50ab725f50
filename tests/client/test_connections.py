"""Connections of the asynchronous client that are not there, or break."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.results import Result
from tests.client.conftest import FAST, RESULT, Cable
from tests.conftest import PATIENCE_S


async def test_nobody_there_says_what_to_do():
    with pytest.raises(fs.ConnectionLost, match=r"No server at ws://localhost:1 .*fs\.serve\(\)"):
        await Client("ws://localhost:1").connect()


@pytest.mark.parametrize(
    ("said", "shown"), [(b"", "closed the connection before"), (b"220 mail\r\n", "answers, but not")]
)
async def test_something_else_at_that_port_says_so(said, shown):
    async def answer(_, writer):
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(fs.ConnectionLost, match=shown):
            await Client(f"ws://127.0.0.1:{port}").connect()


async def test_not_connected_says_what_to_do(server, picture):
    client = Client(server.url)
    for call in (client.analyze(picture, "mean"), client.subscribe("all"), client.send_frame(picture, "mean")):
        with pytest.raises(fs.ConnectionLost, match="not connected: use"):
            await call


async def test_a_refusal_shows_the_status_and_the_reason(start_server, server):
    guarded = start_server(token="secret")  # noqa: S106
    with pytest.raises(fs.ConnectionLost, match=r"HTTP 403 .*token="):
        await Client(guarded.url).connect()
    with pytest.raises(fs.ConnectionLost, match=r"HTTP 404 Not Found; .*give the url without a path\. It says: "):
        await Client(f"{server.url}/elsewhere").connect()
    async with Client(guarded.url, token="secret") as client:  # noqa: S106
        assert "secret" not in repr(client)


async def test_who_has_the_port_after_a_server_is_not_sent_its_secret(start_server, picture):
    first = start_server(token="one")  # noqa: S106
    heard = []

    async def stranger(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with Client(first, **FAST) as client:
        assert (await client.analyze(picture, "mean")).ok
        await asyncio.to_thread(first.close)
        async with await asyncio.start_server(stranger, "localhost", first.port):
            asking = asyncio.create_task(client.analyze(picture, "mean"))
            while len(heard) < 3:
                await asyncio.sleep(0.001)
        start_server(port=first.port, token="two")  # noqa: S106
        assert (await asking).ok
    assert not [said for said in heard if b"authorization" in said.lower()]


async def test_a_file_with_the_secret_is_read_again_for_each_connection(start_server, picture, tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    path.chmod(0o600)
    first = start_server(token="one")  # noqa: S106
    relay = Cable(first.port)  # at its URL there is no server of this process, whose secret would be known
    await relay.start()
    async with Client(relay.url, token=path, **FAST) as client:
        assert (await client.analyze(picture, "mean")).ok
        first.close()
        path.unlink()
        asking = asyncio.create_task(client.analyze(picture, "mean"))
        while "cannot be read" not in client.trouble:
            await asyncio.sleep(0.001)
        path.touch(0o600)
        path.write_text("two")
        start_server(port=first.port, token="two")  # noqa: S106
        assert (await asking).ok
    await relay.stop()


@pytest.mark.parametrize(("url", "becomes"), [
    ("http://localhost:8000/", "ws://localhost:8000"),
    ("localhost:8000", "ws://localhost:8000"),
    ("https://lab.example.org/user/x", "wss://lab.example.org/user/x"),
])  # fmt: skip
def test_urls_people_write(url, becomes):
    assert Client(url).url == becomes


def test_arguments_that_cannot_be(monkeypatch):
    for wrong in ({"url": "ftp://x"}, {"client_id": "a b"}, {"window": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Client(**wrong)
    monkeypatch.setenv("FORGESYTE_NB_URL", "ws://127.0.0.1:9999")
    assert Client().url == "ws://127.0.0.1:9999"


async def test_a_cut_connection_loses_nothing_and_answers_once(cable, server, pictures, offer_v2):
    async with Client(cable.url, offer_v2=offer_v2, **FAST) as client:
        terminal = []
        client.on_frame_result(lambda message: terminal.append(message["frame_id"]))
        results = []
        async for result in client.stream(pictures(200), "mean"):
            results.append(result)
            if len(results) % 40 == 20:
                cable.cut()
                cable.mend()
        await client.drain()
        assert client.reconnects == 5
    assert sorted(result.seq for result in results) == list(range(200))
    assert all(result.ok for result in results)
    assert sorted(terminal) == sorted(result.frame_id for result in results)


async def test_a_server_that_still_has_the_frames_does_not_get_them_twice(cable, server, pictures, gate):
    async with Client(cable.url, **FAST) as client:
        accepted = client.messages("job_update")
        ids = [await client.send_frame(image, "gated") for image in pictures(5)]
        pending = set()
        while len(pending) < 5:
            message = await anext(accepted)
            pending.add(message["frame_id"])
        await asyncio.to_thread(gate.wait_for, 2)
        cable.cut()
        while (await asyncio.to_thread(server.stats))["connections"]:
            pass  # until the server has noticed
        gate.open()
        cable.mend()
        await client.drain()
        assert client.reconnects == 1
    assert sorted(gate.calls) == sorted(ids)


async def test_a_lost_connection_that_is_tried_again_is_soon_told_unless_quiet(cable, server, picture, caplog):
    patience = {"backoff_s": 0.05, "max_backoff_s": 0.05, "max_retries": 10_000}
    async with Client(cable.url, quiet=True, **patience) as quiet, Client(cable.url, **patience) as client:
        cable.cut()
        waiting = [asyncio.create_task(one.analyze(picture, "mean")) for one in (quiet, client)]
        async with asyncio.timeout(PATIENCE_S):
            while not (quiet.trouble and client.trouble and caplog.records):
                await asyncio.sleep(0.01)
            assert not client.connected
            cable.mend()
            assert all(result.ok for result in await asyncio.gather(*waiting))
        assert (quiet.trouble, client.trouble) == ("", "")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "127.0.0.1" in said
    assert "Trying again, for some" in said


async def test_subscriptions_are_restored(cable, server, picture):
    async with Client(cable.url, **FAST) as client, Client(server.url) as other:
        heard = client.messages("frame_result")
        await client.subscribe("plugin_counter")
        await client.analyze(picture, "mean")
        cable.cut()
        cable.mend()
        await client.analyze(picture, "mean")
        await other.analyze(picture, "counter")
        assert [(await anext(heard))["plugin"] for _ in range(3)] == ["mean", "mean", "counter"]


async def test_a_killed_server_that_comes_back_loses_nothing(outside, pictures):
    async with Client(outside.url, **FAST | {"max_retries": 10_000}) as client:  # for as long as its process starts
        results: list[Result] = []
        stream = client.stream(pictures(150), "mean")
        async for result in stream:
            results.append(result)
            if len(results) in (30, 90):
                await outside.kill()
                await outside.start()
    assert sorted(result.seq for result in results) == list(range(150))
    assert len({result.frame_id for result in results}) == 150
    assert all(result.ok for result in results)
    assert stream.sent == stream.answered == 150


async def test_a_server_that_is_replaced_loses_nothing(start_server, pictures):
    """As `fs.serve()` with other arguments does it: close, then open on the same port."""
    first = start_server(drain_timeout_s=5.0)
    results = []
    async with Client(first.url, **FAST) as client:
        async for result in client.stream(pictures(100), "mean"):
            results.append(result)
            if len(results) == 30:
                await asyncio.to_thread(first.close)
                start_server(port=first.port)
    assert sorted(result.seq for result in results) == list(range(100))
    assert all(result.ok for result in results)


async def test_a_server_lost_for_good_ends_everything_that_waits(outside, picture):
    async with Client(outside.url, backoff_s=0.001, max_retries=3) as client:
        assert (await client.analyze(picture, "mean")).ok
        stream = aiter(client.stream("synthetic", "mean", loop=True))
        await anext(stream)
        await outside.kill()
        with pytest.raises(fs.ConnectionLost, match="Tried 3 times"):
            while True:
                result = await anext(stream)
                assert result.ok or isinstance(result.error, fs.ConnectionLost)
        with pytest.raises(fs.ConnectionLost):
            await client.analyze(picture, "mean")
        await outside.start()
        await client.connect()
        assert (await client.analyze(picture, "mean")).ok


async def test_without_reconnect_the_first_break_is_the_end(cable, picture, gate):
    async with Client(cable.url, reconnect=False) as client:
        waiting = asyncio.create_task(client.analyze(picture, "gated"))
        await asyncio.to_thread(gate.wait_for, 1)
        cable.cut()
        with pytest.raises(fs.ConnectionLost, match="no close frame"):
            await waiting


async def test_closing_ends_what_waits(server, picture, gate):
    client = Client(server.url)
    await client.connect()
    waiting = asyncio.create_task(client.analyze(picture, "gated"))
    await asyncio.to_thread(gate.wait_for, 1)
    await client.close()
    with pytest.raises(fs.ConnectionLost, match="closed"):
        await waiting
    await client.close()
    assert "not connected" in repr(client)


async def test_closing_a_clogged_connection_ends(cable, picture, gate):
    client = Client(cable.url, ping_interval_s=600)
    await client.connect()
    calls = [asyncio.create_task(client.analyze(picture, "gated", timeout_s=None))]
    await asyncio.to_thread(gate.wait_for, 1)
    cable.clog()
    too_much = b"\xff\xd8\xff" + bytes(10 << 20)
    calls += [asyncio.create_task(client.analyze(too_much, "mean", timeout_s=None)) for _ in range(3)]
    while client.unanswered < len(calls):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await client.close()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in ended} == {fs.ConnectionLost}


async def test_a_silent_connection_is_noticed(picture):
    """The peer's kernel is there, the peer is not: it never answers a ping."""
    accepted = asyncio.Event()

    async def deaf(reader, writer):
        from websockets.server import ServerProtocol

        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = protocol.events_received()[0]
        protocol.send_response(protocol.accept(request))
        writer.write(b"".join(protocol.data_to_send()))
        accepted.set()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        client = Client(f"ws://127.0.0.1:{port}", ping_interval_s=0.02, ping_timeout_s=0.02, reconnect=False)
        await client.connect()
        with pytest.raises(fs.ConnectionLost, match="keepalive ping timeout"):
            await client.analyze(picture, "mean")
        await client.close()
    assert accepted.is_set()


async def test_a_frame_that_a_second_session_never_got_is_sent_to_it_again(picture):
    """The first server has made it a job and is gone; the connection to the next breaks before it has the frame."""
    import websockets

    heard = []

    async def talk(socket):
        heard.append(number := len(heard) + 1)
        hello = {"type": "hello", "seq": max(1, number - 1), "session": "first" if number == 1 else "second"}
        await socket.send(json.dumps(hello))
        header = await socket.recv()
        message = json.loads(header[4 : 4 + int.from_bytes(header[:4], "little")])
        names = {"frame_id": message["frame_id"], "plugin": "ocr", "seq": 2}
        if number == 1:
            await socket.send(json.dumps({**names, "type": "job_update", "status": "pending", "job_id": "job_1"}))
            await socket.send(json.dumps({"type": "news", "seq": 3}))
            await said.wait()
        if number < 3:
            socket.transport.abort()
        else:
            await socket.send(json.dumps({**RESULT, **names}))
            await socket.wait_closed()

    said = asyncio.Event()
    async with websockets.serve(talk, "127.0.0.1", 0, subprotocols=["forgesyte.v2"]) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url, **FAST) as client, asyncio.timeout(PATIENCE_S):
            news = client.messages("news")
            answer = asyncio.create_task(client.analyze(picture, "ocr"))
            await anext(news)
            said.set()
            assert (await answer)["text"] == "a"
    assert heard == [1, 2, 3]


async def test_a_frame_that_is_never_answered_is_not_sent_for_ever(picture, caplog):
    """A server that breaks down on every frame."""
    import websockets

    caplog.set_level(logging.INFO, "forgesyte_nb.client")

    async def fragile(socket):
        await socket.recv()
        socket.transport.abort()

    async with websockets.serve(fragile, "127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url, backoff_s=0.001, max_retries=4) as client:
            with pytest.raises(fs.ConnectionLost, match="times"):
                await client.analyze(picture, "mean")
    assert "trying to come back" in caplog.text
