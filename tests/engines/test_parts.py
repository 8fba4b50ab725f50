"""The sans-I/O parts of the lanes: the queue of waiting jobs, the order of starts, the workers' language."""

from __future__ import annotations

import os
import random
import threading
from typing import Any

import pytest

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.job_queue import JobQueue
from forgesyte_nb.engines.lane_memory import PLACE_BYTES, PLACES, LaneMemory
from forgesyte_nb.engines.permits import Permits, begin
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.start_order import StartOrder
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S, run_cell

REGISTRY = Registry()
run_cell("@fs.plugin\ndef p(frame): return {}\n@fs.plugin\ndef q(frame): return {}", REGISTRY)


def job(name: str, owner: Any = "owner", *, plugin: str = "p", stream_id: str = "") -> Job:
    return Job(f"job_{name}", name, REGISTRY.entry(plugin), b"{}", b"", owner, "", 0, 0.0, stream_id)


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def started(self, job: Job) -> None:
        job.status = "processing"
        self.said.append(f"+{job.frame_id}")

    def ended(self, job: Job, outcome: Outcome) -> None:
        job.status = "completed"
        self.said.append(f"-{job.frame_id}")

    def progressed(self, job: Job, percent: float) -> None: ...
    def logged(self, plugin: str, text: str) -> None: ...
    def unloadable(self, plugin: Plugin, error: WireError) -> None: ...


def order_of(*names: str) -> tuple[StartOrder, list[str], list[Job]]:
    heard = Heard()
    order = StartOrder(heard)
    jobs = [job(name) for name in names]
    for one in jobs:
        one.attempts = 1
        order.handed(one)
    return order, heard.said, jobs


def test_a_start_announces_first_what_was_handed_over_before() -> None:
    order, said, (a, b, c, d) = order_of("a", "b", "c", "d")
    order.started(c)
    assert said == ["+a", "+b", "+c"], "at once: nothing is held back"
    order.started(a)
    order.started(b)
    order.started(d)
    assert said == ["+a", "+b", "+c", "+d"], "each once"


def test_a_job_that_will_not_start_is_not_announced() -> None:
    order, said, (a, b) = order_of("a", "b")
    order.forget(a)
    order.forget(a)
    order.started(b)
    assert said == ["+b"]


def test_a_job_that_goes_to_a_second_lane_keeps_its_place() -> None:
    order, said, (a, b) = order_of("a", "b")
    a.attempts = 2
    order.handed(a)
    order.started(b)
    order.started(a)
    assert said == ["+a", "+b"]


def test_streams_do_not_wait_for_each_other() -> None:
    heard = Heard()
    order = StartOrder(heard)
    jobs = [job("mine", "me"), job("theirs", "they"), job("second", "me", stream_id="2")]
    for one in jobs:
        one.attempts = 1
        order.handed(one)
    order.started(jobs[1])
    order.started(jobs[2])
    assert heard.said == ["+theirs", "+second"]


def test_starts_reported_in_any_order_are_announced_in_the_order_sent() -> None:
    random_ = random.Random(7)
    for _ in range(200):
        order, said, jobs = order_of(*"abcdefgh")
        waiting = list(jobs)
        while waiting:
            one = waiting.pop(random_.randrange(min(3, len(waiting))))
            order.forget(one) if random_.random() < 0.1 else order.started(one)
        assert said == sorted(said)
        assert len(set(said)) == len(said)
        assert not order._handed


def take(queue: JobQueue, fits: Any = lambda job: True) -> str | None:
    taken = queue.take(lambda job: True if fits(job) else None)
    return taken[0].frame_id if taken is not None else None


