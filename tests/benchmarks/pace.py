"""Frames at a steady pace to several servers at once, and how long each takes to be answered.

The servers' frames are spread evenly over the period, so they are measured at the same time without meeting.
"""

from __future__ import annotations

import heapq
import select
import time
from collections import deque
from collections.abc import Mapping

from tests.benchmarks.load import Wrong, verify
from tests.benchmarks.sockets import Connection, Messages

_LATE_S = 20.0


def paced(
    ports: Mapping[str, int], messages: Messages, *, fps: float, seconds: float, clients: int = 1
) -> dict[str, list[float]]:
    """Send frames at a pace and take the time of each round trip.

    Args:
        ports: Of the servers, by name; "(a)" does not name frames in its answers.
        messages: What to send.
        fps: Frames per second of each client.
        seconds: How long.
        clients: Connections to each server.

    Returns:
        Milliseconds from before a frame is sent until its terminal message is read, for each server.

    Raises:
        Wrong: If an answer is missing or no result.
    """
    names = list(ports)
    open_ones: list[tuple[str, Connection]] = []
    try:
        for client in range(clients):
            for name in names:
                open_ones.append((name, Connection(ports[name], f"pace_{client}", messages)))
        latencies = _drive(open_ones, 1 / fps, seconds)
        for name, connection in open_ones:
            verify(connection, messages, named=name != "(a)")
    finally:
        for _, connection in open_ones:
            connection.close()
    found: dict[str, list[float]] = {name: [] for name in names}
    for (name, _), times in zip(open_ones, latencies, strict=True):
        found[name] += times
    return found


def _drive(open_ones: list[tuple[str, Connection]], period_s: float, seconds: float) -> list[list[float]]:
    connections = [connection for _, connection in open_ones]
    index_of = {connection.socket: index for index, connection in enumerate(connections)}
    latencies: list[list[float]] = [[] for _ in connections]
    sent_at: list[deque[float]] = [deque() for _ in connections]
    began = time.perf_counter() + 0.05
    due = [(began + index * period_s / len(connections), index) for index in range(len(connections))]
    pushing: set[int] = set()
    while due or any(sent_at):
        now = time.perf_counter()
        if not due and now > began + seconds + _LATE_S:
            raise Wrong(f"{sum(map(len, sent_at))} frames are unanswered after {_LATE_S:g} s")
        wait_s = max(0.0, due[0][0] - now) if due else 1.0
        readable, writable, _ = select.select(index_of, [connections[index].socket for index in pushing], [], wait_s)
        now = time.perf_counter()
        for one in readable:
            index = index_of[one]
            for _ in range(connections[index].receive()):
                latencies[index].append((now - sent_at[index].popleft()) * 1000)
        for one in writable:
            if connections[index_of[one]].push():
                pushing.discard(index_of[one])
        while due and due[0][0] <= now:
            at, index = heapq.heappop(due)
            if at + period_s < began + seconds:
                heapq.heappush(due, (at + period_s, index))
            sent_at[index].append(time.perf_counter())
            if not connections[index].send(1):
                pushing.add(index)
    return latencies
