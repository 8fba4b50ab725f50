"""`serve()` and `Server`: start, replace, close; what is left behind is nothing."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from forgesyte_nb.errors import PluginDefinitionError, ServerError
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.loop import BackgroundLoop
from tests.conftest import PATIENCE_S, Connect, get, run_cell, wait_for
from tests.server.conftest import LONG, WAITS, log_of

INLINE: dict[str, Any] = {"settings": fs.Settings(engine="inline", workers=1, drain_timeout_s=0.2)}
PLUGINS = (
    LONG
    + WAITS
    + """
@fs.plugin
def well(frame):
    return {}
"""
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Any]:
    """`fs.serve` with a log of the test's own; what it started last is closed at the end."""
    started: list[fs.Server] = []

    def serve(**more: Any) -> fs.Server:
        started.append(fs.serve(**{**INLINE, "log": tmp_path / "server.log", **more}))
        return started[-1]

    yield serve
    for server in started:
        server.close()


def taken() -> socket.socket:
    """A socket that has a port of the loopback."""
    occupied = socket.socket()
    occupied.bind(("127.0.0.1", 0))
    occupied.listen()
    return occupied


def free_port() -> int:
    with taken() as occupied:
        return int(occupied.getsockname()[1])


def test_the_same_arguments_give_the_same_server(served: Any) -> None:
    first = served(port=0)
    assert served(port=0) is first
    assert first.running
    assert get(first, "/healthz")[0] == 200
    first.close()
    assert not first.running
    first.close()
    second = served(port=0)
    assert second is not first
    assert second.running


async def test_other_arguments_replace_it_on_the_same_port_and_clients_come_back(
    served: Any, client: Connect, tiny: bytes
) -> None:
    first = served(port=None)
    seed = await client(first)
    async with fs.Client(first.url) as ours:
        assert (await ours.analyze(tiny, "image_stats")).result
        second = await asyncio.to_thread(lambda: served(port=None, workers=2))
        assert second is not first
        assert (second.port, first.running) == (first.port, False)
        with pytest.raises(ConnectionClosed):
            await seed.next()
        assert seed.socket.close_code == 1001
        assert (await ours.analyze(tiny, "image_stats")).result
    assert (await (await client(second)).analyze("f", tiny, "image_stats"))["type"] == "frame_result"


@pytest.mark.parametrize("before", [None, "an-old-secret"])
async def test_clients_of_this_process_come_back_to_a_server_with_another_token(
    served: Any, tiny: bytes, before: str | None
) -> None:
    first = served(port=0, token=before)
    async with (
        fs.Client(first) as of_the_server,
        fs.Client() as by_default,
        fs.Client(first.url, token=before) as by_url,
    ):
        clients = (of_the_server, by_default, by_url)
        for ours in clients:
            assert (await ours.analyze(tiny, "image_stats")).ok
        second = await asyncio.to_thread(lambda: served(port=0, token="a-new-secret"))  # noqa: S106 -- of the test
        assert (second.port, first.running) == (first.port, False)
        for ours in clients:
            assert (await ours.analyze(tiny, "image_stats")).ok
            assert "secret" not in repr(ours)
        with pytest.raises(fs.ConnectionLost, match="HTTP 403"):
            await fs.Client(first.url, token="an-old-secret").connect()  # noqa: S106 -- it is a stranger here
    second.close()
    with fs.Server(port=first.port, settings=fs.Settings(token="a-third", engine="inline")) as third:  # noqa: S106
        async with fs.Client(third) as ours:
            assert (await ours.analyze(tiny, "image_stats")).ok


