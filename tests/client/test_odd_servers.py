"""Servers that know the seed alone, and odd ones."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from tests.client.conftest import RESULT
from tests.conftest import encoded


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


async def test_on_a_new_connection_a_server_that_is_full_is_given_time():
    """Frames that it refuses while others are still being sent again wait like all that are refused for the moment."""
    import websockets

    connections, lost, is_full = 0, set(), asyncio.Event()
    is_full.set()

    async def talk(socket):
        nonlocal connections
        connections += 1
        if connections == 2:
            asyncio.get_running_loop().call_later(0.5, is_full.clear)
        async for data in socket:
            frame_id = json.loads(data)["frame_id"]
            if connections == 1:
                lost.add(frame_id)
                if len(lost) == 16:
                    socket.transport.abort()
            else:
                full = {"type": "error", "error_code": "QUEUE_FULL", "message": "full"}
                answer = full if is_full.is_set() else RESULT
                await socket.send(json.dumps({**answer, "frame_id": frame_id, "job_id": f"job_{frame_id}"}))

    large = encoded(np.random.default_rng(1).integers(0, 256, (600, 800, 3), np.uint8), "BMP")
    async with websockets.serve(talk, "127.0.0.1", 0, max_size=None) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url, max_retries=3, backoff_s=0.4) as client:
            results = await asyncio.gather(*(client.analyze(large, "ocr") for _ in range(16)))
    assert [result["text"] for result in results] == ["a"] * 16


async def test_options_over_a_limit_that_is_not_known_yet_are_an_error_in_words(picture):
    import websockets

    greet, received = asyncio.Event(), []

    async def talk(socket):
        await greet.wait()
        hello = {
            "type": "hello",
            "server_id": "s",
            "session": "1",
            "epoch": "e",
            "secret": "x",
            "max_options_bytes": 99,
        }
        await socket.send(json.dumps(hello))
        async for data in socket:
            received.append(data)

    async with websockets.serve(talk, "127.0.0.1", 0, subprotocols=["forgesyte.v2"]) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url) as client:
            one = asyncio.create_task(client.analyze(picture, "ocr", names=["x" * 100]))
            greet.set()
            with pytest.raises(fs.InvalidOptions, match=r"options are 1\d\d bytes, the limit is 99: give the path"):
                await one
            with pytest.raises(fs.InvalidOptions, match="the limit is 99"):
                client.stream([picture], "ocr", {"names": ["x" * 100]})
    assert not any(b'"send_frame"' in bytes(data if isinstance(data, bytes) else data.encode()) for data in received)
