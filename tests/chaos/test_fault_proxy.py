"""The proxy does to connections what its commands say, and nothing else."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.fault_line import BOTH, CAN_VANISH, Line, Weather
from tests.chaos.fault_proxy import FaultProxy
from tests.conftest import PATIENCE_S, wait_for


@pytest.fixture
def ends() -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    """A proxy, and the client's and the server's socket of one line through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy(listener.getsockname()[1]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
        listener.accept()[0] as server,
    ):
        wait_for(lambda: proxy.lines, "the line")
        for end in (client, server):
            end.settimeout(PATIENCE_S)
        yield proxy, client, server


Ends = tuple[FaultProxy, socket.socket, socket.socket]


def only(proxy: FaultProxy) -> Line:
    (line,) = proxy.lines
    return line


def exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        assert more, f"it ended after {len(data)} bytes"
        data += more
    return data


def nothing_comes(end: socket.socket) -> bool:
    end.settimeout(0.1)
    try:
        return not end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE_S)


def test_in_calm_weather_all_bytes_pass_and_both_ends_end(ends: Ends) -> None:
    proxy, client, server = ends
    much = bytes(range(256)) * 40_000
    for sender, receiver in ((client, server), (server, client)):
        sending = threading.Thread(target=sender.sendall, args=(much,))
        sending.start()
        assert exactly(receiver, len(much)) == much
        sending.join()
    assert only(proxy).passed == {"up": len(much), "down": len(much)}
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"half a connection is one, too")
    assert exactly(client, 29)
    server.close()
    assert client.recv(1) == b""
    wait_for(lambda: proxy.lines == [], "the line to end")


def test_one_way_may_swallow_what_the_other_delivers(ends: Ends) -> None:
    proxy, client, server = ends
    proxy.impose(Weather(swallows=frozenset(["up"])))
    client.sendall(b"lost")
    server.sendall(b"found")
    assert exactly(client, 5) == b"found"
    assert nothing_comes(server)
    proxy.impose(Weather(swallows=BOTH))
    server.sendall(b"lost")
    assert nothing_comes(client)


def test_what_is_swallowed_does_not_end_either(ends: Ends) -> None:
    proxy, client, server = ends
    proxy.impose(Weather(swallows=frozenset(["up"])))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    for _ in range(3):
        server.sendall(b"are you there?")
        with pytest.raises(TimeoutError):
            server.settimeout(0.1)
            server.recv(1)
    assert only(proxy).passed["up"] == 0


def test_late_and_slow(ends: Ends) -> None:
    proxy, client, server = ends
    proxy.impose(Weather(delay_s=0.15))
    began = time.monotonic()
    client.sendall(b"late")
    assert exactly(server, 4) == b"late"
    assert time.monotonic() - began >= 0.15
    proxy.impose(Weather(bytes_per_s=10_000))
    began = time.monotonic()
    client.sendall(bytes(2000))
    assert exactly(server, 2000)
    assert time.monotonic() - began >= 0.2
    proxy.impose(Weather(bytes_per_s=0))
    client.sendall(b"wait")
    assert nothing_comes(server)
    proxy.impose(Weather())
    assert exactly(server, 4) == b"wait"


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_line_is_cut_where_it_is_told_to(ends: Ends, how: str) -> None:
    proxy, client, server = ends
    only(proxy).cut(how, after_bytes=700)  # type: ignore[arg-type]  # it is one of them
    server.sendall(bytes(400))
    assert exactly(client, 400)
    server.sendall(bytes(400))
    received = b""
    if how == "fin":
        assert exactly(client, 300)
        assert client.recv(1) == server.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            while True:
                received += client.recv(1000)  # a reset may overtake what it cuts off
        with pytest.raises(ConnectionResetError):
            server.recv(1)
    assert len(received) <= 300


def test_a_reset_of_one_side_is_a_reset_to_the_other(ends: Ends) -> None:
    proxy, client, server = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    wait_for(lambda: proxy.lines == [], "the line to end")


@pytest.mark.skipif(not CAN_VANISH, reason="only Linux lets a socket drop all it is sent")
def test_a_line_that_vanished_does_not_even_acknowledge(ends: Ends) -> None:
    proxy, client, server = ends
    client.sendall(b"here")
    assert exactly(server, 4) == b"here"
    proxy.vanish()
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"lost?")
        assert nothing_comes(receiver)
        unacknowledged = struct.unpack_from("I", sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
        assert unacknowledged > 0
    only(proxy).appear()
    for receiver in (client, server):
        assert exactly(receiver, 5) == b"lost?"


def test_it_may_refuse_and_lead_elsewhere() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        FaultProxy(one.getsockname()[1]) as proxy,
    ):
        proxy.target_port = other.getsockname()[1]
        with socket.create_connection(("127.0.0.1", proxy.port)), other.accept()[0]:
            wait_for(lambda: proxy.made == 1, "the line")
        proxy.refusing = True
        with socket.create_connection(("127.0.0.1", proxy.port)) as refused, pytest.raises(ConnectionResetError):
            refused.recv(1)