def test_streams_take_turns_and_each_is_served_in_order() -> None:
    queue = JobQueue()
    for owner, count in (("a", 4), ("b", 2), ("c", 1)):
        for number in range(count):
            queue.add(job(f"{owner}{number}", owner))
    assert len(queue) == 7
    assert [take(queue) for _ in range(8)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", None]


def test_what_is_put_back_comes_first_and_what_does_not_fit_waits() -> None:
    queue = JobQueue({"p": 1.0})
    jobs = [job(name, name[0]) for name in ("a0", "a1", "b0")]
    for one in jobs:
        queue.add(one)
    taken = queue.take(lambda job: True)
    assert taken is not None
    queue.put_back(taken[0])
    assert len(queue) == 3
    assert take(queue, lambda job: job.owner == "b") == "b0"
    assert take(queue, lambda job: job.frame_id == "a1") is None, "nobody overtakes within one stream"
    assert queue.remove(jobs[1])
    assert not queue.remove(jobs[1])
    assert [one.frame_id for one in queue.drain()] == ["a0"]
    assert len(queue) == 0


def test_a_stream_that_is_blocked_does_not_block_its_clients_other_streams() -> None:
    queue = JobQueue()
    for name, stream_id in (("a0", "a"), ("a1", "a"), ("b0", "b"), ("c0", "")):
        queue.add(job(name, stream_id=stream_id))
    fits = lambda job: job.stream[1] != "a"  # noqa: E731
    assert [take(queue, fits) for _ in range(3)] == ["b0", "c0", None]


class Lane:
    """One lane that runs jobs of a queue, in virtual seconds."""

    def __init__(self, queue: JobQueue, run_times_s: dict[str, float]) -> None:
        self.queue, self.run_times_s = queue, run_times_s
        self.now_s = 0.0
        self.ran: list[str] = []

    def run(self, costs_s: dict[str, float]) -> str:
        taken = self.queue.take(lambda job: True)
        assert taken is not None
        plugin = taken[0].entry.plugin.name
        self.run_times_s[plugin] = costs_s[plugin]
        self.now_s += costs_s[plugin]
        self.queue.settle(taken[0], costs_s[plugin])
        self.ran.append(taken[0].frame_id)
        return taken[0].frame_id


COSTS_S = {"p": 1.0, "q": 0.001}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("streams", [1, 10])
def test_short_jobs_wait_for_one_long_job_at_most(known: bool, streams: int) -> None:
    run_times_s = dict(COSTS_S) if known else {}
    queue = JobQueue(run_times_s)
    lane = Lane(queue, run_times_s)
    for number in range(100):
        queue.add(job(f"long{number}", f"long{number % streams}"))
    for round_ in range(15):
        lane.run(COSTS_S)
        for number in range(10):
            queue.add(job(f"{round_}.{number}", "short", plugin="q"))
        assert [lane.run(COSTS_S) for _ in range(10)] == [f"{round_}.{number}" for number in range(10)]


def test_long_jobs_get_their_half_beside_an_endless_row_of_short_ones_and_of_new_streams() -> None:
    run_times_s = dict(COSTS_S)
    queue = JobQueue(run_times_s)
    lane = Lane(queue, run_times_s)
    for number in range(5):
        queue.add(job(f"long{number}", "long"))
    for number in range(7000):
        queue.add(job(f"s{number}", number if number > 3000 else "short", plugin="q"))
        queue.add(job(f"t{number}", "other", plugin="q"))
        lane.run(COSTS_S)
        lane.run(COSTS_S)
    assert 2 <= sum(name.startswith("long") for name in lane.ran) <= 5


def test_a_stream_that_used_more_than_its_share_while_others_were_blocked_owes_nothing_to_newcomers() -> None:
    run_times_s = {"p": 1.0}
    queue = JobQueue(run_times_s)
    lane = Lane(queue, run_times_s)
    for number in range(50):
        queue.add(job(f"greedy{number}", "greedy"))
    for _ in range(30):
        lane.run(COSTS_S)
    for number in range(20):
        queue.add(job(f"new{number}", "new"))
    ran = [lane.run(COSTS_S) for _ in range(20)]
    assert 9 <= sum(name.startswith("greedy") for name in ran) <= 11


def test_the_queue_forgets_streams_that_have_no_jobs() -> None:
    queue = JobQueue({"p": 1.0})
    jobs = [job(str(number), number) for number in range(1000)]
    for one in jobs:
        queue.add(one)
    for number in range(len(jobs)):
        taken = queue.take(lambda job: True)
        assert taken is not None
        queue.discard(taken[0]) if number % 2 else queue.settle(taken[0], 1.0)
    assert (queue.streams, len(queue._heap), len(queue._charged)) == (0, 0, 0)


@pytest.mark.parametrize("size", [1, 3, 8, 9, 10, 1000, 10**7])
def test_messages_come_out_as_they_went_in_however_they_are_cut(size: int) -> None:
    sent = [
        (Kind.READY, None, b""),
        (Kind.TASK, ["p", 1, "ü" * 300, b"{}"], b"\x00" * 5000),
        (Kind.RESULT, [0.5, 1.5, ""], b"{}"),
        (Kind.LOG, ["p", "x" * 2000], b""),
    ] * 3
    data = b"".join(message(*one) for one in sent)
    inbox = Inbox()
    got = [one for start in range(0, len(data), size) for one in inbox.feed(data[start : start + size])]
    assert got == sent


@pytest.mark.parametrize("garbage", [b"x" * 64, b"a line of text\n", b"line\n\n\n\n\n", b"hi\n", bytes(9)])
def test_what_is_no_message_is_said_so_and_not_waited_for(garbage: bytes) -> None:
    whole = message(Kind.LOG, ["p", "before"])
    for data in (garbage, whole + garbage):
        inbox = Inbox()
        said = [*inbox.feed(data), *inbox.feed(message(Kind.READY, 7))]
        assert Kind.GARBLED in [kind for kind, *_ in said], said
        assert said[: len(data) > len(garbage)] == [(Kind.LOG, ["p", "before"], b"")] * (len(data) > len(garbage))


def test_pictures_in_shared_memory() -> None:
    server = LaneMemory.create()
    worker = LaneMemory(os.dup(server.file))
    server.put(0, b"a" * 1000)
    server.put(1, b"b" * PLACE_BYTES)
    server.put(PLACES - 1, b"c" * 10)
    assert worker.get(0, 1000) == b"a" * 1000
    assert worker.get(1, PLACE_BYTES) == b"b" * PLACE_BYTES
    assert worker.get(PLACES - 1, 10) == b"c" * 10
    for side in (server, worker):
        side.close()


def test_a_task_is_either_begun_or_taken_back() -> None:
    permits = Permits()
    permits.grant([1, 2])
    permits.grant([3, 4])
    assert begin(permits.theirs, 1)
    assert not permits.revoke(1), "it has begun"
    assert permits.waiting() == [2, 3, 4]
    assert permits.revoke(2)
    assert permits.revoke(4)
    assert not permits.revoke(9), "there is no such task"
    assert [begin(permits.theirs, number) for number in (2, 3, 4)] == [False, True, False]
    assert permits.waiting() == []
    permits.close()


def test_however_the_two_take_turns_each_task_goes_to_one() -> None:
    permits, random_ = Permits(), random.Random(5)
    began: set[int] = set()
    recalled: set[int] = set()
    worker = threading.Thread(
        target=lambda: [began.add(number) for number in range(1, 2001) if begin(permits.theirs, number)]
    )
    worker.start()
    for number in range(1, 2001):
        permits.grant([number])
        if random_.random() < 0.5 and permits.revoke(back := random_.randrange(max(1, number - 7), number + 1)):
            recalled.add(back)
    worker.join(PATIENCE_S)
    permits.close()
    assert began | recalled == set(range(1, 2001))
    assert not began & recalled
    assert began
    assert recalled


def test_permits_that_were_revoked_are_bounded() -> None:
    permits = Permits()
    for number in range(1, 10_000):
        permits.grant([number])
        if not permits.revoke(number):
            break
    assert 1000 < number < 10_000
    assert [begin(permits.theirs, one) for one in range(1, number + 1)] == [False] * (number - 1) + [True]
    permits.close()
