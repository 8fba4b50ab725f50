"""Who hears what, in which order, and what happens to those who are too slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, get, run_cell, wait_for
from tests.server.conftest import FAILS, LONG, WAITS, Start

PLUGINS = (
    FAILS
    + LONG
    + WAITS
    + """
@fs.plugin
def well(frame):
    return {"seq": frame.seq, "frame": frame.frame_id}

@fs.plugin
def steps(frame, *, ctx):
    for step in (1, 2, 3):
        ctx.progress(step, 4)
    return {}
"""
)
gate = threading.Event()


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, {"gate": gate}, engine="inline", outbox_bytes=100_000)


@pytest.fixture
def opened_gate() -> Iterator[threading.Event]:
    """What `waits` waits for; open at the end of each test at the latest."""
    gate.clear()
    yield gate
    gate.set()


def kinds(said: list[dict[str, Any]]) -> list[str]:
    """Types, and states of updates."""
    return [m["status"] if m["type"] == "job_update" else m["type"] for m in said]


WHOLE = ["pending", "processing", "frame_result", "completed"]


async def test_the_sender_hears_of_its_frames_without_subscribing_and_nobody_else_does(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    sender, other = await client(server, "a"), await client(server, "b")
    await sender.analyze("f", tiny, "well")
    said = await sender.fence()
    assert kinds(said) == WHOLE
    assert {m["frame_id"] for m in said} == {"f"}
    assert len({m["job_id"] for m in said}) == 1
    assert [m["progress_percent"] for m in said if m["type"] == "job_update"] == [0, 0, 100]
    assert await other.fence() == []


async def test_the_order_of_one_job(server: fs.Server, client: Connect, tiny: bytes) -> None:
    sender = await client(server)
    await sender.analyze("f", tiny, "steps")
    said = await sender.fence()
    between = said[1:-2]  # of steps in quick succession some are left out
    assert kinds(said) == ["pending", *["processing"] * len(between), "frame_result", "completed"]
    percents = [m["progress_percent"] for m in between]
    assert percents[:2] == [0, 25.0]
    assert percents == sorted(set(percents))
    await sender.analyze("g", tiny, "fails")
    assert kinds(await sender.fence()) == ["pending", "processing", "error", "failed"]


@pytest.mark.parametrize("topics", [["all"], ["plugin_well"], ["all", "plugin_well"], ["plugin_well", "plugin_well"]])
async def test_a_subscriber_gets_one_copy_however_many_topics_match(
    server: fs.Server, client: Connect, tiny: bytes, topics: list[str]
) -> None:
    sender, subscriber = await client(server, "a"), await client(server, "b")
    for topic in topics:
        await subscriber.send({"type": "subscribe", "topic": topic})
    assert await subscriber.fence() == [], "a subscription is not acknowledged to the seed's clients"
    await sender.analyze("f", tiny, "well")
    own = await sender.fence()
    assert await subscriber.fence() == own
    assert kinds(own) == WHOLE


async def test_the_sender_subscribed_to_everything_gets_one_copy_too(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    sender = await client(server)
    for topic in ("all", "plugin_well"):
        await sender.send({"type": "subscribe", "topic": topic})
    await sender.analyze("f", tiny, "well")
    assert kinds(await sender.fence()) == WHOLE


async def test_another_plugins_subscriber_hears_nothing(server: fs.Server, client: Connect, tiny: bytes) -> None:
    sender, subscriber = await client(server, "a"), await client(server, "b")
    await subscriber.send({"type": "subscribe", "topic": "plugin_steps"})
    await subscriber.fence()
    await sender.analyze("f", tiny, "well")
    assert await subscriber.fence() == []


async def test_a_subscriber_by_job_id_hears_the_rest_of_that_job_alone(
    server: fs.Server, client: Connect, tiny: bytes, opened_gate: threading.Event
) -> None:
    sender, subscriber = await client(server, "a"), await client(server, "b")
    await sender.frame("slow", tiny, "waits")
    job_id = (await sender.until(lambda m: m.get("status") == "processing"))["job_id"]
    await subscriber.send({"type": "subscribe", "topic": job_id})
    await sender.analyze("other", tiny, "well")
    assert await subscriber.fence() == []
    opened_gate.set()
    last = await subscriber.until(lambda m: m.get("status") == "completed")
    assert (last["job_id"], last["progress_percent"]) == (job_id, 100)
    assert kinds(await subscriber.fence()) == ["frame_result", "completed"]


@pytest.mark.parametrize(("plugin", "last"), [("well", ["frame_result", "completed"]), ("fails", ["error", "failed"])])
async def test_subscribing_to_a_job_that_has_ended_yields_its_end_at_once(
    server: fs.Server, client: Connect, tiny: bytes, plugin: str, last: list[str]
) -> None:
    sender, subscriber = await client(server, "a"), await client(server, "b")
    await sender.analyze("f", tiny, plugin)
    said = await sender.fence()
    await subscriber.send({"type": "subscribe", "topic": said[0]["job_id"]})
    late = await subscriber.fence()
    assert kinds(late) == last
    assert late == said[-2:], "word for word what the sender was told"


async def test_subscribing_ahead_and_to_what_never_comes_is_no_error(server: fs.Server, client: Connect) -> None:
    subscriber = await client(server)
    for topic in ("job_123", "plugin_to_come"):
        await subscriber.send({"type": "subscribe", "topic": topic})
    assert await subscriber.fence() == []


async def test_unsubscribing(server: fs.Server, client: Connect, tiny: bytes) -> None:
    sender, subscriber = await client(server, "a"), await client(server, "b")
    for kind, topic in (("subscribe", "all"), ("subscribe", "plugin_well"), ("unsubscribe", "all")):
        await subscriber.send({"type": kind, "topic": topic})
    await subscriber.fence()
    await sender.analyze("f", tiny, "well")
    await sender.analyze("g", tiny, "steps")
    assert {m["frame_id"] for m in await subscriber.fence()} == {"f"}, "the other topic still matches"
    for topic in ("plugin_well", "plugin_well", "job_never"):
        await subscriber.send({"type": "unsubscribe", "topic": topic})
    assert await subscriber.fence() == [], "from what one is not subscribed to is no error"
    await sender.analyze("h", tiny, "well")
    assert await subscriber.fence() == []


async def test_too_many_topics_are_refused_with_the_limit(serve_on: Any, client: Connect) -> None:
    server = serve_on(max_topics=3)
    subscriber = await client(server)
    for topic in ("all", "job_1", "job_2", "job_2", "job_3"):
        await subscriber.send({"type": "subscribe", "topic": topic})
    said = await subscriber.fence()
    assert [m["error_code"] for m in said] == ["INVALID_MESSAGE"]
    assert said[0]["message"] == "3 topics are subscribed already, the limit; unsubscribe some"
    await subscriber.send({"type": "unsubscribe", "topic": "job_1"})
    await subscriber.send({"type": "subscribe", "topic": "job_3"})
    assert await subscriber.fence() == []


async def test_one_who_left_is_no_subscriber_any_more(server: fs.Server, client: Connect, tiny: bytes) -> None:
    first = await client(server, "comes-again")
    await first.send({"type": "subscribe", "topic": "all"})
    await first.fence()
    await first.socket.close()
    again, sender = await client(server, "comes-again"), await client(server, "sender")
    await sender.analyze("f", tiny, "well")
    assert await again.fence() == []


async def test_broadcasts_from_python(server: fs.Server, client: Connect) -> None:
    ann, bob, bob_too = await client(server, "ann"), await client(server, "bob"), await client(server, "bob")
    await ann.send({"type": "subscribe", "topic": "plugin_well"})
    everyone = [ann, bob, bob_too]
    for one in everyone:
        await one.fence()

    async def heard() -> list[list[Any]]:
        return [[(m["type"], m["topic"], m["body"]) for m in await one.fence()] for one in everyone]

    body = {"text": "ä", "numbers": [1, 2.5, None]}
    say = asyncio.to_thread
    assert await say(server.broadcast, body) == 3
    assert await heard() == [[("broadcast", None, body)]] * 3
    assert await say(server.broadcast, 1, topic="plugin_well") == 1
    assert await heard() == [[("broadcast", "plugin_well", 1)], [], []]
    assert await say(server.broadcast, "you", client_id="bob") == 2
    assert await heard() == [[], [("broadcast", None, "you")], [("broadcast", None, "you")]]
    assert await say(lambda: server.broadcast(2, topic="plugin_well", client_id="bob")) == 0
    assert await say(server.broadcast, 3, topic="all") == 0, "nobody is subscribed to it"
    assert await heard() == [[], [], []]
    with pytest.raises(InvalidMessage, match="none of 'all'"):
        await say(lambda: server.broadcast(1, topic="nonsense"))
    with pytest.raises(TypeError):
        await say(server.broadcast, object())


async def test_frames_of_one_client_start_in_the_order_sent_over_two_lanes(
    client: Connect, tiny: bytes, start_for_module: Start
) -> None:
    server = start_for_module(PLUGINS, engine="processes", workers=2)
    sender = await client(server)
    names = [str(number) for number in range(120)]
    for name in names:
        await sender.frame(name, tiny, "well")
    for name in names:
        await sender.terminal(name)
    said = await sender.fence()
    for status in ("pending", "processing"):
        assert [m["frame_id"] for m in said if m.get("status") == status and m["type"] == "job_update"] == names
    for name in names:
        assert kinds([m for m in said if m["frame_id"] == name]) == WHOLE


async def test_a_client_with_many_frames_does_not_keep_another_waiting(
    serve_on: Any, client: Connect, tiny: bytes, opened_gate: threading.Event
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry, gate=gate)
    server = serve_on(registry, engine="threads", workers=1)
    greedy, modest, watcher = [await client(server, name) for name in ("greedy", "modest", "watcher")]
    await watcher.send({"type": "subscribe", "topic": "all"})
    await watcher.fence()
    await greedy.frame("first", tiny, "waits")
    for number in range(200):
        await greedy.frame(f"g{number}", tiny, "well")
    await greedy.fence()
    await modest.frame("m", tiny, "well")
    await modest.fence()
    opened_gate.set()
    await modest.terminal("m")
    await greedy.terminal("g199")
    started = [m["frame_id"] for m in await watcher.fence() if m.get("status") == "processing"]
    assert started.index("m") < 10, "a turn each, not the last of all"


async def test_frames_of_equal_name_are_all_answered(server: fs.Server, client: Connect, tiny: bytes) -> None:
    """The seed's clients name frames by the second."""
    sender = await client(server)
    for _ in range(5):
        await sender.frame("frame_1736612345", tiny, "well")
    ended: set[str] = set()
    while len(ended) < 5:
        ended.add((await sender.until(lambda m: m.get("status") == "completed"))["job_id"])
    said = await sender.fence()
    results = [m for m in said if m["type"] == "frame_result"]
    assert {m["job_id"] for m in results} == ended
    assert sorted(m["result"]["seq"] for m in results) == [0, 1, 2, 3, 4]
    for job_id in ended:
        assert kinds([m for m in said if m["job_id"] == job_id]) == WHOLE


