"""Streams of the asynchronous client: a source in, results out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import numpy as np
import pytest
import websockets

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.sources import Source
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import RawImage
from tests.client.conftest import RESULT
from tests.conftest import PATIENCE_S


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


class Listed(Source):
    """A source as users write one: `frames()` is no generator."""

    name = "listed"

    def __init__(self, *, raises: bool = False) -> None:
        super().__init__()
        self._raises = raises

    def frames(self):
        if self._raises:
            raise OSError("the shelf is empty")
        return iter([Frame.from_array(np.zeros((8, 8, 3), np.uint8), seq=seq) for seq in range(3)])


class Stuck(Listed):
    """A source that cannot be closed."""

    def close(self):
        raise OSError("it cannot be closed")


async def test_a_source_whose_frames_are_no_generator_is_read_to_its_end(server):
    async with asyncio.timeout(PATIENCE_S), Client(server.url) as client:
        assert [result.seq async for result in client.stream(Listed(), "mean", ordered=True)] == [0, 1, 2]
        with pytest.raises(OSError, match="the shelf is empty"):
            [result async for result in client.stream(Listed(raises=True), "mean")]


async def test_a_source_that_cannot_be_closed_raises_that_and_hangs_nobody(server):
    async with asyncio.timeout(PATIENCE_S), Client(server.url) as client:
        seen = []
        with pytest.raises(OSError, match="it cannot be closed"):
            async for result in client.stream(Stuck(), "mean", ordered=True):
                seen.append(result.seq)
        assert seen == [0, 1, 2]


async def test_a_generator_that_raises_when_it_is_closed_hangs_nobody(server):
    class Rude(Listed):
        def frames(self):
            try:
                yield from super().frames()
                yield from super().frames()
            finally:
                raise OSError("rude")

    async with asyncio.timeout(PATIENCE_S), Client(server.url) as client:
        with pytest.raises(OSError, match="rude"):
            [result async for result in client.stream(Rude(), "mean")]


async def test_a_table_of_a_stream(server, pictures):
    async with Client(server.url) as client:
        table = await client.batch(pictures(4), "mean", {"k": 2})
    assert list(table["result.k"]) == [2, 2, 2, 2]
    assert list(table["seq"]) == [0, 1, 2, 3]


async def test_what_is_refused_for_options_is_sent_again_in_front_of_what_waits(picture):
    """As at a hot swap: four pictures are under way, a fifth is read after the options have changed."""
    changed = threading.Event()

    def source():
        yield from [picture] * 4
        assert changed.wait(PATIENCE_S)
        yield picture

    heard = []

    async def refuse_the_old(socket):
        waiting = [json.loads(await socket.recv()) for _ in range(4)]
        results.retune(b'{"k":2}', after_answers=True)
        changed.set()
        while results.read < 5:
            await asyncio.sleep(0.001)
        with contextlib.suppress(TimeoutError):
            waiting.append(json.loads(await asyncio.wait_for(socket.recv(), 0.1)))  # the fifth, were it not to wait
        for frame in waiting:
            await answer(socket, frame)
        async for message in socket:
            await answer(socket, json.loads(message))

    async def answer(socket, frame):
        names = {"frame_id": frame["frame_id"], "plugin": "ocr"}
        if frame["options"] != {"k": 2}:
            refused = {"type": "error", "error_code": "INVALID_OPTIONS", "message": "k: no", "timestamp": "", **names}
            await socket.send(json.dumps(refused))
        else:
            heard.append(frame["frame_id"])
            await socket.send(json.dumps({**RESULT, **names, "job_id": f"job_{len(heard)}"}))

    async with websockets.serve(refuse_the_old, "127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url, offer_v2=False) as client, asyncio.timeout(PATIENCE_S):
            results = client.stream(source(), "ocr", k=1, concurrency=8)
            found = [result async for result in results]
    assert [result.error_code for result in found] == [None] * 5
    assert [result.seq for result in found] == list(range(5))
    assert [wire_id.partition("~")[0] for wire_id in heard] == [result.frame_id for result in found]
    assert (results.sent, results.answered, results.failed) == (5, 5, 0)


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_refusal_that_comes_again_is_swallowed(picture, breaks):
    """A server that knows the seed alone repeats what may not have arrived; the picture has other options by then."""
    heard = []

    async def refuse(socket):
        heard.append(json.loads(await socket.recv()))
        if len(heard) == 1:
            results.retune(b'{"k":2}')
            refused["frame_id"] = heard[0]["frame_id"]
            await socket.send(json.dumps(refused))
            heard.append(json.loads(await socket.recv()))
            if breaks:
                return  # without an answer to the second
        await socket.send(json.dumps(refused))
        await socket.send(json.dumps({**RESULT, "frame_id": heard[-1]["frame_id"], "plugin": "ocr"}))
        await socket.wait_closed()

    refused = {"type": "error", "error_code": "INVALID_OPTIONS", "message": "k: no", "timestamp": "", "plugin": "ocr"}
    async with websockets.serve(refuse, "127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with (
            Client(url, offer_v2=False, max_retries=int(breaks), backoff_s=0.01) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            results = client.stream([picture], "ocr", k=1)
            found = [result async for result in results]
    assert [(result.error, result["text"]) for result in found] == [(None, "a")]
    assert [frame["options"] for frame in heard] == [{"k": 1}, *[{"k": 2}] * (1 + breaks)]
    assert len({frame["frame_id"] for frame in heard}) == 2


async def test_a_pause_before_other_options_does_not_send_them_twice(picture, monkeypatch):
    """The queue is full, and before that pause is over the connection breaks, and the picture gets other options."""
    pauses = iter([1.0, 0.5])  # of the queue, then of the connection, which is back first
    monkeypatch.setattr("random.uniform", lambda least, most: next(pauses, most))
    heard = []

    async def refuse(socket):
        async def take(answer):
            frame = json.loads(await socket.recv())
            heard.append(frame)
            await socket.send(json.dumps({**answer, "frame_id": frame["frame_id"], "plugin": "ocr", "timestamp": ""}))

        if not heard:
            await take({"type": "error", "error_code": "QUEUE_FULL", "message": "full"})
            return
        results.retune(b'{"k":2}')
        await take({"type": "error", "error_code": "INVALID_OPTIONS", "message": "k: no"})
        heard.append(json.loads(await socket.recv()))
        with contextlib.suppress(TimeoutError):
            heard.append(json.loads(await asyncio.wait_for(socket.recv(), 0.4)))  # were it to be sent again
        await socket.send(json.dumps({**RESULT, "frame_id": heard[-1]["frame_id"], "plugin": "ocr"}))
        await socket.wait_closed()

    async with websockets.serve(refuse, "127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Client(url, offer_v2=False, backoff_s=0.2) as client, asyncio.timeout(PATIENCE_S):
            results = client.stream([picture], "ocr", k=1)
            assert [result.error async for result in results] == [None]
    assert [frame["options"] for frame in heard] == [{"k": 1}, {"k": 1}, {"k": 2}]


async def test_options_that_stay_refused_are_an_error_once(server, picture):
    async with Client(server.url) as client:
        results = client.stream([picture] * 3, "mean", k="none")
        assert [result.error_code async for result in results] == ["INVALID_OPTIONS"] * 3
