"""Many connections: one result to a thousand subscribers, and what an idle connection costs."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from statistics import median

from tests.benchmarks.bench import Bench, memory_kib, settle
from tests.benchmarks.child import Child
from tests.benchmarks.load import Wrong
from tests.benchmarks.sockets import Connection, Messages, masked_frame, open_websocket
from tests.benchmarks.table import Row, Scale, median_row

_SUBSCRIBERS = 1000
_IDLE = 2000
_LATE_S = 30.0
_SUBSCRIBE = masked_frame(b'{"type":"subscribe","topic":"all"}')


def fan_out(bench: Bench, scale: Scale) -> list[Row]:
    """From the sender's send until the last subscriber has the result."""
    subscribers = min(_SUBSCRIBERS * scale.clients // (5 if bench.quick else 1), _room())
    messages = bench.messages("noop", "stills", scale.area)
    rounds = bench.rounds(scale)
    measured: dict[str, list[tuple[float, int]]] = {}
    with Child("ours", "processes") as ours, Child("bare") as bare:
        for name, server, prefix in (("ours", ours, "sub"), ("(a)", bare, "fan")):
            with _subscribed(server, prefix, subscribers, messages) as (sender, listeners):
                measured[name] = [_send_one(server.pid, sender, listeners) for _ in range(rounds + 1)][1:]
    times = {name: [ms for ms, _ in pairs] for name, pairs in measured.items()}
    rates = {name: median(count / ms * 1000 for ms, count in pairs) for name, pairs in measured.items()}
    detail = "; ".join(f"{name} {median(times[name]):.1f} ms, {rates[name]:,.0f} messages/s" for name in times)
    detail += f"; {subscribers:,} subscribers, four messages each from ours, one from (a)"
    ratio = rates["ours"] / rates["(a)"]
    return [
        median_row("fan-out to 1,000, last receipt", times["ours"], unit="ms", detail=detail, scale=scale),
        Row("fan-out, messages/s, ours / (a)", ratio, detail=detail, scale=scale),
    ]


def idle_memory(bench: Bench, scale: Scale) -> list[Row]:
    """Growth of the server's memory over many connections that say nothing."""
    count = _IDLE * scale.clients // (5 if bench.quick else 1)
    if count > _room():
        return []
    opened: list[socket.socket] = []
    with Child("ours", "processes") as server:
        try:
            port = server.said["port"]
            for number in range(100):
                opened.append(open_websocket(port, f"warm_{number}"))
            settle(server.pid)
            before = memory_kib(server.pid)
            for number in range(count):
                opened.append(open_websocket(port, f"idle_{number}"))
            settle(server.pid)
            each = (memory_kib(server.pid) - before) / count
        finally:
            for one in opened:
                one.close()
    detail = f"over {count:,} connections"
    return [Row("memory per idle connection", each, "KiB", target=20.0, at_least=False, detail=detail, scale=scale)]


@contextlib.contextmanager
def _subscribed(
    server: Child, prefix: str, count: int, messages: Messages
) -> Iterator[tuple[Connection, list[Connection]]]:
    port = server.said["port"]
    connections: list[Connection] = []
    try:
        for number in range(count):
            connections.append(Connection(port, f"{prefix}_{number}", messages))
            if prefix == "sub":
                connections[-1].socket.sendall(_SUBSCRIBE)
        sender = Connection(port, f"{prefix}_sender", messages)
        connections.append(sender)
        settle(server.pid)
        yield sender, connections
    finally:
        for connection in connections:
            connection.socket.close()


def _send_one(pid: int, sender: Connection, listeners: list[Connection]) -> tuple[float, int]:
    """Send one frame; milliseconds until all have its result, and messages received by then."""
    for connection in listeners:
        connection.ended, connection.texts = 0, 0
        connection.kept.clear()
    with selectors.DefaultSelector() as selector:
        for connection in listeners:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        waiting, began = len(listeners), time.perf_counter()
        if not sender.send(1):
            selector.modify(sender.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, sender)
        while waiting:
            for key, mask in selector.select(1.0):
                if mask & selectors.EVENT_WRITE and key.data.push():
                    selector.modify(sender.socket, selectors.EVENT_READ, sender)
                if mask & selectors.EVENT_READ and key.data.receive():
                    waiting -= 1
            if time.perf_counter() - began > _LATE_S:
                raise Wrong(f"{waiting} of {len(listeners)} subscribers have not heard after {_LATE_S:g} s")
        spent_ms = (time.perf_counter() - began) * 1000
        texts = sum(connection.texts for connection in listeners)
        settle(pid)
        for key, _ in selector.select(0):
            key.data.receive()
    if any(connection.ended != 1 for connection in listeners):
        raise Wrong("a subscriber got the result twice")
    return spent_ms, texts


def _room() -> int:
    """Connections for which there are file descriptors."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
