"""Clients that share a `client_id`, as the seed's do when they start within a second, over lines that fail.

Two that live have a session each, whatever one of them does: it may read nothing for a while, or break and come back.
One whose machine fell silent is taken over by its own return, long before a ping would have told.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path

import pytest

import forgesyte_nb as fs
from tests.chaos.apart import Apart
from tests.chaos.fault_line import BOTH, CAN_VANISH, Weather
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.ledger import assert_balanced, counts_of
from tests.chaos.seed_style import SeedStyle
from tests.conftest import PATIENCE_S
from tests.figures import Figures
from tests.server.conftest import RawSocket

SUITE = "clients that share a client_id"
PLUGINS = """
import os, time
import forgesyte_nb as fs

@fs.plugin(timeout_s=60.0)
def held(frame, *, until: str) -> dict:
    while not os.path.exists(until):
        time.sleep(0.01)
    return {"gray": float(frame.gray.mean())}

@fs.plugin
def short(frame) -> dict:
    time.sleep(0.01)
    return {"gray": float(frame.gray.mean())}

@fs.plugin
def large(frame) -> dict:
    return {"text": "x" * 400_000}
"""
TAKEN_OVER_WITHIN_S = 2.0
FRAMES = 20
"""With large results, of a client that reads nothing: more than the buffers of its connection hold."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with Apart(PLUGINS, tmp_path_factory.mktemp("apart")) as running:
        yield running


async def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S:g} s in vain for {what}"
        await asyncio.sleep(0.005)


async def send_many(client: SeedStyle, name: str, image: bytes, count: int) -> None:
    for number in range(count):
        await client.frame(f"{name} {number}", image, "short")


@pytest.mark.skipif(not CAN_VANISH, reason="only Linux lets a connection vanish, and tells the server of it")
async def test_one_whose_machine_fell_silent_is_taken_over_while_its_twin_goes_on(
    server: Apart, figures: Figures, tiny: bytes, tmp_path: Path
) -> None:
    vanished = tmp_path / "vanished"
    async with contextlib.AsyncExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(server.port)) for _ in range(2)]
        phone, twin = [
            await stack.enter_async_context(SeedStyle(proxy.url, "client_1736612345", ping_interval=None))
            for proxy in proxies
        ]
        await send_many(phone, "of the phone", tiny, 99)
        await phone.frame("the phone's last", tiny, "held", {"until": str(vanished)})
        await send_many(twin, "of the twin", tiny, 100)
        await until(lambda: len(phone.ledger.accepted) == 100 and twin.answered >= 5, "frames under way")
        assert phone.answered < 100
        await asyncio.to_thread(proxies[0].vanish)
        vanished.touch()
        began = time.monotonic()
        phone.break_off()
        await until(lambda: "is back already" in server.log.read_text(), "the phone's session to be taken over")
        figures.add(SUITE, "taken over after, s", time.monotonic() - began, TAKEN_OVER_WITHIN_S)
        await phone.settled()
        await twin.settled()
        assert (len(phone.lost_at), len(twin.lost_at)) == (1, 0)
        assert phone.more_heard == twin.more_heard == []
        assert_balanced([phone.ledger, twin.ledger], repeats=True)


async def test_those_that_read_nothing_for_a_while_are_not_taken_for_dead(server: Apart, tiny: bytes) -> None:
    before = counts_of(server).results
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(RawSocket(server.port, receive_buffer=size).open("busy")) for size in (4096, 0)]
        for one, number in itertools.product(busy, range(FRAMES)):
            one.send_frame(1, large_frame(f"{busy.index(one)} {number}", tiny))
        sent = len(busy) * FRAMES
        await until(lambda: counts_of(server).results == before + sent, "more results than their buffers take")
        async with SeedStyle(f"ws://127.0.0.1:{server.port}", "busy") as other:
            end = time.monotonic() + 1.5 * TAKEN_OVER_WITHIN_S
            while time.monotonic() < end:
                await other.frame(f"other {len(other.ledger.sent)}", tiny, "short")
                await other.settled()
            assert other.more_heard == []
            assert_balanced([other.ledger])
        for number, one in enumerate(busy):
            assert sorted(await asyncio.to_thread(results_of, one)) == sorted(f"{number} {n}" for n in range(FRAMES))


def large_frame(frame_id: str, image: bytes) -> bytes:
    frame = {"type": "send_frame", "frame_id": frame_id, "plugin": "large"}
    return json.dumps({**frame, "image_data": base64.b64encode(image).decode()}).encode()


def results_of(one: RawSocket) -> list[str]:
    """The frames that it has results of, as soon as there are enough."""
    heard: list[str] = []
    while len(heard) < FRAMES:
        message = json.loads(one.next_frame()[1])
        if message["type"] == "frame_result":
            heard.append(message["frame_id"])
    return heard


async def test_ours_go_on_where_each_was_though_both_were_cut(server: Apart, tiny: bytes) -> None:
    before = counts_of(server).accepted
    with FaultProxy(server.port) as proxy:
        async with fs.Client(proxy.url, client_id="twin") as one, fs.Client(proxy.url, client_id="twin") as other:
            streams = [client.stream([tiny] * 150, "short") for client in (one, other)]
            collecting = [asyncio.create_task(collect(stream)) for stream in streams]
            for cuts in range(1, 6):
                await until(lambda: all(stream.answered >= 20 * cuts for stream in streams), "frames under way")  # noqa: B023
                await asyncio.to_thread(proxy.cut)
                await until(lambda: one.reconnects == other.reconnects == cuts, "both to come back")  # noqa: B023
            for results in await asyncio.gather(*collecting):
                assert sorted(result.seq for result in results) == list(range(150))
                assert all(result.ok for result in results)
    assert counts_of(server).accepted == before + 2 * 150, "none was done twice"


async def test_ours_need_not_wait_until_the_old_connection_is_known_to_be_dead(
    server: Apart, figures: Figures, tiny: bytes
) -> None:
    """The server has no reason to doubt it: somebody on the way acknowledges all it sends."""
    before = counts_of(server).accepted
    with FaultProxy(server.port) as proxy:
        async with fs.Client(proxy.url, ping_interval_s=0.2, ping_timeout_s=0.3) as client:
            stream = client.stream([tiny] * 100, "short")
            collecting = asyncio.create_task(collect(stream))
            await until(lambda: stream.answered >= 20, "frames under way")
            await asyncio.to_thread(proxy.impose, Weather(swallows=BOTH))
            await until(lambda: not client.connected, "the client to notice")
            began = time.monotonic()
            await until(lambda: client.reconnects == 1 and stream.answered > 40, "the client to go on")
            figures.add(SUITE, "by its secret a client goes on after, s", time.monotonic() - began, TAKEN_OVER_WITHIN_S)
            results = await collecting
            assert sorted(result.seq for result in results) == list(range(100))
    assert f"cut off client={client.client_id} " in server.log.read_text()
    assert counts_of(server).accepted == before + 100, "none was done twice"


async def collect(stream: AsyncIterable[fs.Result]) -> list[fs.Result]:
    return [result async for result in stream]
