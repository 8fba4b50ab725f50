"""What must not grow with the number of clients, or with the square of a message: counted, not timed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forgesyte_nb.engines.contract import Listener
from forgesyte_nb.engines.lanes import LaneEngine
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.placement import Placement
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings
from tests.engines.conftest import Bench


class BusyLane:
    def hand_over(self, job: Job) -> None: ...
    def kill(self, reason: str) -> None: ...
    def recall(self, job: Job) -> bool:
        return False

    def tell_cancelled(self, job: Job) -> None: ...
    def forget_streams(self, prefix: str) -> None: ...
    def load(self, entry: Entry) -> asyncio.Future[Any]:
        raise NotImplementedError

    def unload(self, name: str, kept: list[int]) -> asyncio.Future[Any]:
        raise NotImplementedError


class CountingPlacement(Placement):
    asked = 0

    def room_for(self, job: Job) -> Slot | None:
        self.asked += 1
        return super().room_for(job)


class BusyLanes(LaneEngine):
    def __init__(self, settings: Settings, listener: Listener) -> None:
        super().__init__(settings, listener)
        self._placement = self.placement = CountingPlacement(self._slots, self._waiting, {}, self.lane_jobs)

    def _fill(self, slot: Slot) -> None:
        slot.lane = BusyLane()


async def test_with_all_lanes_busy_a_frame_does_not_ask_on_behalf_of_every_client(tiny: bytes) -> None:
    bench: Any = Bench(tiny)
    bench.cell("@fs.plugin\ndef p(frame): return {}")
    bench.engine = engine = BusyLanes(Settings(workers=2), bench)
    engine.start()
    jobs = [bench.submit("p", owner=owner) for owner in range(200)]
    assert 0 < engine.placement.asked < 20
    engine._answer_all()
    assert all(job.ended for job in jobs)


@pytest.mark.parametrize("piece", [1, 7, 9, 10, 1000, 65536])
def test_messages_in_pieces_of_any_size_come_out_whole(piece: int) -> None:
    sent = [(Kind.RESULT, [1, 2], bytes(range(256)) * 40), (Kind.READY, 7, b""), (Kind.LOG, ["p", "x" * 3000], b"tail")]
    data = b"".join(message(*one) for one in sent)
    inbox, came = Inbox(), []
    for start in range(0, len(data), piece):
        came += inbox.feed(memoryview(data)[start : start + piece])
    assert came == sent


def test_pieces_of_a_large_message_are_kept_as_they_came_and_joined_once() -> None:
    """A piece that is bytes is not copied while the message is incomplete."""
    data = message(Kind.RESULT, None, bytes(100_000))
    inbox, pieces = Inbox(), [data[start : start + 1000] for start in range(0, len(data), 1000)]
    for piece in pieces[:-1]:
        assert inbox.feed(piece) == []
    assert all(kept is piece for kept, piece in zip(inbox._parts[1:], pieces[1:-1], strict=True))
    assert inbox.feed(pieces[-1]) == [(Kind.RESULT, None, bytes(100_000))]
