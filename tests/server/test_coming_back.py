"""Clients whose connection broke, and who come back; and clients who said goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import connection
from forgesyte_nb.server.connection import PROBE_S
from forgesyte_nb.server.outbox_writer import RECEIPT_MESSAGES
from tests.conftest import Connect, SeedClient, get, run_cell, wait_for
from tests.server.conftest import WAITS, RawSocket, log_of

PLUGINS = (
    WAITS
    + """
@fs.plugin
def well(frame):
    return {"frame": frame.frame_id}

@fs.plugin
def counts(frame, *, state):
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"], "seq": frame.seq}
"""
)

SO_ATTACH_FILTER = 26  # asm-generic/socket.h

Open = Callable[..., fs.Server]


@pytest.fixture
def open_server(serve_on: Any, gate: threading.Event) -> Open:
    def start(**settings: Any) -> fs.Server:
        registry = Registry()
        run_cell(PLUGINS, registry, gate=gate)
        server: fs.Server = serve_on(registry, **settings)
        return server

    return start


async def until(condition: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(wait_for, condition, what)


async def cut(server: fs.Server, *clients: SeedClient) -> None:
    """Break connections as a dying network does, and wait until the server has noticed."""
    for one in clients:
        before = server.stats()["connections"]
        one.socket.transport.abort()
        await until(lambda before=before: server.stats()["connections"] == before - 1, "the server to notice")


def results(said: list[dict[str, Any]]) -> list[str]:
    return [m["frame_id"] for m in said if m["type"] == "frame_result"]


async def test_all_that_was_owed_is_there_on_coming_back_in_order(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    server = open_server(session_messages=10_000)
    first = await client(server, "phone")
    names = [str(number) for number in range(300)]
    for name in names:
        await first.frame(name, tiny, "well")
    for name in names[:20]:
        await first.terminal(name)
    await until(lambda: server.stats()["results"] == 300, "all results")
    await cut(server, first)
    again = await client(server, "phone")
    said = await again.fence()
    returned = results(said)
    assert returned == names[300 - len(returned) :], "the last of them, each once, none left out"
    with contextlib.suppress(ConnectionClosed):
        while True:
            await first.next()  # what had arrived at its side before the cut, and so was not owed any more
    assert results(first.heard) == names[: len(results(first.heard))]
    assert set(results(first.heard)) | set(returned) == set(names)
    for name in returned[1:]:
        about = [m.get("status", m["type"]) for m in said if m["frame_id"] == name]
        assert about == ["pending", "processing", "success", "completed"][-len(about) :]
    assert (await again.analyze("new", tiny, "well"))["type"] == "frame_result"
    assert await again.fence() != []
    assert await again.fence() == []


async def test_results_that_come_while_a_client_is_away_wait_for_it(
    open_server: Open, client: Connect, tiny: bytes, gate: threading.Event
) -> None:
    server = open_server()
    first = await client(server, "phone")
    await first.frame("slow", tiny, "waits")
    job_id = (await first.until(lambda m: m.get("status") == "processing"))["job_id"]
    await cut(server, first)
    gate.set()
    await until(lambda: get(server, f"/v1/jobs/{job_id}")[1]["status"] == "completed", "the job to end")
    again = await client(server, "phone")
    said = [m for m in await again.fence() if m["job_id"] == job_id]
    assert [m.get("status", m["type"]) for m in said][-2:] == ["success", "completed"]
    assert "back with" in log_of(server)


async def test_what_pongs_have_confirmed_does_not_come_again(open_server: Open, client: Connect, tiny: bytes) -> None:
    """A plain client answers pings, by the protocol; that is receipt enough."""
    server = open_server()
    first = await client(server, "phone")
    for number in range(100):
        await first.analyze(str(number), tiny, "well")
    await first.fence()
    await cut(server, first)
    again = await client(server, "phone")
    said = await again.fence()
    assert len(said) < 2 * RECEIPT_MESSAGES < 400
    assert {m["frame_id"] for m in said} <= {str(number) for number in range(60, 100)} | {"fence 1", "fence 2"}


async def test_a_close_frame_ends_the_session(
    open_server: Open, client: Connect, tiny: bytes, gate: threading.Event
) -> None:
    server = open_server()
    first = await client(server, "phone")
    await first.send({"type": "subscribe", "topic": "all"})
    await first.frame("slow", tiny, "waits")
    await first.until(lambda m: m.get("status") == "processing")
    await first.socket.close()
    await until(lambda: server.stats()["connections"] == 0, "the server to notice")
    gate.set()
    await until(lambda: server.stats()["active"] == 0, "the job to end")
    assert await (await client(server, "phone")).fence() == []
    assert "left client=phone" in log_of(server)


async def test_two_live_clients_of_one_name_get_their_own_each(open_server: Open, client: Connect, tiny: bytes) -> None:
    """The seed's Python client names itself by the second."""
    server = open_server()
    both = [await client(server, "client_1736612345") for _ in range(2)]
    for number, one in enumerate(both):
        for _ in range(3):
            await one.frame(f"frame of {number}", tiny, "well")
    for number, one in enumerate(both):
        for _ in range(3):
            await one.until(lambda m: m.get("status") == "completed")
        said = await one.fence()
        assert {m["frame_id"] for m in said} == {f"frame of {number}"}
        assert len(said) == 12