def test_a_port_in_use_is_passed_over_unless_it_was_asked_for(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken() as occupied:
        port = occupied.getsockname()[1]
        monkeypatch.setattr("forgesyte_nb.server.binding.DEFAULT_PORT", port)
        server = served()
        assert port < server.port < port + 100
        server.close()
        with pytest.raises(ServerError) as refused:
            served(port=port)
    assert str(refused.value) == (
        f"cannot listen on localhost:{port}: Address already in use. Another program (or another notebook's server) "
        "has it; choose another port, or leave port out and the next free one is taken"
    )
    assert served(port=port).port == port, "free again"


def test_a_port_that_this_user_may_not_have_says_so(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)  # the tests may run as a user who may have any
    with pytest.raises(ServerError) as refused:
        served(port=80)
    assert str(refused.value) == (
        "cannot listen on localhost:80: Permission denied. This user may not have it: ports of low numbers, as a rule "
        "those below 1024, are the administrator's; choose another port, or leave port out and the next free one is "
        "taken"
    )


@pytest.mark.parametrize("port", [70_000, -1, 80.5])
def test_a_number_that_is_no_port_is_refused(served: Any, port: Any) -> None:
    with pytest.raises(ServerError, match=rf"port={port}: a port is a number from 0 to 65535; choose another port"):
        served(port=port)


def test_who_asks_while_a_server_closes_is_told_that_it_is_closed() -> None:
    loop = BackgroundLoop("closing")
    loop.close()
    with pytest.raises(ServerError, match=r"the server is closed; start one with fs\.serve\(\)"):
        loop.run(asyncio.sleep(0))


def test_threads_that_ask_while_a_loop_ends_do_not_wait_for_ever() -> None:
    errors: list[Exception] = []

    def ask(loop: BackgroundLoop) -> None:
        try:
            while True:
                loop.run(asyncio.sleep(0))
        except ServerError as error:
            errors.append(error)

    for _ in range(50):
        loop = BackgroundLoop("closing")
        threads = [threading.Thread(target=ask, args=(loop,), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        loop.close()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert {str(error) for error in errors} == {"the server is closed; start one with fs.serve()"}


@pytest.mark.parametrize("port", [None, 8000])
@pytest.mark.parametrize("host", ["192.0.2.1", "fe80::1%nowhere"])  # of no machine (RFC 5737), of no network card
def test_a_host_that_is_elsewhere_says_so_whatever_the_port(served: Any, host: str, port: int | None) -> None:
    with pytest.raises(ServerError, match=rf"host '{re.escape(host)}' is no name or address of this machine"):
        served(host=host, port=port, token="a-secret")  # noqa: S106 -- of the test


def test_both_loopback_addresses_or_neither(served: Any) -> None:
    server = served(port=0)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                continue  # a machine without IPv6
        with socket.create_connection((address, server.port), timeout=PATIENCE_S):
            pass


def test_after_close_the_port_is_free_and_the_server_says_so(served: Any) -> None:
    server = served(port=0)
    port = server.port
    assert repr(server).startswith(f"<Server ws://localhost:{port} open, plugins: ")
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    for call in (server.stats, lambda: server.broadcast(1)):
        with pytest.raises(ServerError, match=r"the server is closed; start one with fs\.serve\(\)"):
            call()
    assert " closed, plugins: " in repr(server)
    assert server.log_tail(1).endswith("INFO closed")
    assert served(port=port).port == port


def test_with_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), fs.serve(port=0, log=tmp_path / "log", **INLINE) as server:
        assert server.running
        raise KeyError
    assert not server.running


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ({"host": "no-such-host.invalid", "token": "t", "port": 0}, ServerError, "'localhost' always is"),
        ({"plugins": ["no/such/folder"], "port": 0}, PluginDefinitionError, "no/such/folder"),
        ({"engine": "proceses", "port": 0}, ValueError, "choose one of processes, threads, inline"),
        ({"port": 0, "log": "/proc/no/log"}, ServerError, "cannot write the log"),
    ],
)
def test_what_cannot_be_started_says_why_and_leaves_nothing(
    served: Any, arguments: dict[str, Any], error: type[Exception], reason: str
) -> None:
    descriptors = psutil.Process().num_fds()
    threads = threading.active_count()
    with pytest.raises(error, match=reason):
        served(**arguments)
    assert psutil.Process().num_fds() <= descriptors
    assert threading.active_count() == threads


