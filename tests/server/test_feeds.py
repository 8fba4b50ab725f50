"""Feeds: pictures and states of the kernel for viewers, newest wins, and controls that steer what is behind them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.feeds import Feed, feed_book
from tests.conftest import Connect, SeedClient, wait_for
from tests.server.conftest import Start

V2: dict[str, Any] = {"subprotocols": ["forgesyte.v2"]}


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module("", engine="inline", workers=1)


@pytest.fixture
def feed() -> Iterator[Feed]:
    def control(action: str, value: Any) -> Any:
        if action == "later":
            future: concurrent.futures.Future[str] = concurrent.futures.Future()
            threading.Thread(target=future.set_result, args=("done",)).start()
            return future
        if action == "strange":
            return object()
        if action == "broken":
            raise RuntimeError("a fault")
        if action != "play":
            raise ValueError(f"no action {action!r}; there is 'play'")
        return {"playing": value}

    feed = feed_book().open("stream", "a street", control)
    yield feed
    feed.close()


class Viewer:
    """A v2 client that keeps binary messages and text messages apart."""

    def __init__(self, client: SeedClient) -> None:
        self.client = client

    async def say(self, kind: str, **fields: Any) -> None:
        await self.client.send({"type": kind, **fields})

    async def next(self, kind: str) -> tuple[dict[str, Any], bytes]:
        """The next message of this type, header and payload."""
        while True:
            header, payload = parsed(await asyncio.wait_for(self.client.socket.recv(), 20))
            if header["type"] == kind:
                return header, payload

    async def all_until_fence(self) -> list[dict[str, Any]]:
        """Everything that came before an answer to a message sent now."""
        await self.say("nonsense")
        headers = []
        while True:
            header, _ = parsed(await asyncio.wait_for(self.client.socket.recv(), 20))
            if header["type"] == "error":
                return headers
            headers.append(header)


def parsed(message: str | bytes) -> tuple[dict[str, Any], bytes]:
    if isinstance(message, str):
        return json.loads(message), b""
    end = 4 + int.from_bytes(message[:4], "little")
    return json.loads(message[4:end]), message[end:]


@pytest.fixture
async def viewer(server: fs.Server, client: Connect, feed: Feed) -> Viewer:
    return Viewer(await client(server, **V2))


async def watch(viewer: Viewer, feed: Feed, **wishes: Any) -> None:
    before = feed.watchers
    await viewer.say("watch", feed=feed.feed_id, **wishes)
    await asyncio.to_thread(wait_for, lambda: feed.watchers > before, "the viewer")


def jpeg(width: int, height: int) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


async def test_hello_lists_the_feeds_and_whose_they_are(viewer: Viewer, feed: Feed) -> None:
    hello, _ = await viewer.next("hello")
    assert hello["feeds_id"] == feed_book().book_id
    assert {"feed": feed.feed_id, "kind": "stream", "title": "a street"} in hello["feeds"]


async def test_a_viewer_gets_the_latest_at_once_and_then_what_is_new(viewer: Viewer, feed: Feed) -> None:
    feed.tell({"playing": True})
    feed.show(b"picture one", frame_id="f1")
    await watch(viewer, feed)
    state, _ = await viewer.next("feed_state")
    assert state["feed"] == feed.feed_id
    assert state["state"] == {"playing": True}
    header, payload = await viewer.next("frame")
    assert payload == b"picture one"
    assert (header["feed"], header["seq"], header["content_type"]) == (feed.feed_id, 1, "image/jpeg")
    assert header["frame_id"] == "f1"
    assert header["published_at"] > 1.7e9
    feed.show(b"picture two", "image/png")
    header, payload = await viewer.next("frame")
    assert (header["seq"], header["content_type"], payload) == (2, "image/png", b"picture two")


async def test_two_pictures_are_under_way_and_the_newest_wins(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed)
    seen = []
    for number in range(1, 3):
        feed.show(b"%d" % number)
        seen.append((await viewer.next("frame"))[0]["seq"])
    for number in range(3, 10):
        feed.show(b"%d" % number)
    assert [h for h in await viewer.all_until_fence() if h["type"] == "frame"] == []
    await viewer.say("ack", feed=feed.feed_id, seq=seen[0])
    header, payload = await viewer.next("frame")
    assert (header["seq"], payload) == (9, b"9")


async def test_without_acknowledgements_a_timer_paces(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed, pace_ms=5)
    for number in range(1, 6):
        feed.show(b"%d" % number)
        assert (await viewer.next("frame"))[0]["seq"] == number
    await viewer.say("watch", feed=feed.feed_id, pace_ms=10_000)
    feed.show(b"6")
    feed.show(b"7")
    shown = [h["seq"] for h in await viewer.all_until_fence() if h["type"] == "frame"]
    assert len(shown) <= 1


async def test_wide_pictures_are_made_narrower_on_demand(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed, max_width=100, quality=50)
    feed.show(jpeg(640, 480), width=640, height=480)
    header, payload = await viewer.next("frame")
    decoded = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (75, 100, 3)
    assert (header["width"], header["height"]) == (640, 480)
    original = jpeg(64, 48)
    feed.show(original, width=64, height=48)
    assert (await viewer.next("frame"))[1] == original


async def test_unwatching_ends_it(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed)
    await viewer.say("unwatch", feed=feed.feed_id)
    await asyncio.to_thread(wait_for, lambda: feed.watchers == 0, "the viewer to go")
    feed.show(b"unseen")
    assert [h for h in await viewer.all_until_fence() if h["type"] == "frame"] == []


async def test_a_viewer_that_is_cut_off_watches_no_longer(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed)
    viewer.client.socket.transport.abort()
    await asyncio.to_thread(wait_for, lambda: feed.watchers == 0, "the viewer to go")


async def test_the_end_of_a_feed_is_told(viewer: Viewer, feed: Feed) -> None:
    await watch(viewer, feed)
    feed.close("the clip is over")
    assert (await viewer.next("feed_ended"))[0]["reason"] == "the clip is over"
    assert feed.watchers == 0
    await viewer.say("watch", feed=feed.feed_id)
    assert "no such feed" in (await viewer.next("feed_ended"))[0]["reason"]


@pytest.mark.parametrize(
    ("action", "value", "ok", "answer"),
    [
        ("play", True, True, {"playing": True}),
        ("later", None, True, "done"),
        ("fly", None, False, "no action 'fly'; there is 'play'"),
        ("broken", None, False, "a fault"),
        ("strange", None, False, "the answer cannot be said in JSON"),
    ],
)
async def test_controls_are_answered(
    viewer: Viewer, feed: Feed, action: str, value: Any, ok: bool, answer: Any
) -> None:
    await viewer.say("control", feed=feed.feed_id, action=action, value=value, request_id="r1")
    controlled, _ = await viewer.next("controlled")
    assert (controlled["request_id"], controlled["ok"]) == ("r1", ok)
    assert controlled["value"] == answer if ok else controlled["message"].startswith(answer)


async def test_a_feed_that_is_not_there_cannot_be_controlled(viewer: Viewer) -> None:
    await viewer.say("control", feed="stream-0", action="play", request_id="r")
    assert "no such feed" in (await viewer.next("controlled"))[0]["message"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"feed": "x", "max_width": 1}, "'max_width' is 1; it must be 16 to 16384"),
        ({"feed": "x", "quality": 100}, "'quality' is 100"),
        ({"feed": "x", "pace_ms": 0}, "'pace_ms' is 0"),
        ({}, "missing field 'feed'"),
        ({"feed": "x", "quality": "high"}, "quality"),
    ],
)
async def test_impossible_wishes_are_refused(viewer: Viewer, fields: dict[str, Any], reason: str) -> None:
    await viewer.say("watch", **fields)
    assert reason in (await viewer.next("error"))[0]["message"]


async def test_a_client_of_the_seed_cannot_watch(server: fs.Server, client: Connect, feed: Feed) -> None:
    one = Viewer(await client(server))
    await one.say("watch", feed=feed.feed_id)
    assert "forgesyte.v2" in (await one.next("error"))[0]["message"]


async def test_within_the_process_no_socket_is_needed(server: fs.Server, feed: Feed) -> None:
    texts: list[dict[str, Any]] = []
    pictures: list[bytes] = []

    def send(text: list[bytes], binary: list[bytes]) -> None:
        texts.extend(json.loads(message) for message in text)
        pictures.extend(parsed(message)[1] for message in binary)

    take = await asyncio.to_thread(server.connect_local, "widget", send)
    take(json.dumps({"type": "watch", "feed": feed.feed_id}).encode())
    await asyncio.to_thread(wait_for, lambda: feed.watchers == 1, "the viewer")
    feed.show(b"picture")
    await asyncio.to_thread(wait_for, lambda: pictures == [b"picture"], "the picture")
    assert texts[0]["type"] == "hello"
    take(b"")
    await asyncio.to_thread(wait_for, lambda: feed.watchers == 0, "the viewer to go")
