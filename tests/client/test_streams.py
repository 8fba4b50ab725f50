"""Streams of the asynchronous client: a source in, results out."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.pictures import RawImage


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
