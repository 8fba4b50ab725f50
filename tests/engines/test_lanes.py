"""The engine with lanes over lanes that do what a test says: who gets which job, and who pays for a death."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.lanes import LaneEngine
from forgesyte_nb.engines.slot import Slot
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Entry
from forgesyte_nb.settings import Settings
from tests.engines.conftest import Bench

QUICK = Outcome(result=b"{}", plugin_ms=1.0)


class Lane:
    """Takes jobs, and is told by the test when they start and end."""

    def __init__(self, engine: LaneEngine, slot: Slot) -> None:
        self.engine, self.slot = engine, slot
        self.told: list[Any] = []

    @property
    def names(self) -> list[str]:
        return [job.frame_id for job in self.slot.jobs]

    def hand_over(self, job: Job) -> None:
        self.told.append(job.frame_id)

    def kill(self, reason: str) -> None:
        self.die(reason)

    def recall(self, job: Job) -> bool:
        self.told.append(("recalled", job.frame_id))
        return job is not self.slot.running

    def tell_cancelled(self, job: Job) -> None:
        self.told.append(("cancelled", job.frame_id))

    def forget_streams(self, prefix: str) -> None:
        self.told.append(("forget", prefix))

    def load(self, entry: Entry) -> asyncio.Future[Any]:
        self.told.append(("load", entry.plugin.revision))
        self.loaded: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return self.loaded

    def unload(self, name: str, kept: list[int]) -> asyncio.Future[Any]:
        self.told.append(("unload", name, kept))
        return asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self.engine.lane_started(self.slot)

    def end(self) -> None:
        self.engine.lane_ended(self.slot, QUICK)

    def run(self) -> None:
        self.start()
        self.end()

    def die(self, reason: str = "it died") -> None:
        if self.slot.lane is self:
            self.engine.lane_died(self.slot, reason)


class FakeLanes(LaneEngine):
    ready = True

    def _fill(self, slot: Slot) -> None:
        slot.lane = Lane(self, slot)
        slot.ready = self.ready

    def lane(self, number: int) -> Lane:
        lane = self._slots[number].lane
        assert isinstance(lane, Lane)
        return lane


class LaneBench(Bench):
    engine: FakeLanes

    def send(self, *names: str, plugin: str = "p", **more: Any) -> list[Job]:
        return [self.submit(plugin, frame_id=name, **more) for name in names]

    def news(self) -> list[tuple[Any, ...]]:
        said, self.heard = self.heard, []
        return said


@pytest.fixture
async def lanes(tiny: bytes) -> Any:
    opened: list[FakeLanes] = []

    def start(workers: int = 1, *, ready: bool = True, known: bool = True) -> LaneBench:
        bench = LaneBench(tiny)
        bench.cell("@fs.plugin\ndef p(frame): return {}\n@fs.plugin\ndef s(frame, *, state): return {}")
        bench.engine = FakeLanes(Settings(workers=workers), bench)
        bench.engine.ready = ready
        bench.engine.start()
        opened.append(bench.engine)
        if known:  # to be short, so that jobs are handed over one ahead
            bench.send("first")
            bench.engine.lane(0).run()
            bench.news()
        return bench

    yield start
    for engine in opened:
        engine._answer_all()


async def test_of_an_unknown_plugin_one_job_at_a_time_is_handed_over(lanes: Any) -> None:
    bench = lanes(known=False)
    bench.send("a", "b", "c")
    lane = bench.engine.lane(0)
    assert lane.names == ["a"]
    lane.run()
    assert lane.names == ["b", "c"], "it was short: from now on one waits in the lane"


async def test_of_a_slow_plugin_nothing_is_handed_over_ahead(lanes: Any) -> None:
    bench = lanes(known=False)
    bench.send("a", "b", "c")
    lane = bench.engine.lane(0)
    lane.start()
    bench.engine.lane_ended(lane.slot, Outcome(result=b"{}", plugin_ms=500.0))
    assert lane.names == ["b"]


LONGER = Outcome(result=b"{}", plugin_ms=100.0)


async def test_of_a_longer_plugin_one_is_handed_over_ahead_if_all_lanes_will_have_work(lanes: Any) -> None:
    bench = lanes(2, known=False)
    bench.send("x")
    first, second = bench.engine.lane(0), bench.engine.lane(1)
    first.start()
    bench.engine.lane_ended(first.slot, LONGER)
    bench.send(*"abc")
    assert (first.names, second.names) == (["a"], ["b"]), "for the second lane there may be only one more"
    bench.send("d")
    assert (first.names, second.names) == (["a", "c"], ["b"])
    bench.send("e")
    assert second.names == ["b", "d"]


async def test_an_idle_lane_gets_what_waits_behind_a_longer_job(lanes: Any) -> None:
    bench = lanes(2, known=False)
    bench.send("x")
    first, second = bench.engine.lane(0), bench.engine.lane(1)
    first.start()
    bench.engine.lane_ended(first.slot, LONGER)
    bench.send(*"abcd")
    first.start()
    second.start()
    assert (first.names, second.names) == (["a", "c"], ["b"])
    for _ in range(2):
        bench.engine.lane_ended(second.slot, LONGER)
        if second.names:
            second.start()
    assert (first.names, second.names) == (["a"], ["c"])
    assert ("recalled", "c") in first.told


async def test_a_job_of_another_stream_does_not_wait_for_what_was_handed_over_ahead(lanes: Any) -> None:
    bench = lanes(1)  # the plugin "p" is known to be short
    bench.cell("@fs.plugin\ndef long(frame): return {}")
    lane = bench.engine.lane(0)
    bench.send("x", plugin="long", owner="a")
    lane.start()
    bench.engine.lane_ended(lane.slot, LONGER)
    bench.send("1", "2", "3", plugin="long", owner="a")
    lane.start()
    assert lane.names == ["1", "2"]
    bench.send("short", owner="b")
    assert lane.names == ["1", "short"]
    assert ("recalled", "2") in lane.told


async def test_lanes_are_shared_between_streams(lanes: Any) -> None:
    """A stream of a slow plugin has both lanes: what another sends gets the first that is free, all of it."""
    bench = lanes(2)
    bench.cell("@fs.plugin\ndef slow(frame): return {}")
    long = Outcome(result=b"{}", plugin_ms=1000.0)
    first, second = bench.engine.lane(0), bench.engine.lane(1)
    bench.send(*(f"slow{number}" for number in range(20)), plugin="slow", owner="a")
    first.start()
    second.start()
    for round_ in range(5):
        names = [f"{round_}.{number}" for number in range(10)]
        bench.send(*names, owner="b")
        bench.engine.lane_ended(first.slot, long)
        for name in names:
            assert first.names[0] == name
            first.run()
        first.start()
        assert first.names[0].startswith("slow")


async def test_idle_lanes_come_first(lanes: Any) -> None:
    bench = lanes(3)
    bench.send(*"abcde")
    assert [bench.engine.lane(number).names for number in range(3)] == [["a", "d"], ["b", "e"], ["c"]]


async def test_a_death_costs_the_job_that_had_started_and_the_other_goes_first_elsewhere(lanes: Any) -> None:
    bench = lanes()
    bench.send(*"abc")
    old = bench.engine.lane(0)
    old.start()
    assert old.names == ["a", "b"]
    old.die("it burnt down")
    new = bench.engine.lane(0)
    assert new is not old
    assert new.names == ["b", "c"]
    assert bench.news() == [("started", "a"), ("ended", "a")]
    new.run()
    new.run()
    assert bench.news() == [("started", "b"), ("ended", "b"), ("started", "c"), ("ended", "c")]
    assert bench.engine.stats()["replaced"] == 1


async def test_a_job_that_no_lane_can_start_is_given_up_after_three(lanes: Any) -> None:
    bench = lanes()
    (job,) = bench.send("deadly")
    for _ in range(3):
        assert not job.ended
        bench.engine.lane(0).die("its plugin ended it")
    assert "its plugin ended it" in str(await bench.error(job))
    assert bench.engine.lane(0).names == []


async def test_an_innocent_with_many_attempts_is_put_back_all_the_same(lanes: Any) -> None:
    bench = lanes()
    (innocent,) = bench.send("x", "innocent")[1:]
    innocent.deaths = 7
    bench.engine.lane(0).start()
    bench.engine.lane(0).die()
    assert not innocent.ended
    bench.engine.lane(0).run()
    assert await bench.result(innocent) == {}


async def test_cancelling_one_that_was_put_back_holds_nobody_up(lanes: Any) -> None:
    bench = lanes(2)
    bench.send(*"ab", owner="other")
    jobs = bench.send("1", "2", "3")
    assert [bench.engine.lane(number).names for number in range(2)] == [["a", "1"], ["b", "2"]]
    bench.engine.lane(1).start()
    bench.engine._slots[0].ready = False  # its successor is still starting when "1" is taken back
    bench.engine.ready = False
    bench.engine.lane(0).start()
    bench.engine.lane(0).die()
    assert bench.engine.cancel(jobs[0]) is True
    bench.news()
    bench.engine.lane(1).end()
    bench.engine.lane(1).run()
    assert bench.news()[1:] == [("started", "2"), ("ended", "2")], "at once, not when patience has ended"
    bench.ended(jobs[0], QUICK)


async def test_lanes_that_are_still_starting_do_not_get_what_ready_ones_would_overtake(lanes: Any) -> None:
    bench = lanes(2, ready=False, known=False)
    bench.send(*"abcd")
    first, second = bench.engine.lane(0), bench.engine.lane(1)
    assert (first.names, second.names) == (["a"], [])
    first.engine.lane_ready(first.slot)
    first.run()
    assert (first.names, second.names) == (["b", "c"], [])
    second.engine.lane_ready(second.slot)
    assert second.names == ["d"]


async def test_a_stream_stays_with_its_lane_until_that_dies(lanes: Any) -> None:
    bench = lanes(2)
    bench.send("s1", plugin="s", stream="x")
    home = next(bench.engine.lane(n) for n in (0, 1) if bench.engine.lane(n).names)
    home.run()
    for number in range(2, 9):
        bench.send(f"s{number}", plugin="s", stream="x")
    assert home.names == ["s2", "s3"]
    home.die()
    places = [bench.engine.lane(n).names for n in (0, 1)]
    assert sorted(places) == [[], ["s2", "s3"]]


async def test_new_streams_go_to_the_lane_with_the_fewest(lanes: Any) -> None:
    bench = lanes(3)
    for number in range(9):
        bench.send(f"s{number}", plugin="s", stream=str(number), owner=str(number))
        for n in range(3):
            if bench.engine.lane(n).names:
                bench.engine.lane(n).run()
    assert bench.engine.stats()["streams"] == 9
    taken = [sum(str(name).startswith("s") for name in bench.engine.lane(n).told) for n in range(3)]
    assert taken == [3, 3, 3]
    bench.engine.forget_streams("4/")
    assert bench.engine.stats()["streams"] == 8
    assert all(("forget", "4/") in bench.engine.lane(n).told for n in range(3))


async def test_of_too_many_streams_the_one_without_frames_longest_loses_its_place(
    lanes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forgesyte_nb.engines.placement._MAX_PINNED", 2)
    bench = lanes(2)
    for stream in ("old", "used", "old", "new"):
        bench.send("s", plugin="s", stream=stream)
        next(bench.engine.lane(n) for n in (0, 1) if bench.engine.lane(n).names).run()
    assert [key.split("/")[1] for key in bench.engine._placement._pinned] == ["old", "new"]


async def test_a_result_does_not_wait_for_the_start_of_what_was_sent_before(lanes: Any) -> None:
    bench = lanes(2)
    bench.send(*"ab")
    bench.engine.lane(1).run()
    assert bench.news() == [("started", "a"), ("started", "b"), ("ended", "b")]
    bench.engine.lane(0).run()
    assert bench.news() == [("ended", "a")]


async def test_closing_answers_what_waits_and_runs(lanes: Any) -> None:
    bench = lanes(2)
    jobs = bench.send(*"abcdef")
    bench.engine.lane(1).run()
    bench.engine._answer_all()
    outcomes = [await bench.outcome(job) for job in jobs]
    assert [outcome.error is None for outcome in outcomes] == [False, True, False, False, False, False]
    assert [name for kind, name, *_ in bench.heard if kind == "ended"].count("b") == 1


async def test_a_thousand_deaths_lose_no_job(lanes: Any) -> None:
    random_ = random.Random(3)
    bench = lanes(3)
    jobs = [bench.submit("p", frame_id=str(n), owner=n % 5) for n in range(300)]
    jobs += [bench.submit("s", frame_id=f"s{n}", owner=n % 5, stream="x") for n in range(100)]
    while not all(job.ended for job in jobs):
        lane = bench.engine.lane(random_.randrange(3))
        if not lane.names:
            continue
        move = random_.random()
        if lane.slot.running is None:
            lane.die() if move < 0.1 else lane.start()
        else:
            lane.die() if move < 0.3 else lane.end()
        bench.engine._look()
        await asyncio.sleep(0)
    ended = [name for kind, name, *_ in bench.heard if kind == "ended"]
    assert sorted(ended) == sorted(job.frame_id for job in jobs)
    assert (bench.engine.stats()["busy"], bench.engine.stats()["waiting"]) == (0, 0)