async def test_of_two_that_broke_the_first_is_resumed_first(open_server: Open, client: Connect, tiny: bytes) -> None:
    server = open_server()
    one, two = [await client(server, "twin") for _ in range(2)]
    await one.analyze("of one", tiny, "well")
    await two.analyze("of two", tiny, "well")
    await cut(server, two, one)
    for expected in ("of two", "of one"):
        back = await client(server, "twin")
        assert set(results(await back.fence())) == {expected}
    assert await (await client(server, "twin")).fence() == [], "a third one has a session of its own"


async def test_another_name_gets_nothing_of_it(open_server: Open, client: Connect, tiny: bytes) -> None:
    server = open_server()
    first = await client(server, "phone")
    await first.analyze("f", tiny, "well")
    await cut(server, first)
    assert await (await client(server, "Phone")).fence() == []
    assert results(await (await client(server, "phone")).fence()) == ["f"]


async def test_subscriptions_and_streams_outlive_a_cut(open_server: Open, client: Connect, tiny: bytes) -> None:
    server = open_server()
    first, sender = await client(server, "phone"), await client(server, "sender")
    await first.send({"type": "subscribe", "topic": "plugin_well"})
    assert (await first.analyze("1", tiny, "counts"))["result"] == {"n": 1, "seq": 0}
    await first.fence()
    await cut(server, first)
    await sender.analyze("missed", tiny, "well")
    again = await client(server, "phone")
    await again.fence()
    await sender.analyze("heard", tiny, "well")
    assert results(await again.fence()) == ["heard"], "broadcasts are not kept for one who is away"
    assert (await again.analyze("2", tiny, "counts"))["result"] == {"n": 2, "seq": 1}


@pytest.mark.parametrize("settings", [{"session_grace_s": 0}, {"sessions_bytes": 300}], ids=["grace", "bytes"])
async def test_a_session_whose_client_stays_away_ends(
    open_server: Open, client: Connect, tiny: bytes, settings: dict[str, Any]
) -> None:
    server = open_server(**settings)
    first = await client(server, "phone")
    await first.analyze("f", tiny, "well")
    await cut(server, first)

    def sessions() -> float:
        return float(get(server, "/metrics")[1].decode().split("\nforgesyte_sessions ")[1].split()[0])

    await until(lambda: sessions() == 0, "the session to end")
    assert "session ended client=phone: its client did not come back" in log_of(server)
    assert await (await client(server, "phone")).fence() == []