async def test_a_slow_subscriber_loses_the_oldest_broadcasts_and_nobody_else_notices(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    quick = await client(server, "quick")
    slow = await client(server, "slow", max_queue=1)
    await slow.fence()
    slow.socket.transport.pause_reading()  # what it does not read fills the kernel's buffers, then its outbox
    body = "x" * 50_000

    def sent(number: int) -> int:
        return server.broadcast({"number": number, "body": body})

    def dropped() -> float:
        metrics = get(server, "/metrics")[1].decode()
        return float(metrics.split("\nforgesyte_dropped_broadcasts_total ")[1].split()[0])

    number = 0
    before = await asyncio.to_thread(dropped)
    while await asyncio.to_thread(dropped) < before + 5:
        assert await asyncio.to_thread(sent, number) == 2
        assert [m["body"]["number"] for m in await quick.fence()] == [number], "the quick one misses nothing"
        number += 1
        assert number < 4000, "nothing is ever dropped"
    assert (await quick.analyze("f", tiny, "well"))["type"] == "frame_result"
    slow.socket.transport.resume_reading()
    said = await slow.fence()
    numbers = [m["body"]["number"] for m in said if m["type"] == "broadcast"]
    missing = sorted(set(range(number)) - set(numbers))
    assert numbers == sorted(numbers)
    assert numbers[-1] == number - 1, "the newest is there"
    assert len(missing) >= 5
    assert missing == list(range(missing[0], missing[-1] + 1)), "what is lost was the oldest in its outbox"
    assert sum(m["count"] for m in said if m["type"] == "dropped") == len(missing), "it is told how many"
    assert (await slow.analyze("g", tiny, "well"))["type"] == "frame_result"


async def test_what_a_slow_client_is_owed_is_never_dropped(client: Connect, server: fs.Server, tiny: bytes) -> None:
    slow = await client(server, "slow", max_queue=1)
    await slow.fence()
    slow.socket.transport.pause_reading()
    count = 400
    done = server.stats()["results"]
    for number in range(count):
        await slow.frame(str(number), tiny, "long")
    await asyncio.to_thread(wait_for, lambda: server.stats()["results"] == done + count, "all results")
    slow.socket.transport.resume_reading()
    said = await slow.fence()
    results = [m["frame_id"] for m in said if m["type"] == "frame_result"]
    assert results == [str(number) for number in range(count)]
    assert len(said) == 4 * count
