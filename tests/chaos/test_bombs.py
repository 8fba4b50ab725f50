"""Files, messages and fragments made to do harm, 50 at a time: each is answered soon, for little memory, and is all.

Beside them a client goes on sending ordinary pictures. What is limited is the CPU time of the server and its workers,
those ordinary pictures included: how long an answer takes also depends on the machine and on this process, which sends
up to 40 MB at once. A picture that is refused at the door is timed from its sending, one that reaches a worker from its
start there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.chaos.apart import Apart, PeakMemory, have_loaded
from tests.chaos.bombs import FRAGMENTS, HARMLESS, LARGE, MESSAGES, REFUSED
from tests.chaos.conftest import BookedClient, OpenBooked, StartApart
from tests.chaos.ledger import assert_balanced
from tests.conftest import PATIENCE_S, Connect, wait_for
from tests.figures import Figures

SUITE = "bombs, 50 at a time"
MANY = 50
LIMIT_MIB, LIMIT_S = 128, 1.0
PLUGINS = """
import forgesyte_nb as fs

@fs.plugin
def looks(frame) -> dict:
    return {"size": list(frame.pil.size)}

@fs.plugin("well", timeout_s=120)
def well(frame) -> dict:
    return {"size": list(frame.size_wh)}
"""


@contextlib.asynccontextmanager
async def ordinary_frames(client: BookedClient, image: bytes) -> AsyncIterator[None]:
    """Within it a client sends ordinary pictures, one after the other; all of them have results at the end."""

    end = asyncio.Event()

    async def send() -> None:
        while not end.is_set():
            await client.frame(image, "well")
            await client.until(lambda: not client.ledger.unanswered, "an ordinary frame", 10 * PATIENCE_S)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        end.set()
        await sending
    await client.answered()
    assert client.ledger.errors() == client.ledger.refusals == {}


def slowest_s(client: BookedClient) -> float:
    """The longest that a frame of a client took."""
    ledger = client.ledger
    return max(ledger.answered_at[frame_id] - sent for frame_id, sent in ledger.sent.items())


async def explode(clients: list[BookedClient], image: bytes, plugin: str = "looks") -> tuple[float, list[Any]]:
    """Send a picture from each client at once: the longest that an answer took, and the answers."""

    async def one(client: BookedClient) -> tuple[float, Any]:
        frame_id = await client.frame(image, plugin)
        await client.until(lambda: frame_id in client.ledger.answered, "an answer", 10 * PATIENCE_S)
        ledger = client.ledger
        began = ledger.started_at.get(frame_id, ledger.sent[frame_id])
        return ledger.answered_at[frame_id] - began, ledger.answered[frame_id]

    answers = await asyncio.gather(*(one(client) for client in clients))
    return max(spent_s for spent_s, _ in answers), [answer for _, answer in answers]


class Cost:
    """What bombs of one kind after the other cost a server and its workers.

    Attributes:
        cpu_s: CPU time for each of the bombs, by name.
    """

    def __init__(self, server: Apart) -> None:
        self._server = server
        self.cpu_s: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, name: str, count: int = MANY) -> Iterator[None]:
        """Within it `count` bombs of one kind explode."""
        before_s = self._server.cpu_s
        yield
        self.cpu_s[name] = (self._server.cpu_s - before_s) / count

    def report(self, figures: Figures, what: str) -> None:
        """Add the figure of the dearest kind."""
        dearest = max(self.cpu_s, key=self.cpu_s.__getitem__)
        figures.add(SUITE, f"s of CPU for {what}, at the most ({dearest})", self.cpu_s[dearest], LIMIT_S)


async def ready(server: Apart, client: BookedClient, image: bytes) -> None:
    """Wait until all workers are there, and have the ordinary client's plugin loaded."""
    await asyncio.to_thread(
        wait_for,
        lambda: len(workers := server.workers) == 3 and have_loaded(workers),
        "two workers and the spare",
    )
    for _ in range(20):
        await client.frame(image, "well")
    await client.answered()


@pytest.mark.timeout(7200)
async def test_pictures(apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures) -> None:
    server = apart(PLUGINS)
    good = await booked(server, "good", ping_interval=None)
    clients = [await booked(server, f"bomber-{number}", ping_interval=None) for number in range(MANY)]
    await ready(server, good, jpeg)
    cost, longest_s = Cost(server), 0.0
    with PeakMemory(lambda: server.processes) as memory:
        async with ordinary_frames(good, jpeg):
            for name, (make, words) in REFUSED.items():
                image = make()
                with cost.of(name):
                    spent_s, answers = await explode(clients, image)
                longest_s = max(longest_s, spent_s)
                for answer in answers:
                    assert (answer["type"], answer.get("error_code")) == ("error", "INVALID_IMAGE"), (name, answer)
                    assert words in answer["message"], name
            for name, make_harmless in HARMLESS.items():
                image = make_harmless()
                with cost.of(name):
                    spent_s, answers = await explode(clients, image)
                longest_s = max(longest_s, spent_s)
                assert [answer["type"] for answer in answers] == ["frame_result"] * MANY, (name, answers[0])
    assert {answer["type"] for answer in (await explode(clients, jpeg))[1]} == {"frame_result"}
    assert_balanced([client.ledger for client in (good, *clients)], server)
    cost.report(figures, "a picture")
    figures.add(SUITE, "s for a picture, at the most", longest_s)
    figures.add(SUITE, "MiB more in server and workers for pictures, at the most", memory.more_mib, LIMIT_MIB)
    figures.add(SUITE, "s for an ordinary frame beside the pictures, at the most", slowest_s(good))


