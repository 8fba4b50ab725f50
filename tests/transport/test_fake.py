"""`fs.FakeTransport`: a client is tested without a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.transport.base import OutgoingFrame

PIXELS = np.zeros((4, 6, 3), np.uint8)


async def test_frames_are_answered_by_the_function() -> None:
    fake = fs.FakeTransport(lambda frame: {"plugin": frame.plugin, "options": frame.options.decode()})
    async with fs.Client(transport=fake) as client:
        result = await client.analyze(PIXELS, "faces", {"least": 2})
    assert result.result == {"plugin": "faces", "options": '{"least":2}'}
    assert result.job_id.startswith("job_fake_")
    (sent,) = fake.sent
    assert np.array_equal(sent.picture.rgb, PIXELS)


@pytest.mark.parametrize(
    ("raised", "error", "text"),
    [
        (fs.PluginNotFound("no plugin 'faces'"), fs.PluginNotFound, "no plugin 'faces'"),
        (ValueError("of no use"), fs.PluginError, "ValueError: of no use"),
    ],
)
async def test_what_the_function_raises_is_the_error(raised: Exception, error: type[Exception], text: str) -> None:
    def fail(_frame: OutgoingFrame) -> dict[str, Any]:
        raise raised

    async with fs.Client(transport=fs.FakeTransport(fail)) as client:
        with pytest.raises(error, match=text):
            await client.analyze(PIXELS, "faces")


async def test_streams_topics_and_broadcasts() -> None:
    fake = fs.FakeTransport(lambda frame: {"n": int(frame.picture.rgb[0, 0, 0])})
    async with fs.Client(transport=fake) as client:
        await client.subscribe("all")
        heard = client.messages("broadcast")
        fake.push({"type": "broadcast", "topic": None, "body": {"text": "hello"}})
        assert (await anext(aiter(heard)))["body"] == {"text": "hello"}
        pictures = [PIXELS + number for number in range(5)]
        assert [result["n"] async for result in client.stream(pictures, "n", ordered=True)] == [*range(5)]


async def test_frames_are_sent_again_after_a_broken_connection() -> None:
    broken = []

    def answer(frame: OutgoingFrame) -> dict[str, Any]:
        if not broken:
            broken.append(frame.frame_id)
            fake.disconnect()
        return {}

    fake = fs.FakeTransport(answer)
    async with fs.Client(transport=fake, backoff_s=0) as client:
        results = [result async for result in client.stream([PIXELS] * 20, "any", concurrency=4)]
        assert len(results) == 20
        assert all(result.ok for result in results)
        assert client.reconnects == 1
    assert fake.connections == 2


def test_a_blocking_client() -> None:
    fake = fs.FakeTransport(lambda _frame: {"text": "abc"})
    with fs.BlockingClient(transport=fake) as client:
        assert client.analyze(PIXELS, "ocr")["text"] == "abc"
