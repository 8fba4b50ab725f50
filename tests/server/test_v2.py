"""The subprotocol `forgesyte.v2`: a greeting, numbers, acknowledgements, pictures as binary messages, cancelling."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import forgesyte_nb as fs
from tests.conftest import Connect, SeedClient
from tests.server.conftest import Start

PLUGINS = """
@fs.plugin
def well(frame):
    return {"frame": frame.frame_id, "size": list(frame.size_wh)}

@fs.plugin(engine="threads")
def waits(frame, *, ctx):
    while not gate.wait(0.01):
        if ctx.cancelled:
            raise fs.PluginError("cancelled while it ran")
    return {}
"""
V2: dict[str, Any] = {"subprotocols": ["forgesyte.v2"]}
gate = threading.Event()


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, {"gate": gate}, engine="inline", workers=1)


@pytest.fixture
def closed_gate() -> Iterator[threading.Event]:
    gate.clear()
    yield gate
    gate.set()


def binary(header: Any, payload: bytes) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(encoded)) + encoded + payload


async def test_the_greeting_comes_first_and_everything_is_numbered(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    one = await client(server, **V2)
    assert one.socket.subprotocol == "forgesyte.v2"
    hello = await one.next()
    assert hello["type"] == "hello"
    assert hello["seq"] == 1
    assert hello["version"] == fs.__version__
    assert hello["max_message_bytes"] == server.settings.max_message_bytes
    assert hello["max_image_pixels"] == server.settings.max_image_pixels
    assert {"well", "waits"} <= set(hello["plugins"])
    await one.analyze("f", tiny, "well")
    await asyncio.to_thread(server.broadcast, "to all")
    said = await one.fence()
    assert [m["seq"] for m in said if m["type"] != "error"] == list(range(1, 7))
    assert [m["type"] for m in said].count("broadcast") == 1
    other = await client(server, "other", **V2)
    second = await other.next()
    assert second["server_id"] == hello["server_id"]
    assert second["session"] != hello["session"]


@pytest.mark.parametrize("offered", [None, ["chat"], ["forgesyte.v3"]])
async def test_without_it_the_seeds_protocol_and_no_number(
    server: fs.Server, client: Connect, tiny: bytes, offered: list[str] | None
) -> None:
    one = await client(server, subprotocols=offered)
    assert one.socket.subprotocol is None
    await one.send({"type": "subscribe", "topic": "all"})
    await one.analyze("f", tiny, "well")
    said = await one.fence()
    assert {m["type"] for m in said} == {"job_update", "frame_result"}
    assert all("seq" not in m for m in said)


async def test_subscribing_is_acknowledged(server: fs.Server, client: Connect) -> None:
    one = await client(server, **V2)
    for kind, topic in (("subscribe", "all"), ("unsubscribe", "all"), ("unsubscribe", "job_x")):
        await one.send({"type": kind, "topic": topic})
    said = await one.fence()
    acknowledged = [("subscribed", "all"), ("unsubscribed", "all"), ("unsubscribed", "job_x")]
    assert [(m["type"], m["topic"]) for m in said[1:]] == acknowledged


async def test_a_picture_as_a_binary_message(server: fs.Server, client: Connect, tiny: bytes) -> None:
    one = await client(server)
    await one.send(binary({"type": "send_frame", "frame_id": "b", "plugin": "well"}, tiny))
    assert (await one.terminal("b"))["result"] == {"frame": "b", "size": [8, 8]}


BAD_BINARY: list[tuple[bytes, str, str | None, str]] = [
    (b"", "INVALID_MESSAGE", None, "binary message shorter than its 4-byte header length"),
    (b"\x01\x00", "INVALID_MESSAGE", None, "shorter than its 4-byte header length"),
    (b"\xff\xff\xff\xff{}", "INVALID_MESSAGE", None, "header length 4294967295 goes past its end (6 bytes)"),
    (binary(b"{", b""), "INVALID_MESSAGE", None, "not JSON ("),
    (binary(b"\xff", b""), "INVALID_MESSAGE", None, "not JSON ("),
    (binary([], b""), "INVALID_MESSAGE", None, "this is an array"),
    (binary({"type": "subscribe", "topic": "all"}, b""), "INVALID_MESSAGE", None, "carry 'send_frame' only"),
    (binary({"type": "send_frame", "frame_id": "b"}, b""), "INVALID_MESSAGE", "b", "missing field 'plugin' (string)"),
    (binary({"type": "send_frame", "frame_id": "b", "plugin": "well"}, b""), "INVALID_IMAGE", "b", "Image is empty"),
    (binary({"type": "send_frame", "frame_id": "b", "plugin": "x"}, b""), "PLUGIN_NOT_FOUND", "b", "No plugin 'x'"),
]


@pytest.mark.parametrize(("data", "code", "frame_id", "reason"), BAD_BINARY, ids=range(len(BAD_BINARY)))
async def test_bad_binary_messages_are_answered_and_the_connection_stays(
    server: fs.Server, client: Connect, tiny: bytes, data: bytes, code: str, frame_id: str | None, reason: str
) -> None:
    one = await client(server)
    await one.send(data)
    said = await one.fence()
    assert [(m["type"], m["error_code"], m["frame_id"]) for m in said] == [("error", code, frame_id)]
    assert reason in said[0]["message"]
    assert (await one.analyze("good", tiny, "well"))["type"] == "frame_result"


async def processing(one: SeedClient, frame_id: str) -> str:
    update = await one.until(lambda m: m.get("status") == "processing" and m["frame_id"] == frame_id)
    return str(update["job_id"])


async def test_cancelling_a_job_that_runs_and_one_that_waits(
    server: fs.Server, client: Connect, tiny: bytes, closed_gate: threading.Event
) -> None:
    one = await client(server, **V2)
    await one.frame("runs", tiny, "waits")
    runs = await processing(one, "runs")
    await one.frame("queued", tiny, "waits")
    queued = (await one.until(lambda m: m["frame_id"] == "queued"))["job_id"]
    for job_id in (queued, runs):
        await one.send({"type": "cancel", "job_id": job_id})
    for frame_id, reason in (("queued", "cancelled before it started"), ("runs", "cancelled while it ran")):
        error = await one.terminal(frame_id)
        assert (error["error_code"], error["message"]) == ("PLUGIN_ERROR", reason)
    await one.until(lambda m: m.get("status") == "failed" and m["job_id"] == runs)
    said = await one.fence()
    for job_id in (queued, runs):
        about = [m for m in said if m.get("job_id") == job_id]
        assert [m["type"] for m in about].count("error") == 1
        assert about[-1]["status"] == "failed"


async def test_only_ones_own_jobs_can_be_cancelled(
    server: fs.Server, client: Connect, tiny: bytes, closed_gate: threading.Event
) -> None:
    one, other = await client(server, "a"), await client(server, "b")
    await one.frame("mine", tiny, "waits")
    job_id = await processing(one, "mine")
    for asked in (job_id, "job_never"):
        await other.send({"type": "cancel", "job_id": asked})
        said = await other.fence()
        assert [m["error_code"] for m in said] == ["INVALID_MESSAGE"]
        assert said[0]["message"] == f"cancel: '{asked}' is no job of yours that is under way"
    closed_gate.set()
    assert (await one.terminal("mine"))["type"] == "frame_result"
    await one.until(lambda m: m.get("status") == "completed")
    await one.fence()
    await one.send({"type": "cancel", "job_id": job_id})
    assert await one.fence() == [], "it ended while the message was on its way: no error"