def test_an_engine_that_cannot_start_leaves_nothing(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr("forgesyte_nb.server.async_server.make_engine", fails)
    gc.collect()  # what earlier tests left to the collector would close in between
    descriptors, threads, interval = psutil.Process().num_fds(), threading.active_count(), sys.getswitchinterval()
    with pytest.raises(OSError, match="no processes left"):
        served(port=0)
    assert (psutil.Process().num_fds(), threading.active_count()) == (descriptors, threads)
    assert sys.getswitchinterval() == interval


async def test_close_answers_what_is_in_flight_once_and_says_goodbye_with_1001(
    serve_on: Any, client: Connect, tiny: bytes
) -> None:
    gate = threading.Event()
    registry = Registry()
    run_cell(PLUGINS, registry, gate=gate)
    server = serve_on(registry, engine="inline", workers=1, drain_timeout_s=0)
    one, idle = await client(server, "one"), await client(server, "idle")
    names = [str(number) for number in range(20)]
    for name in names:
        await one.frame(name, tiny, "waits")
    await one.until(lambda m: m.get("status") == "processing")
    closing = asyncio.create_task(asyncio.to_thread(server.close))
    for connection in (one, idle):
        with pytest.raises(ConnectionClosed):
            await connection.until(lambda m: False)
        assert connection.socket.close_code == 1001
    gate.set()
    await closing
    said = one.heard
    for name in names:
        about = [m["type"] for m in said if m.get("frame_id") == name and m["type"] != "job_update"]
        assert about == ["error"], name
    assert {m["error_code"] for m in said if m["type"] == "error"} == {"QUEUE_FULL"}, "send again"
    assert [m["status"] for m in said if m["type"] == "job_update"].count("failed") == len(names)


async def test_a_closing_server_finishes_what_it_can_and_refuses_new_frames(
    serve_on: Any, client: Connect, tiny: bytes
) -> None:
    gate = threading.Event()
    registry = Registry()
    run_cell(PLUGINS, registry, gate=gate)
    server = serve_on(registry, engine="inline", workers=1, drain_timeout_s=PATIENCE_S)
    one = await client(server)
    await one.frame("old", tiny, "waits")
    await one.until(lambda m: m.get("status") == "processing")
    closing = asyncio.create_task(asyncio.to_thread(server.close))
    await asyncio.to_thread(wait_for, lambda: get(server, "/healthz")[0] == 503, "the server to close")
    await one.frame("new", tiny, "well")
    refused = await one.terminal("new")
    assert (refused["error_code"], refused["message"]) == (
        "QUEUE_FULL",
        "The server is closing; send again when it is back",
    )
    gate.set()
    assert (await one.terminal("old"))["type"] == "frame_result"
    await closing


def test_the_switch_interval_is_put_back(serve_on: Any) -> None:
    usual = sys.getswitchinterval()
    first, second = serve_on(), serve_on()
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    first.close()
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    second.close()
    assert sys.getswitchinterval() == usual


@pytest.mark.parametrize("engine", ["inline", "processes"])
async def test_serving_again_and_again_leaves_nothing_behind(
    engine: str, serve_on: Any, client: Connect, tiny: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    me = psutil.Process()

    def left() -> tuple[int, int, int]:
        return me.num_fds(), threading.active_count(), len(me.children(recursive=True))

    async def once() -> None:
        registry = Registry()
        run_cell(PLUGINS, registry)
        server = serve_on(registry, engine=engine, workers=1)
        one = await client(server)
        assert (await one.analyze("f", tiny, "well"))["type"] == "frame_result"
        await one.socket.close()
        await asyncio.to_thread(server.close)

    await once()  # what a first time opens for good
    before = left()
    for _ in range(20 if engine == "inline" else 4):
        await once()

    def as_before() -> bool:
        return all(now <= then for now, then in zip(left(), before, strict=True))

    await asyncio.to_thread(wait_for, as_before, f"{before} again, now {left()}")
    assert capfd.readouterr() == ("", ""), "nothing is printed"


def test_closing_does_not_wait_for_connections_that_never_asked_nor_for_those_that_do_not_let_go(
    serve_on: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers open connections ahead; and some peers never answer a Close frame."""
    monkeypatch.setattr("forgesyte_nb.server.connection.CLOSE_TIMEOUT_S", 0.1)
    server = serve_on(ping_interval_s=1000)
    silent, failed = raw(server), raw(server).open()
    failed.send_frame(1, b"\xff")
    assert failed.close_code() == 1007
    wait_for(lambda: server.stats()["connections"] == 0, "the one that does not let go to be cut off")
    closing = threading.Thread(target=server.close)
    closing.start()
    assert silent.socket.recv(1) == b"", "cut off, not answered after the patience for a handshake"
    closing.join(PATIENCE_S)
    assert not server.running


async def test_a_client_that_reads_slowly_has_all_it_is_owed_before_the_goodbye(
    serve_on: Any, client: Connect, tiny: bytes
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    server = serve_on(registry)
    slow = await client(server, "slow", max_queue=1)
    await slow.fence()
    slow.socket.transport.pause_reading()
    count = 1000
    for number in range(count):
        await slow.frame(str(number), tiny, "long")
    await asyncio.to_thread(wait_for, lambda: server.stats()["results"] == count, "all results")
    closing = asyncio.create_task(asyncio.to_thread(server.close))
    await asyncio.to_thread(wait_for, lambda: not server.running, "the server to close")
    slow.socket.transport.resume_reading()
    with pytest.raises(ConnectionClosed):
        await slow.until(lambda m: False)
    await closing
    assert slow.socket.close_code == 1001
    assert len([m for m in slow.heard if m["type"] == "frame_result"]) == count


def test_nothing_is_printed_whatever_happens(
    serve_on: Any, capfd: pytest.CaptureFixture[str], raw: Any, tmp_path: Path
) -> None:
    server = serve_on(log=tmp_path / "log")
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request)
    opened = raw(server).open()
    opened.send_frame(1, b"\xff")
    opened.close_code()
    server.close()
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import sys, forgesyte_nb as fs

@fs.plugin
def from_script(frame):
    return {"n": 1}

server = fs.serve(port=int(sys.argv[1]) if sys.argv[1:] else None, workers=1, log=sys.argv[2])
client = fs.BlockingClient(server.url)
print(server.port, client.analyze(sys.argv[3], "from_script").result["n"], server.log, flush=True)
sys.stdin.readline()
"""


def test_a_script_that_ends_without_closing_leaves_no_worker_and_frees_its_port(tmp_path: Path, tiny: bytes) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(tiny)
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(port), str(tmp_path / "log"), str(picture)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as script:  # type: ignore[call-overload]
        assert script.stdout.readline().split()[:2] == [str(port), "1"]
        workers = psutil.Process(script.pid).children(recursive=True)
        assert workers
        _, errors = script.communicate("\n", timeout=PATIENCE_S)
    assert (script.returncode, errors) == (0, "")
    wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers), "workers")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_the_log_is_in_a_folder_of_ones_own_if_none_is_named() -> None:
    with fs.Server(port=0, plugin_registry=Registry(), **INLINE) as server:
        assert server.log.parent.name == str(server.port)
        assert server.log.parent.stat().st_mode & 0o077 == 0
        assert server.log.stat().st_uid == os.getuid()
        assert "listening on ws://localhost:" in log_of(server)
    server.log.unlink()
    server.log.parent.rmdir()


def test_what_cannot_be_started_leaves_the_running_server_alone(served: Any) -> None:
    running = served(port=0)
    for arguments in ({"host": "0.0.0.0"}, {"plugins": ["no/such/folder"]}):
        with pytest.raises((ServerError, PluginDefinitionError)):
            served(**arguments)
        assert running.running


def test_an_inline_plugin_may_ask_its_own_server(served: Any, tiny: bytes) -> None:
    registry = Registry()
    box: list[fs.Server] = []

    def asks(frame: fs.Frame) -> dict[str, Any]:
        return {"reached": box[0].broadcast("hello"), "active": box[0].stats()["active"]}

    registry.register(define(asks, engine="inline"))
    with fs.Server(port=0, plugin_registry=registry, settings=fs.Settings(engine="inline")) as server:
        box.append(server)
        with fs.BlockingClient(server) as client:
            assert client.analyze(tiny, "asks").result == {"reached": 1, "active": 1}


async def test_two_servers_in_one_process_do_not_read_each_others_bytes(tiny: bytes) -> None:
    def well(frame: fs.Frame) -> dict[str, Any]:
        return {}

    registry = Registry()
    registry.register(define(well, engine="inline"))
    inline = fs.Settings(engine="inline")
    large = tiny + bytes(100_000)
    with (
        fs.Server(port=0, plugin_registry=registry, settings=inline) as one,
        fs.Server(port=0, plugin_registry=registry, settings=inline) as other,
    ):
        async with fs.Client(one) as first, fs.Client(other) as second:

            async def all_of(client: fs.Client) -> int:
                return len([result async for result in client.stream([large] * 300, "well") if result.ok])

            assert await asyncio.gather(all_of(first), all_of(second)) == [300, 300]
            assert (first.reconnects, second.reconnects) == (0, 0)
