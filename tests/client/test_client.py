"""The asynchronous client against a real server over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.pictures import RawImage
from forgesyte_nb.client.results import Result

FAST = {"backoff_s": 0.01, "max_backoff_s": 0.05, "max_retries": 200}


@pytest.fixture(params=[True, False], ids=["v2", "seed"])
def offer_v2(request):
    return request.param


async def test_analyze_answers_one_picture_with_one_result(server, picture, offer_v2):
    async with Client(server.url, offer_v2=offer_v2) as client:
        result = await client.analyze(picture, "mean", {"k": 2})
        assert result.ok
        assert result["k"] == 2
        assert result["mean"] == pytest.approx(100, abs=1)
        assert result.plugin_revision == 1
        assert result.processing_time_ms is not None
        assert result.latency_ms is not None
        assert set(result.timings) == {"queue_ms", "decode_ms", "plugin_ms", "total_ms"}
        assert result.job_id.startswith("job_")
        assert result.frame.bytes == picture
        assert (await client.analyze(picture, "mean", k=np.int64(3)))["k"] == 3


async def test_any_picture_a_user_has_can_be_sent(server, picture, tmp_path):
    from PIL import Image

    path = tmp_path / "gray.jpg"
    path.write_bytes(picture)
    array = np.full((32, 32, 3), 100, np.uint8)
    async with Client(server.url) as client:
        for image in (picture, path, str(path), array, array[:, :, 0], Image.fromarray(array), fs.Frame(picture)):
            assert (await client.analyze(image, "mean"))["mean"] == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("image", "plugin", "options", "error", "text"),
    [
        (b"x" * 50, "mean", {}, fs.InvalidImage, "50 bytes"),
        (None, "meen", {}, fs.PluginNotFound, "did you mean 'mean'"),
        (None, "mean", {"k": "many"}, fs.InvalidOptions, "k"),
        (None, "boom", {}, fs.PluginError, "the plugin fell over"),
    ],
)
async def test_each_wire_error_is_raised_as_its_class(server, picture, image, plugin, options, error, text, offer_v2):
    async with Client(server.url, offer_v2=offer_v2) as client:
        with pytest.raises(error, match=text):
            await client.analyze(image or picture, plugin, options)
        assert (await client.analyze(picture, "mean")).ok


async def test_what_cannot_be_sent_is_refused_here(server, picture, tmp_path):
    async with Client(server.url) as client:
        with pytest.raises(fs.SourceError, match="No such file"):
            await client.analyze(tmp_path / "absent.png", "mean")
        with pytest.raises(fs.SourceError, match="dict is no picture"):
            await client.analyze({}, "mean")
        with pytest.raises(fs.InvalidImage, match="float64"):
            await client.analyze(np.zeros((4, 4)), "mean")
        with pytest.raises(fs.InvalidOptions, match="JSON cannot say"):
            await client.analyze(picture, "mean", {"k": object()})
        with pytest.raises(fs.InvalidMessage, match="topic"):
            await client.subscribe("jobs")
        assert client.unanswered == 0


async def test_analyze_gives_up_after_timeout_s_and_the_late_answer_is_swallowed(server, picture, gate):
    async with Client(server.url) as client:
        results = client.messages("frame_result")
        with pytest.raises(fs.ProcessingTimeout, match=r"timeout_s=0\.05"):
            await client.analyze(picture, "gated", timeout_s=0.05)
        assert client.unanswered == 0
        gate.open()
        assert (await client.analyze(picture, "mean")).ok
        first = await anext(results)
        assert first["plugin"] == "mean"


# Listening


async def test_listeners_get_the_messages_of_the_wire(server, picture, offer_v2):
    heard: list[dict] = []

    async def later(message):
        await asyncio.sleep(0)
        heard.append(message)

    async with Client(server.url, offer_v2=offer_v2) as client:
        client.on_frame_result(later)
        client.on_job_update(heard.append)
        client.on_error(heard.append)
        frame_id = await client.send_frame(picture, "mean", {"k": 5}, frame_id="mine")
        await client.send_frame(b"no picture at all, but long enough", "mean", frame_id="bad")
        await client.drain()
        await client.analyze(picture, "mean")
        await client.drain()
    assert frame_id == "mine"
    mine = [message for message in heard if message["frame_id"] == "mine"]
    assert [(m["type"], m.get("status")) for m in mine][:3] == [
        ("job_update", "pending"),
        ("job_update", "processing"),
        ("frame_result", "success"),
    ]
    assert mine[2]["result"]["k"] == 5
    assert [m["error_code"] for m in heard if m["frame_id"] == "bad"] == ["INVALID_IMAGE"]


async def test_a_listener_that_raises_is_reported_and_kills_nothing(server, picture, caplog):
    heard = []
    async with Client(server.url) as client:

        @client.on_frame_result
        def broken(message):
            raise RuntimeError("listener bug")

        client.on_frame_result(heard.append)
        for _ in range(2):
            await client.send_frame(picture, "mean")
        await client.drain()
        assert (await client.analyze(picture, "mean")).ok
    assert len(heard) == 3
    assert "listener bug" in caplog.text
    assert "broken" in caplog.text


async def test_a_listener_may_use_the_client(server, picture):
    answers = []
    async with Client(server.url, window=1) as client:

        @client.on_frame_result
        async def ask_on(message):
            if message["result"]["k"] < 3:
                answers.append(await client.analyze(picture, "mean", k=message["result"]["k"] + 1))

        await client.send_frame(picture, "mean")
        await client.drain()
    assert [answer["k"] for answer in answers] == [2, 3]


async def test_a_listener_must_be_callable(server):
    with pytest.raises(TypeError, match="cannot be called"):
        Client(server.url).on_error("print")


async def test_subscribers_hear_of_others_frames_and_keep_their_own_apart(server, picture):
    async with Client(server.url) as watcher, Client(server.url) as other:
        heard = watcher.messages("frame_result")
        await watcher.subscribe("plugin_mean")
        await watcher.analyze(picture, "mean", k=1)  # the subscription is in force when this is answered
        await other.analyze(picture, "mean", k=2)
        assert [(await anext(heard))["result"]["k"] for _ in range(2)] == [1, 2]
        await watcher.unsubscribe("plugin_mean")
        await watcher.analyze(picture, "mean", k=3)
        await other.analyze(picture, "mean", k=4)
        await watcher.analyze(picture, "mean", k=5)
        assert [(await anext(heard))["result"]["k"] for _ in range(2)] == [3, 5]
    assert [message async for message in heard] == []


@pytest.mark.parametrize("subscribed", ["before", "after"])
async def test_others_frames_of_the_same_id_are_told_apart(server, picture, gate, offer_v2, subscribed):
    async with Client(server.url, offer_v2=offer_v2) as watcher, Client(server.url, offer_v2=offer_v2) as other:
        own, heard = watcher.messages("job_update"), watcher.messages("frame_result", "error")
        if subscribed == "before":
            await watcher.subscribe("all")
        frame_id = await watcher.send_frame(picture, "gated", frame_id="same")
        await asyncio.to_thread(gate.wait_for, 1)
        if subscribed == "after":
            assert gate.calls == ["same"]  # nobody else is heard, so nothing has to be told apart
            assert (await anext(own))["frame_id"] == "same"
            await watcher.subscribe("all")
        await watcher.analyze(picture, "mean", k=1)  # the subscription is in force when this is answered
        for plugin in ("mean", "boom", "no such plugin"):
            await other.send_frame(picture, plugin, {"k": 2} if plugin == "mean" else None, frame_id="same")
            await other.drain()
        said = [await anext(heard) for _ in range(3)]
        assert [(m["plugin"], m["type"]) for m in said[1:]] == [("mean", "frame_result"), ("boom", "error")]
        assert watcher.unanswered == 1
        gate.open()
        await watcher.drain()
        answer = await anext(heard)
        assert (answer["plugin"], answer["frame_id"], frame_id) == ("gated", "same", "same")
        await other.send_frame(picture, "mean", frame_id="same")  # the watcher's is answered: no repeat of that
        assert (await anext(heard))["plugin"] == "mean"
    assert {m["frame_id"] for m in [m async for m in own] if m["plugin"] == "gated"} == {"same"}


async def test_others_frames_of_the_same_id_are_told_apart_over_reconnections(cable, server, picture, gate, offer_v2):
    async with Client(cable.url, offer_v2=offer_v2, **FAST) as watcher, Client(server.url) as other:
        heard, accepted = watcher.messages("frame_result"), watcher.messages("job_update")
        ids = [await watcher.send_frame(picture, "gated", frame_id="early")]
        await anext(accepted)
        await watcher.subscribe("all")
        ids.append(await watcher.send_frame(picture, "gated", frame_id="late"))
        await asyncio.to_thread(gate.wait_for, 2)
        for _ in range(2):
            cable.cut()
            cable.mend()
            while not watcher.connected:
                await asyncio.sleep(0)
        gate.open()
        await watcher.drain()
        await watcher.analyze(picture, "mean")
        own = [(await anext(heard))["frame_id"] for _ in range(3)]
        for frame_id in ids:
            await other.send_frame(picture, "counter", frame_id=frame_id)
            await other.drain()
        assert sorted(own[:2]) == ["early", "late"]
        assert [(await anext(heard))["plugin"] for _ in ids] == ["counter", "counter"]


async def test_broadcasts_reach_their_listeners(server):
    heard = asyncio.Queue()
    async with Client(server.url, client_id="the_one") as client:
        client.on_broadcast(heard.put)
        while not await asyncio.to_thread(server.broadcast, {"hello": 1}, client_id="the_one"):
            pass
        assert (await heard.get())["body"] == {"hello": 1}


async def test_a_slow_listener_slows_the_sender_and_misses_nothing(server, picture):
    hold, heard = asyncio.Event(), []

    async def slow(message):
        await hold.wait()
        heard.append(message["frame_id"])

    async def send():
        return [await client.send_frame(picture, "mean") for _ in range(1200)]

    async with Client(server.url) as client:
        answers = client.messages("frame_result")
        client.on_frame_result(slow)
        sending = asyncio.create_task(send())
        for _ in range(1001):
            await anext(answers)
        assert not sending.done()
        hold.set()
        ids = await sending
        await client.drain()
    assert sorted(heard) == sorted(ids)


# Flow control


async def test_no_more_than_the_window_is_unanswered(server, pictures, gate):
    async with Client(server.url, window=3) as client:
        sending = asyncio.gather(*(client.send_frame(image, "gated") for image in pictures(10)))
        await asyncio.to_thread(gate.wait_for, 2)
        assert client.unanswered == 3
        assert not sending.done()
        gate.open()
        ids = await sending
        await client.drain()
    assert sorted(gate.calls) == sorted(ids)


async def test_a_frame_id_under_way_cannot_be_used_again_but_later_it_can(server, picture, gate):
    async with Client(server.url) as client:
        await client.send_frame(picture, "gated", frame_id="same")
        with pytest.raises(ValueError, match="'same' is on its way already"):
            await client.send_frame(picture, "gated", frame_id="same")
        gate.open()
        await client.drain()
        heard = client.messages("frame_result")
        await client.send_frame(picture, "mean", frame_id="same")
        assert (await anext(heard))["frame_id"] == "same"


async def test_a_full_queue_delays_and_loses_nothing(start_server, pictures):
    server = start_server(queue_frames=2)
    async with Client(server.url, window=12, **FAST) as client:
        results = [result async for result in client.stream(pictures(40), "mean")]
    assert sorted(result.seq for result in results) == list(range(40))
    assert all(result.ok for result in results)
    assert server.stats()["refused"] > 0


async def test_a_message_over_the_servers_limit_fails_alone(start_server, pictures, offer_v2):
    server = start_server(max_message_bytes=20_000)
    images = pictures(5)
    images.insert(2, np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    async with Client(server.url, offer_v2=offer_v2, **FAST) as client:
        results = [result async for result in client.stream(images, "mean", ordered=True)]
    assert [result.ok for result in results] == [True, True, False, True, True, True]
    assert isinstance(results[2].error, fs.InvalidMessage)
    assert "max_message_bytes" in str(results[2].error)


# Connections that are not there, or break


async def test_nobody_there_says_what_to_do():
    with pytest.raises(fs.ConnectionLost, match=r"No server at ws://localhost:1 .*fs\.serve\(\)"):
        await Client("ws://localhost:1").connect()


async def test_not_connected_says_what_to_do(server, picture):
    client = Client(server.url)
    for call in (client.analyze(picture, "mean"), client.subscribe("all"), client.send_frame(picture, "mean")):
        with pytest.raises(fs.ConnectionLost, match="not connected: use"):
            await call


async def test_a_refusal_shows_the_status_and_the_reason(start_server, server):
    guarded = start_server(token="secret")  # noqa: S106
    with pytest.raises(fs.ConnectionLost, match=r"HTTP 403 .*token="):
        await Client(guarded.url).connect()
    with pytest.raises(fs.ConnectionLost, match="HTTP 404"):
        await Client(f"{server.url}/elsewhere").connect()
    async with Client(guarded.url, token="secret") as client:  # noqa: S106
        assert "secret" not in repr(client)


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
    async with Client(outside.url, **FAST) as client:
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


# Streams


async def test_a_stream_yields_one_result_for_each_picture_failed_ones_too(server, picture, tmp_path):
    things = [picture, b"garbage that is no picture", tmp_path / "absent.png", np.zeros((4, 4)), picture]
    async with Client(server.url) as client:
        stream = client.stream(things, "mean", ordered=True)
        results = [result async for result in stream]
    assert [result.error_code for result in results] == [None] + ["INVALID_IMAGE"] * 3 + [None]
    assert [result.seq for result in results] == [0, 1, 2, 3, 4]
    assert stream.failed == 3
    assert isinstance(results[1].frame, RawImage)
    with pytest.raises(fs.InvalidImage):
        results[1]["mean"]
    with pytest.raises(KeyError, match="it returned mean, k, size"):
        results[0]["median"]


async def test_ordered_results_keep_the_sources_order(server, pictures):
    async with Client(server.url) as client:
        async for result in client.stream(pictures(60), "mean", ordered=True, every=3):
            assert result["mean"] == pytest.approx(result.seq, abs=2)
        assert client.unanswered == 0


async def test_each_stream_has_a_state_of_its_own(server, pictures):
    async with Client(server.url) as client:
        for _ in range(2):
            counts = [result["n"] async for result in client.stream(pictures(10), "counter", ordered=True)]
            assert counts == list(range(1, 11))


async def test_freshest_skips_and_counts(server, pictures, gate):
    def camera():
        images = pictures(50)
        yield images[0]
        gate.wait_for(1)
        yield images[1]
        gate.wait_for(2)  # both places are taken from here on
        yield from images[2:]

    async with Client(server.url) as client:
        stream = client.stream(camera(), "gated", intent="freshest")
        results = aiter(stream)
        first = asyncio.ensure_future(anext(results))
        while stream.skipped < 47:
            await asyncio.sleep(0)
        gate.open()
        seen = [await first] + [result async for result in results]
    assert sorted(result.seq for result in seen) == [0, 1, 49]
    assert (stream.sent, stream.answered, stream.skipped) == (3, 3, 47)


async def test_leaving_a_stream_early_stops_its_source(server, pictures):
    async with Client(server.url) as client:
        stream = client.stream("synthetic", "mean", loop=True)
        results = aiter(stream)
        await anext(results)
        await results.aclose()
        assert not stream._feeder._thread.is_alive()
        assert client.unanswered == 0
        with pytest.raises(RuntimeError, match="iterated once"):
            await anext(aiter(stream))
        assert (await client.analyze(pictures(1)[0], "mean")).ok


async def test_what_a_users_generator_raises_comes_after_the_results(server, pictures):
    def faulty():
        yield from pictures(5)
        raise ZeroDivisionError("in the generator")

    seen = []
    async with Client(server.url) as client:
        with pytest.raises(ZeroDivisionError, match="in the generator"):
            async for result in client.stream(faulty(), "mean"):
                seen.append(result.seq)
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_a_table_of_a_stream(server, pictures):
    async with Client(server.url) as client:
        table = await client.batch(pictures(4), "mean", {"k": 2})
    assert list(table["result.k"]) == [2, 2, 2, 2]
    assert list(table["seq"]) == [0, 1, 2, 3]


# Servers that know the seed alone, and odd ones


@pytest.fixture
async def odd_server():
    """Answers each send_frame with whatever messages the test chose for its plugin."""
    import websockets

    script = {}

    async def talk(socket):
        async for data in socket:
            message = json.loads(data)
            if message["type"] == "send_frame":
                for answer in script[message["plugin"]]:
                    answer = answer if isinstance(answer, str) else json.dumps(
                        {"frame_id": message["frame_id"], "plugin": message["plugin"], **answer})  # fmt: skip
                    await socket.send(answer)

    async with websockets.serve(talk, "127.0.0.1", 0) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}", script


RESULT = {
    "type": "frame_result",
    "job_id": "job_123",
    "status": "success",
    "result": {"text": "a"},
    "processing_time_ms": 245,
    "timestamp": "2026-01-11T17:30:45.123456Z",
}


async def test_a_server_that_knows_the_seed_alone_is_enough(odd_server, picture):
    url, script = odd_server
    script["ocr"] = [RESULT]
    async with Client(url) as client:
        result = await client.analyze(picture, "ocr", threshold=0.8)
    assert (result["text"], result.processing_time_ms, result.timings, result.plugin_revision) == ("a", 245, {}, None)


async def test_a_second_answer_is_ignored(odd_server, picture):
    url, script = odd_server
    script["twice"] = [RESULT, RESULT, {**RESULT, "job_id": "job_124"}, {"type": "error", "error_code": "PLUGIN_ERROR"}]
    script["once"] = [{**RESULT, "job_id": "job_125"}]
    async with Client(url) as client:
        heard = client.messages("frame_result", "error")
        await client.analyze(picture, "twice")
        await client.analyze(picture, "once")
    assert [message["job_id"] async for message in heard] == ["job_123", "job_125"]


async def test_unknown_messages_codes_and_garbage_are_survived(odd_server, picture):
    url, script = odd_server
    noise = [
        "no json",
        "[]",
        '{"type": 3}',
        '{"type": "news", "seq": 9}',
        '{"type": "error", "message": "of no frame"}',
    ]
    script["odd"] = [*noise, {"type": "error", "error_code": "OUT_OF_PAPER", "message": "refill"}]
    script["failed"] = [{**RESULT, "status": "error", "result": {"why": "x"}}]
    async with Client(url) as client:
        heard = client.messages()
        with pytest.raises(fs.WireError, match="OUT_OF_PAPER: refill"):
            await client.analyze(picture, "odd")
        with pytest.raises(fs.PluginError, match="status 'error'"):
            await client.analyze(picture, "failed")
    assert [message["type"] async for message in heard][:3] == ["news", "error", "error"]


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
        async with Client(url, **FAST) as client, asyncio.timeout(20):
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