async def test_the_state_of_a_stream_goes_when_its_client_has_gone(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    server = open_server(stream_grace_s=0)
    for _ in range(2):
        one = await client(server, "phone")
        assert [(await one.analyze(str(n), tiny, "counts"))["result"]["n"] for n in range(2)] == [1, 2]
        await one.socket.close()


def vanish(one: SeedClient) -> None:
    """Its operating system takes nothing in any more, as if the machine were gone."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of each packet
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    one.socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    one.socket.transport.pause_reading()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a peer acknowledges what it is sent")
async def test_a_client_whose_machine_vanished_goes_on_in_its_session_before_the_pings_run_out(
    open_server: Open, client: Connect, tiny: bytes, gate: threading.Event
) -> None:
    server = open_server()
    first = await client(server, "phone")
    assert (await first.analyze("1", tiny, "counts"))["result"]["n"] == 1
    await first.frame("slow", tiny, "waits")
    await first.until(lambda m: m.get("status") == "processing")
    vanish(first)
    gate.set()
    again = await client(server, "phone")
    assert (await again.analyze("2", tiny, "well"))["type"] == "frame_result", "it is served meanwhile"
    assert (await again.terminal("slow"))["type"] == "frame_result"
    assert "its peer acknowledges nothing any more" in log_of(server)
    assert (await again.analyze("3", tiny, "counts"))["result"]["n"] == 2, "its stream goes on"
    first.socket.transport.abort()


async def test_a_client_that_is_only_busy_is_left_alone_when_another_of_its_name_comes(
    open_server: Open, client: Connect, tiny: bytes, gate: threading.Event
) -> None:
    server = open_server()
    busy = await client(server, "twin", max_queue=1)
    await busy.frame("mine", tiny, "waits")
    await busy.until(lambda m: m.get("status") == "processing")
    busy.socket.transport.pause_reading()
    other = await client(server, "twin")
    await asyncio.to_thread(time.sleep, PROBE_S + 0.2)  # what is waited for is that nothing happens
    gate.set()
    await until(lambda: server.stats()["active"] == 0, "the job to end")
    assert await other.fence() == []
    busy.socket.transport.resume_reading()
    assert (await busy.terminal("mine"))["type"] == "frame_result"


async def test_of_many_that_come_at_once_under_one_name_not_each_asks_all_others(
    open_server: Open, raw: Callable[..., RawSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed's clients of one second have one name: a burst of them would cost the square of their number."""
    monkeypatch.setattr(connection, "PROBE_PAUSE_S", 3600.0)
    server = open_server(ping_interval_s=3600.0)
    first = raw(server).open("client_1736612345")
    for _ in range(20):
        raw(server).open("client_1736612345")
    first.send_frame(9, b"the last")
    heard = b""
    while b"the last" not in heard:
        heard += first.socket.recv(65536)
    assert heard.count(b"seen ") == 1


async def test_of_too_much_for_one_who_is_away_the_news_go_and_the_results_stay(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    server = open_server(session_messages=40)
    first = await client(server, "phone", max_queue=1)
    first.socket.transport.pause_reading()
    names = [str(number) for number in range(100)]
    for name in names:
        await first.frame(name, tiny, "well")
    await until(lambda: server.stats()["results"] == 100, "all results")
    await cut(server, first)
    again = await client(server, "phone")
    assert [(m["type"], m["frame_id"]) for m in await again.fence()] == [("frame_result", name) for name in names]


@pytest.mark.parametrize("code", [1011, 1012, 4001])
async def test_a_close_that_reports_a_failure_is_no_goodbye(
    open_server: Open, client: Connect, tiny: bytes, code: int
) -> None:
    """Such as of a client whose own keepalive ran out, because its kernel was busy."""
    server = open_server()
    first = await client(server, "phone", max_queue=1)
    first.socket.transport.pause_reading()
    await first.frame("f", tiny, "well")
    await until(lambda: server.stats()["results"] == 1, "the result")
    first.socket.protocol.fail(code, "keepalive ping timeout")
    first.socket.send_data()
    await until(lambda: server.stats()["connections"] == 0, "the server to notice")
    assert results(await (await client(server, "phone")).fence()) == ["f"]


async def test_what_a_doubtful_twin_owes_goes_to_the_other_only_when_nobody_came_for_it(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    server = open_server(ping_interval_s=0.2, ping_timeout_s=2.0 * PROBE_S, session_grace_s=3.0)
    silent = await client(server, "twin", max_queue=1, ping_interval=None)
    silent.socket.transport.pause_reading()
    await silent.frame("of the silent", tiny, "well")
    await until(lambda: server.stats()["results"] == 1, "the result")
    other = await client(server, "twin")
    await until(lambda: server.stats()["connections"] == 1, "the silent one to be given up")
    assert await other.fence() == [], "it may come back"
    assert (await other.terminal("of the silent"))["type"] == "frame_result", "but did not"


async def test_a_client_that_cannot_take_what_it_is_owed_is_not_sent_it_for_ever(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    """It closes with 1009, as WebSocket libraries do by themselves; the same would happen each time it came back."""
    server = open_server()
    first = await client(server, "phone", max_size=100)
    await first.frame("f", tiny, "well")
    with pytest.raises(ConnectionClosed, match="1009"):
        await first.terminal("f")
    await until(lambda: server.stats()["connections"] == 0, "the server to notice")
    assert await (await client(server, "phone")).fence() == []


async def test_a_peer_that_reads_nothing_is_cut_with_the_reason(
    open_server: Open, client: Connect, tiny: bytes
) -> None:
    server = open_server(ping_interval_s=0.1, ping_timeout_s=0.5)
    deaf = await client(server, "deaf", max_queue=1, ping_interval=None)
    await deaf.send({"type": "subscribe", "topic": "all"})
    await deaf.fence()
    deaf.socket.transport.pause_reading()
    body = "x" * 1_000_000

    def full() -> bool:
        server.broadcast(body)
        return server.stats()["connections"] == 0

    await until(full, "the deaf to be cut")
    assert "it has read nothing and answered no ping for 0.5 s" in log_of(server)
