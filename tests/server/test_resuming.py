"""Coming back under `forgesyte.v2`: by epoch, number and secret; without a hole, or with a word that there is one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, SeedClient, run_cell, wait_for
from tests.server.conftest import WAITS, Start, log_of

PLUGINS = (
    WAITS
    + """
@fs.plugin
def well(frame):
    return {"frame": frame.frame_id}

@fs.plugin
def counts(frame, *, state):
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"]}
"""
)
V2: dict[str, Any] = {"subprotocols": ["forgesyte.v2"]}


@pytest.fixture(scope="module")
def open_gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def server(start_for_module: Start, open_gate: threading.Event) -> fs.Server:
    return start_for_module(PLUGINS, {"gate": open_gate}, engine="inline")


async def cut(server: fs.Server, one: SeedClient) -> None:
    before = server.stats()["connections"]
    one.socket.transport.abort()
    await asyncio.to_thread(wait_for, lambda: server.stats()["connections"] == before - 1, "the server to notice")


class Phone:
    """A client that keeps what it must know to resume."""

    def __init__(self, connect: Connect, server: fs.Server, name: str = "phone") -> None:
        self._connect, self._server, self._name = connect, server, name
        self.got: dict[int, dict[str, Any]] = {}

    async def begin(self) -> SeedClient:
        self.client = await self._connect(self._server, self._name, **V2)
        self.hello = await self.client.next()
        self.known = self.hello
        return self.client

    @property
    def last_seq(self) -> int:
        return int(self.client.heard[-1]["seq"])

    async def resume(self, **wrong: Any) -> dict[str, Any]:
        seq = self.last_seq
        self.client = await self._connect(self._server, self._name, **V2)
        self.hello = await self.client.next()
        asked = {"type": "resume", "epoch": self.known["epoch"], "seq": seq, "secret": self.known["secret"], **wrong}
        await self.client.send(asked)
        return await self.client.next()


async def test_everything_that_was_missed_comes_under_the_numbers_that_follow(
    server: fs.Server, client: Connect, tiny: bytes, open_gate: threading.Event
) -> None:
    open_gate.clear()
    sender = await client(server, "sender")
    phone = Phone(client, server)
    one = await phone.begin()
    await one.send({"type": "subscribe", "topic": "plugin_well"})
    await one.frame("slow", tiny, "waits")
    await one.until(lambda m: m.get("status") == "processing")
    last = phone.last_seq
    await cut(server, one)
    await sender.analyze("of another", tiny, "well")
    open_gate.set()
    await asyncio.to_thread(wait_for, lambda: server.stats()["active"] == 0, "the job to end")
    resumed = await phone.resume()
    assert {key: resumed[key] for key in ("type", "recovered", "session", "epoch")} == {
        "type": "resumed",
        "recovered": True,
        "session": phone.known["session"],
        "epoch": phone.known["epoch"],
    }
    said = [await phone.client.next() for _ in range(resumed["missed"])]
    assert [m["seq"] for m in (resumed, *said)] == list(range(last + 1, last + 2 + len(said)))
    about = [(m["frame_id"], m.get("status", m["type"])) for m in said]
    assert about[:2] == [("slow", "success"), ("slow", "completed")]
    assert [status for frame_id, status in about[2:] if frame_id == "of another"][-2:] == ["success", "completed"]
    await sender.analyze("later", tiny, "well")
    await phone.client.until(lambda m: m.get("frame_id") == "later")


async def test_a_stream_goes_on_with_its_state(server: fs.Server, client: Connect, tiny: bytes) -> None:
    phone = Phone(client, server)
    one = await phone.begin()
    assert (await one.analyze("1", tiny, "counts"))["result"] == {"n": 1}
    for count in (2, 3):
        await cut(server, phone.client)
        assert (await phone.resume())["recovered"] is True
        assert (await phone.client.analyze(str(count), tiny, "counts"))["result"] == {"n": count}


async def test_a_connection_that_is_not_known_to_be_dead_is_taken_over_at_once(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.analyze("1", tiny, "well")
    assert (await phone.resume())["recovered"] is True
    await asyncio.wait_for(first.socket.wait_closed(), 10)
    assert (await phone.client.analyze("2", tiny, "well"))["type"] == "frame_result"
    assert "its client came back on another connection" in log_of(server)


async def test_it_must_be_the_first_message(server: fs.Server, client: Connect, tiny: bytes) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.analyze("1", tiny, "well")
    await cut(server, first)
    back = await client(server, "phone", **V2)
    await back.frame("2", tiny, "well")
    await back.send({"type": "resume", "epoch": phone.known["epoch"], "seq": 1, "secret": phone.known["secret"]})
    refused = await back.until(lambda m: m["type"] == "error")
    assert refused["message"] == "resume must be the first message of a connection"
    assert (await back.terminal("2"))["type"] == "frame_result"
    assert (await phone.resume())["recovered"] is True, "it is still there"


async def test_what_the_owner_says_to_all_is_kept_for_the_absent(server: fs.Server, client: Connect) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.send({"type": "subscribe", "topic": "all"})
    await first.until(lambda m: m["type"] == "subscribed")
    await cut(server, first)
    for how in ({}, {"topic": "all"}):
        assert await asyncio.to_thread(server.broadcast, how, **how) == 0, "nobody is reached now"
    resumed = await phone.resume()
    assert (resumed["recovered"], resumed["missed"]) == (True, 2)
    assert [(await phone.client.next())["body"] for _ in range(2)] == [{}, {"topic": "all"}]


async def test_a_hole_is_told_again_if_the_answer_got_lost(serve_on: Any, client: Connect, tiny: bytes) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry, gate=None)
    server = serve_on(registry, session_messages=1)
    phone = Phone(client, server)
    one = await phone.begin()
    one.socket.transport.pause_reading()
    for number in range(5):
        await one.frame(str(number), tiny, "well")
    await asyncio.to_thread(wait_for, lambda: server.stats()["results"] == 5, "all results")
    await cut(server, one)
    last = phone.last_seq
    for _ in range(3):
        assert (await phone.resume(seq=last))["recovered"] is False
        phone.client.heard = phone.client.heard[:1]  # as if it had heard nothing but the greeting
        phone.client.socket.transport.abort()
    assert (await phone.resume(seq=last))["recovered"] is False
    results = [await phone.client.until(lambda m: m["type"] == "frame_result") for _ in range(5)]
    assert [m["frame_id"] for m in results] == [str(number) for number in range(5)]


@pytest.mark.parametrize("wrong", [{"secret": "guessed"}, {"epoch": "0123456789abcdef"}, {"epoch": "", "secret": ""}])
async def test_who_does_not_know_the_secret_gets_nothing(
    server: fs.Server, client: Connect, tiny: bytes, wrong: dict[str, Any]
) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.frame("mine", tiny, "well")
    await first.terminal("mine")
    await cut(server, first)
    resumed = await phone.resume(**wrong)
    assert (resumed["recovered"], resumed["missed"]) == (False, 0)
    assert (resumed["session"], resumed["epoch"]) == (phone.hello["session"], phone.hello["epoch"])
    assert await phone.client.fence() == [phone.hello, resumed]
    assert (await phone.client.analyze("new", tiny, "well"))["type"] == "frame_result"


@pytest.mark.parametrize("seq", [-1, 10_000])
async def test_a_number_that_cannot_be_is_no_recovery_and_loses_nothing(
    server: fs.Server, client: Connect, tiny: bytes, seq: int
) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    first.socket.transport.pause_reading()
    done = server.stats()["results"]
    await first.frame("taken, not confirmed", tiny, "well")
    await asyncio.to_thread(wait_for, lambda: server.stats()["results"] == done + 1, "the result")
    await cut(server, first)
    assert (await phone.resume(seq=seq))["recovered"] is False
    assert (await phone.client.terminal("taken, not confirmed"))["type"] == "frame_result"


async def test_a_goodbye_ends_the_session(server: fs.Server, client: Connect, tiny: bytes) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.analyze("1", tiny, "well")
    await first.socket.close()
    assert (await phone.resume())["recovered"] is False


async def test_it_is_for_those_who_know_numbers(server: fs.Server, client: Connect) -> None:
    one = await client(server)
    await one.send({"type": "resume", "epoch": "e", "seq": 1, "secret": "s"})
    assert "offer the subprotocol 'forgesyte.v2'" in (await one.next())["message"]
    await one.send({"type": "resume", "epoch": "e", "seq": "1", "secret": "s"})
    assert (await one.next())["message"] == "resume: 'seq' must be an integer, not a string"


async def test_without_a_word_a_client_that_knows_numbers_begins_anew(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    phone = Phone(client, server)
    first = await phone.begin()
    await first.analyze("1", tiny, "well")
    await cut(server, first)
    for subprotocols in (["forgesyte.v2"], None):
        again = await client(server, "phone", subprotocols=subprotocols)
        said = await again.fence()
        assert [m["type"] for m in said] == (["hello"] if subprotocols else [])
