"""The asynchronous client against a real server over real sockets."""

from __future__ import annotations

import asyncio
import io
import re

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from tests.client.conftest import FAST


async def test_a_subscription_holds_when_subscribe_returns(server):
    async with Client(server.url) as client:
        for number in range(50):
            topic = f"plugin_p{number}"
            await client.subscribe(topic)
            assert await asyncio.to_thread(server.broadcast, number, topic=topic) == 1


async def test_a_function_is_no_name_of_a_plugin_and_that_is_said(server, picture):
    def mean(frame): ...

    async with Client(server.url) as client:
        for call in (client.analyze(picture, mean), client.send_frame(picture, mean)):
            with pytest.raises(TypeError, match=r"plugin of type function: give .* such as 'mean'"):
                await call
        with pytest.raises(TypeError, match="plugin of type function"):
            client.stream([picture], mean)


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


async def test_what_holds_many_pictures_is_referred_to_stream_and_batch(server, picture, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    many = {
        "a folder": tmp_path,
        "a video": tmp_path / "clip.mp4",
        "a glob": str(tmp_path / "*.png"),
        "a list": [picture],
        "a generator": (one for one in [picture]),
        "a source": fs.open_source([picture]),
        "a stack": np.zeros((2, 8, 8, 3), np.uint8),
    }
    async with Client(server.url) as client:
        for kind, image in many.items():
            said = rf"is {kind}; analyze and send_frame take one image: stream\(…\).*, batch\(…\)"
            with pytest.raises(fs.SourceError, match=said):
                await client.analyze(image, "mean")
            with pytest.raises(fs.SourceError, match=said):
                await client.send_frame(image, "mean")


async def test_a_misspelt_keyword_taken_for_an_option_is_told_with_both(server, picture):
    said = r"^timeout: no such option \(known: k\); did you mean timeout_s=, which analyze\(\) takes\?$"
    async with Client(server.url) as client:
        with pytest.raises(fs.InvalidOptions, match=said):
            await client.analyze(picture, "mean", timeout=5)
        with pytest.raises(fs.InvalidOptions, match=r"^colour: no such option \(known: k\)$"):
            await client.analyze(picture, "mean", colour=5)
    with fs.BlockingClient(server) as client, pytest.raises(fs.InvalidOptions, match=said):
        client.analyze(picture, "mean", timeout=5)
    said = r"evry: no such option \(known: k\); did you mean every=, which {door}\(\) takes\?$"
    async with Client(server.url) as client:
        (result,) = [result async for result in client.stream([picture], "mean", evry=2)]
        assert re.search(said.format(door="stream"), str(result.error))
        with pytest.raises(fs.InvalidOptions, match=said.format(door="batch")):
            await client.batch([picture], "mean", evry=2)
    with fs.BlockingClient(server) as client:
        (result,) = client.stream([picture], "mean", evry=2)
        assert re.search(said.format(door="stream"), str(result.error))
        with pytest.raises(fs.InvalidOptions, match=r"progess: .*; did you mean progress=, which batch\(\) takes\?$"):
            await asyncio.to_thread(client.batch, [picture], "mean", progress=False, progess=True)
    for more in ({}, {"url": server}):  # without one, too, and none is started for it
        with pytest.raises(fs.InvalidOptions, match=r"JSON cannot say.*; did you mean url=, which batch\(\) takes\?$"):
            await asyncio.to_thread(fs.batch, [picture], "mean", server=server, progress=False, **more)
    with pytest.raises(fs.InvalidOptions, match=r"concurency: .* concurrency=, which batch\(\) takes\?$"):
        await asyncio.to_thread(fs.batch, [picture], "mean", url=server, progress=False, concurency=5)


async def test_what_cannot_be_sent_is_refused_here(server, picture, tmp_path):
    async with Client(server.url) as client:
        with pytest.raises(fs.SourceError, match="No such file"):
            await client.analyze(tmp_path / "absent.png", "mean")
        with pytest.raises(fs.SourceError, match=r"~nosuchuser/x\.png: No such file"):
            await client.analyze("~nosuchuser/x.png", "mean")
        with pytest.raises(fs.SourceError, match=r"'a\\x00b\.png' is no path"):
            await client.analyze("a\0b.png", "mean")
        with pytest.raises(fs.SourceError, match="dict is no picture"):
            await client.analyze({}, "mean")
        with pytest.raises(fs.SourceError, match="is base64 text"):
            await client.analyze("A" * 5000, "mean")
        with pytest.raises(fs.SourceError, match="BytesIO is no picture: give bytes"):
            await client.analyze(io.BytesIO(picture), "mean")
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
