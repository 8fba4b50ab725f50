"""Many clients, all cut at once amid results, again and again: all come back, and each frame has one answer.

Half of them are `fs.Client`, half know the seed's protocol alone and their `client_id`. They come back with their own
pauses and jitter; what comes twice is for each client itself to recognise.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any

import pytest

import forgesyte_nb as fs
from tests.chaos.conftest import StartApart
from tests.chaos.descriptors import room_for
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.ledger import assert_balanced, counts_of
from tests.chaos.seed_style import SeedStyle
from tests.conftest import PATIENCE_S, wait_for
from tests.figures import Figures

SUITE = "many clients reconnecting again and again"
PLUGINS = """
import forgesyte_nb as fs

@fs.plugin
def small(frame) -> dict:
    return {"gray": float(frame.gray.mean())}
"""
RESUMED_WITHIN_S = 5.0
FRAMES = 4
"""Frames of each client in each round."""


class OurClient:
    """`fs.Client`, and the terminal messages that came through to its user."""

    def __init__(self, client: fs.Client) -> None:
        self._client = client
        self.heard: list[str] = []
        self.sent: list[str] = []
        client.on_frame_result(self._hear)
        client.on_error(self._hear)

    def _hear(self, message: dict[str, Any]) -> None:
        self.heard.append(message["frame_id"])

    async def send(self, image: bytes) -> None:
        self.sent.append(await self._client.send_frame(image, "small"))

    async def settled(self) -> None:
        await self._client.drain(PATIENCE_S)

    @property
    def answered(self) -> int:
        return len(self.heard)

    @property
    def breaks(self) -> int:
        return self._client.reconnects

    def check(self) -> None:
        assert Counter(self.heard) == Counter(self.sent)
        assert set(Counter(self.heard).values()) == {1}


class SeedsClient:
    """The seed's kind."""

    def __init__(self, client: SeedStyle) -> None:
        self._client = client
        self.answered_before = 0

    async def send(self, image: bytes) -> None:
        await self._client.frame(str(len(self._client.ledger.sent)), image, "small")

    async def settled(self) -> None:
        await self._client.settled()

    @property
    def answered(self) -> int:
        return self._client.answered

    @property
    def breaks(self) -> int:
        return len(self._client.back_at)

    def check(self) -> None:
        assert_balanced([self._client.ledger], repeats=True)
        assert not self._client.ledger.errors()


Clients = list[OurClient | SeedsClient]


async def cut_amid_results(clients: Clients, proxy: FaultProxy, image: bytes) -> float:
    """All send, all are cut when the first results are there; how long it takes until all are back, in seconds."""
    before = sum(one.answered for one in clients)
    breaks = {one: one.breaks for one in clients}
    sending = [asyncio.create_task(one.send(image)) for one in clients for _ in range(FRAMES)]
    enough = before + len(sending) // 4
    while sum(one.answered for one in clients) < enough:
        await asyncio.sleep(0.005)
    await asyncio.to_thread(proxy.cut)
    cut_at = time.monotonic()
    while any(one.breaks == breaks[one] for one in clients):
        assert time.monotonic() - cut_at < PATIENCE_S, "not all came back"
        await asyncio.sleep(0.005)
    back_s = time.monotonic() - cut_at
    await asyncio.gather(*sending)
    await asyncio.gather(*(one.settled() for one in clients))
    return back_s


@pytest.mark.timeout(7200)
async def test_all_are_back_in_time_and_nothing_is_lost(apart: StartApart, figures: Figures, tiny: bytes) -> None:
    count, rounds = (500, 10) if figures.soak else (40, 3)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(room_for(3 * count))
        server = apart(PLUGINS)
        proxy = stack.enter_context(FaultProxy(server.port))
        clients: Clients = []
        for number in range(count // 2):
            clients.append(OurClient(await stack.enter_async_context(fs.Client(proxy.url))))
            seeds = SeedStyle(proxy.url, f"seed-{number}", ping_interval=None)
            clients.append(SeedsClient(await stack.enter_async_context(seeds)))
        back_s = [await cut_amid_results(clients, proxy, tiny) for _ in range(rounds)]
        for one in clients:
            one.check()
        counts = await asyncio.to_thread(
            wait_for, lambda: (c := counts_of(server)).active == 0 and c, "the jobs to end"
        )
    assert counts.accepted == counts.results
    figures.add(
        SUITE, f"{count} clients, {rounds} times: all back after, s, at the most", max(back_s), RESUMED_WITHIN_S
    )
    figures.add(SUITE, "frames lost", count * rounds * FRAMES - sum(one.answered for one in clients), 0)
    figures.add(SUITE, "frames done twice", counts.accepted - count * rounds * FRAMES)
