"""The sans-I/O parts of the lanes: the queue of waiting jobs, the order of starts, the workers' language."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.lane_memory import LANE_TASKS, SLOT_BYTES, LaneMemory
from forgesyte_nb.engines.pipe import Inbox, Kind, message
from forgesyte_nb.engines.start_order import PATIENCE_S, StartOrder
from forgesyte_nb.engines.waiting import WaitingJobs
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

REGISTRY = Registry()
run_cell("@fs.plugin\ndef p(frame): return {}", REGISTRY)
DONE = Outcome(result=b"{}")


def job(name: str, owner: Any = "owner") -> Job:
    return Job(f"job_{name}", name, REGISTRY.entry("p"), b"{}", b"", owner, "", 0, 0.0)


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


def start(order: StartOrder, one: Job, now: float = 1.0) -> None:
    one.started_at = now
    order.started(one)


def test_news_that_came_early_waits_for_what_was_sent_before() -> None:
    order, said, (a, b, c) = order_of("a", "b", "c")
    start(order, c)
    order.ended(c, DONE)
    start(order, b)
    assert said == []
    start(order, a)
    assert said == ["+a", "+b", "+c", "-c"]
    order.ended(b, DONE)
    order.ended(a, DONE)
    assert said[4:] == ["-b", "-a"]


def test_one_that_ends_without_a_start_holds_nobody_up() -> None:
    order, said, (a, b) = order_of("a", "b")
    start(order, b)
    order.ended(a, DONE)
    assert said == ["-a", "+b"]


def test_one_that_is_taken_back_holds_nobody_up() -> None:
    order, said, (a, b, c) = order_of("a", "b", "c")
    start(order, b)
    order.forget(a)
    assert said == ["+b"]
    order.forget(a)
    order.forget(c)
    order.ended(b, DONE)
    assert said == ["+b", "-b"]


def test_patience_ends() -> None:
    order, said, (_, b, c) = order_of("a", "b", "c")
    start(order, b, 5.0)
    order.ended(b, DONE)
    start(order, c, 5.0)
    order.overdue(5.0 + PATIENCE_S / 2)
    assert said == []
    order.overdue(5.0 + PATIENCE_S * 2)
    assert said == ["+b", "-b", "+c"]


def test_one_that_goes_to_a_second_lane_keeps_its_place() -> None:
    order, said, (a, b) = order_of("a", "b")
    start(order, b)
    a.attempts = 2
    order.handed(a)
    start(order, a)
    assert said == ["+a", "+b"]


def test_clients_do_not_wait_for_each_other() -> None:
    heard = Heard()
    order = StartOrder(heard)
    mine, theirs = job("mine", "me"), job("theirs", "they")
    for one in (mine, theirs):
        one.attempts = 1
        order.handed(one)
    start(order, theirs)
    assert heard.said == ["+theirs"]


def test_any_order_of_news_is_told_in_the_order_sent_and_nothing_is_lost() -> None:
    random_ = random.Random(7)
    for _ in range(200):
        order, said, jobs = order_of(*"abcdefgh")
        running: list[Job] = []
        waiting = list(jobs)
        while waiting or running:
            if waiting and (not running or random_.random() < 0.5):
                one = waiting.pop(random_.randrange(min(3, len(waiting))))
                if random_.random() < 0.1:
                    order.ended(one, DONE)  # its lane died before it started
                    continue
                start(order, one)
                running.append(one)
            else:
                order.ended(running.pop(random_.randrange(len(running))), DONE)
        starts = [news[1:] for news in said if news[0] == "+"]
        assert starts == sorted(starts)
        assert sorted(news[1:] for news in said if news[0] == "-") == list("abcdefgh")
        assert all(said.index(f"+{name}") < said.index(f"-{name}") for name in starts)
        assert not order._handed
        assert not order._held


def take(waiting: WaitingJobs, fits: Any = lambda job: True) -> str | None:
    taken = waiting.take(lambda job: True if fits(job) else None)
    return taken[0].frame_id if taken is not None else None


def test_clients_take_turns_and_each_is_served_in_order() -> None:
    waiting = WaitingJobs()
    for owner, count in (("a", 4), ("b", 2), ("c", 1)):
        for number in range(count):
            waiting.add(job(f"{owner}{number}", owner))
    assert len(waiting) == 7
    assert [take(waiting) for _ in range(8)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", None]


def test_what_is_put_back_comes_first_and_what_does_not_fit_waits() -> None:
    waiting = WaitingJobs()
    jobs = [job(name, name[0]) for name in ("a0", "a1", "b0")]
    for one in jobs:
        waiting.add(one)
    taken = waiting.take(lambda job: True)
    assert taken is not None
    waiting.put_back(taken[0])
    assert len(waiting) == 3
    assert take(waiting, lambda job: job.owner == "b") == "b0"
    assert take(waiting, lambda job: job.frame_id == "a1") is None, "nobody overtakes within one client"
    assert waiting.remove(jobs[1])
    assert not waiting.remove(jobs[1])
    assert [one.frame_id for one in waiting.drain()] == ["a0"]
    assert len(waiting) == 0


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


def both_sides() -> tuple[LaneMemory, LaneMemory]:
    server = LaneMemory.create()
    return server, LaneMemory(os.dup(server.file))


def test_images_in_shared_memory() -> None:
    server, worker = both_sides()
    assert server.put_image(1, b"a" * 1000)
    assert server.put_image(2, b"b" * SLOT_BYTES)
    assert not server.put_image(3, b"c" * (SLOT_BYTES + 1))
    assert server.put_image(LANE_TASKS, b"d" * 10)
    assert worker.image(1, 1000) == b"a" * 1000
    assert worker.image(2, SLOT_BYTES) == b"b" * SLOT_BYTES
    assert worker.image(LANE_TASKS, 10) == b"d" * 10
    for side in (server, worker):
        side.close()


def test_a_task_is_either_begun_or_taken_back() -> None:
    server, worker = both_sides()
    assert server.begun()[0] == 0
    assert worker.begin(1, 12.5)
    assert server.begun() == (1, 12.5)
    assert not server.recall(1), "it has begun"
    assert server.recall(2)
    assert server.recall(4)
    assert not worker.begin(2, 13.0)
    assert worker.begin(3, 13.5)
    assert not worker.begin(4, 14.0)
    assert worker.begin(2 + LANE_TASKS, 15.0), "what was taken back before in the same place is another task"
    for side in (server, worker):
        side.close()


def test_the_post_box_keeps_order_and_refuses_what_has_no_room() -> None:
    server, worker = both_sides()
    random_ = random.Random(5)
    sent = got = b""
    refused = 0
    for _ in range(2000):
        data = random_.randbytes(random_.randrange(1, 40_000))
        if worker.posts.put(data):
            sent += data
        else:
            refused += 1
            assert not worker.posts.is_empty
        if random_.random() < 0.2:
            got += server.posts.take()
    got += server.posts.take()
    assert worker.posts.is_empty
    assert refused
    assert got == sent
    for side in (server, worker):
        side.close()