@pytest.mark.timeout(7200)
async def test_pictures_that_keep_to_the_limits(
    apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures
) -> None:
    """No bombs by the limits, which are the user's; they cost what pictures of their size cost."""
    many = MANY if figures.soak else 4
    server = apart(PLUGINS)
    good = await booked(server, "good", ping_interval=None)
    clients = [await booked(server, f"sender-{number}", ping_interval=None) for number in range(many)]
    await ready(server, good, jpeg)
    with PeakMemory(lambda: server.processes) as memory:
        cost, longest_s = Cost(server), 0.0
        for name, (make, kind) in LARGE.items():
            image = make()
            with cost.of(name, many):
                spent_s, answers = await explode(clients, image, "well")
            assert [answer["type"] for answer in answers] == [kind] * many, (name, answers[0])
            longest_s = max(longest_s, spent_s)
    assert_balanced([client.ledger for client in (good, *clients)], server)
    cost.report(figures, "a picture of 49 megapixels")
    figures.add(SUITE, "s for a picture of 49 megapixels, at the most", longest_s)
    figures.add(SUITE, f"MiB more for {many} pictures of 49 megapixels on two workers, at the most", memory.more_mib)


@pytest.mark.timeout(7200)
async def test_messages(apart: StartApart, booked: OpenBooked, client: Connect, jpeg: bytes, figures: Figures) -> None:
    server = apart(PLUGINS)
    good = await booked(server, "good", ping_interval=None)
    bombers = [await client(server, f"bomber-{number}", ping_interval=None) for number in range(MANY)]
    await ready(server, good, jpeg)
    cost, longest_s = Cost(server), 0.0

    async def one(bomber: Any, text: str) -> tuple[float, Any]:
        began = time.monotonic()
        await bomber.send(text)
        answer = await bomber.next()
        return time.monotonic() - began, answer

    with PeakMemory(lambda: server.processes) as memory:
        async with ordinary_frames(good, jpeg):
            for name, make in MESSAGES.items():
                text = make()
                with cost.of(name):
                    answers = await asyncio.gather(*(one(bomber, text) for bomber in bombers))
                longest_s = max(longest_s, *(spent_s for spent_s, _ in answers))
                for _, answer in answers:
                    assert answer["type"] == "error", (name, answer)
                    assert answer["error_code"] in ("INVALID_MESSAGE", "INVALID_OPTIONS", "INVALID_IMAGE"), name
                    assert len(json.dumps(answer)) < 4096, name
    for bomber in bombers:
        assert (await bomber.analyze("after", jpeg, "looks"))["type"] == "frame_result"
        assert [m["frame_id"] for m in bomber.heard].count("after") == 4, "nothing but one answer to each bomb"
    assert_balanced([good.ledger])
    assert memory.more_mib <= LIMIT_MIB
    cost.report(figures, "a message")
    figures.add(SUITE, "s for a message, at the most", longest_s)
    figures.add(SUITE, "MiB more in server and workers for messages, at the most", memory.more_mib, LIMIT_MIB)
    figures.add(SUITE, "s for an ordinary frame beside the messages, at the most", slowest_s(good))


async def throw(server: Apart, frames: bytes, client_id: str) -> tuple[float, int]:
    """Open a connection and send WebSocket frames as they are: seconds until the Close frame, and its code."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = (f"GET /ws/{client_id} HTTP/1.1", f"Host: localhost:{server.port}", "Upgrade: websocket")
    key = ("Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==", "", "")
    writer.write("\r\n".join(head + key).encode())
    await reader.readuntil(b"\r\n\r\n")
    began = time.monotonic()

    async def send() -> None:
        with contextlib.suppress(OSError):  # cut off in the middle of it, as it should be
            writer.write(frames)
            await writer.drain()

    sending = asyncio.create_task(send())
    async with asyncio.timeout(10 * PATIENCE_S):
        opcode, size = await reader.readexactly(2)
        payload = await reader.readexactly(size)
    spent_s = time.monotonic() - began
    assert opcode == 0x88, f"not a Close frame: {opcode:x} {payload!r}"
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    writer.transport.abort()
    return spent_s, int.from_bytes(payload[:2], "big")


@pytest.mark.timeout(7200)
async def test_tiny_fragments(apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures) -> None:
    server = apart(PLUGINS)
    good = await booked(server, "good", ping_interval=None)
    await ready(server, good, jpeg)
    cost, longest_s = Cost(server), 0.0
    with PeakMemory(lambda: server.processes) as memory:
        async with ordinary_frames(good, jpeg):
            for name, make in FRAGMENTS.items():
                frames = make()
                with cost.of(name):
                    ends = await asyncio.gather(*(throw(server, frames, f"thrower-{n}") for n in range(MANY)))
                assert {code for _, code in ends} == {1009}, name
                longest_s = max(longest_s, *(spent_s for spent_s, _ in ends))
    assert_balanced([good.ledger], server)
    assert memory.more_mib <= LIMIT_MIB
    cost.report(figures, "a connection of tiny fragments")
    figures.add(SUITE, "s until a connection of tiny fragments is closed, at the most", longest_s)
    figures.add(SUITE, "MiB more in server and workers for fragments, at the most", memory.more_mib, LIMIT_MIB)
    figures.add(SUITE, "s for an ordinary frame beside the fragments, at the most", slowest_s(good))
