"""A TCP proxy on loopback that does to connections what networks do to them, on command.

`FaultProxy(port)` stands between clients and the server on `port`, on a thread of its own. Each connection through it
is a `Line` with two ways, "up" to the server and "down" to the client. A `Weather` says how bytes fare on a line: late,
slowly, or not at all. A line can be cut, in the middle of a message too, and it can vanish: then not even TCP answers
on either side, as when a machine loses its network (Linux). All methods may be called on any thread, and have
taken effect when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

Way = Literal["up", "down"]
BOTH: frozenset[Way] = frozenset(("up", "down"))

CAN_VANISH = sys.platform == "linux"

_CHUNK_BYTES = 64 * 1024
_CHUNKS_UNDER_WAY = 16
_PORTIONS_PER_S = 20
_COMMAND_TIMEOUT_S = 10.0
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of each packet
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

T = TypeVar("T")


@dataclass(frozen=True)
class Weather:
    """How bytes fare.

    Attributes:
        swallows: Ways whose bytes are taken and never delivered; that cannot be made good again.
        delay_s: How much later bytes arrive.
        bytes_per_s: The most that passes each way; 0 for nothing, for as long as it lasts; None for no limit.
    """

    swallows: frozenset[Way] = frozenset()
    delay_s: float = 0.0
    bytes_per_s: float | None = None


CALM = Weather()


class Line:
    """One connection through the proxy.

    Attributes:
        weather: How its bytes fare now.
        passed: Bytes delivered so far, by way.
    """

    def __init__(self, proxy: FaultProxy, near: socket.socket, far: socket.socket, weather: Weather) -> None:
        self.weather = weather
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self._proxy, self._near, self._far = proxy, near, far
        self._changed = asyncio.Event()
        self._vanished = False
        self._cut_at: int | None = None
        self._cut_how: Literal["rst", "fin"] = "rst"

    # Commands

    def impose(self, weather: Weather) -> None:
        """Let its bytes fare like this from now on."""
        self._proxy.call(self._impose, weather)

    def cut(self, how: Literal["rst", "fin"] = "rst", *, after_bytes: int = 0) -> None:
        """End it, without a word of the WebSocket protocol, once so many more bytes have come down."""
        self._proxy.call(self._cut, how, after_bytes)

    def vanish(self) -> None:
        """Let neither side's bytes through nor acknowledge them, until `appear`."""
        self._proxy.call(self._set_vanished, True)

    def appear(self) -> None:
        """The network is back; TCP sends again what was not acknowledged."""
        self._proxy.call(self._set_vanished, False)

    def _impose(self, weather: Weather) -> None:
        self.weather = weather
        self._changed.set()

    def _cut(self, how: Literal["rst", "fin"], after_bytes: int) -> None:
        self._cut_how = how
        if after_bytes:
            self._cut_at = self.passed["down"] + after_bytes
        else:
            self._end()

    def _set_vanished(self, vanished: bool) -> None:  # noqa: FBT001 -- for `call`
        self._vanished = vanished
        for end in (self._near, self._far):
            if vanished:
                end.setsockopt(
                    socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))
                )
            else:
                end.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        self._changed.set()

    # Bytes

    async def serve(self) -> None:
        """Pass bytes on until both sides have ended."""
        ways = [self._pass("up", self._near, self._far), self._pass("down", self._far, self._near)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.gather(*tasks)
        except (OSError, _Cut):
            self._reset()  # what one side says by resetting, the other is told the same way
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._near.close()
            self._far.close()

    async def _pass(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        delivery = asyncio.create_task(self._deliver(way, under_way, sink))
        try:
            data = b"?"
            while data:
                data = await loop.sock_recv(source, _CHUNK_BYTES)
                await under_way.put((loop.time(), data))
                if delivery.done():
                    break
            await delivery
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)

    async def _deliver(self, way: Way, under_way: asyncio.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            came_at, data = await under_way.get()
            while (early_s := came_at + self.weather.delay_s - loop.time()) > 0:
                await self._pause(early_s)
            if not data:
                with contextlib.suppress(OSError):  # the other side may have ended first
                    sink.shutdown(socket.SHUT_WR)
                return
            while data:
                portion, data = await self._portion(way, data)
                if way in self.weather.swallows:
                    continue
                await loop.sock_sendall(sink, portion)
                self.passed[way] += len(portion)
                if way == "down" and self.passed["down"] == self._cut_at:
                    self._end()

    async def _portion(self, way: Way, data: bytes) -> tuple[bytes, bytes]:
        """What may go now, when it may go, and the rest."""
        while self._vanished or self.weather.bytes_per_s == 0:
            await self._pause(None)
        size = len(data)
        if self.weather.bytes_per_s is not None:
            size = max(1, min(size, int(self.weather.bytes_per_s / _PORTIONS_PER_S)))
            await self._pause(size / self.weather.bytes_per_s)
        if way == "down" and self._cut_at is not None and self._cut_at > self.passed["down"]:
            size = min(size, self._cut_at - self.passed["down"])
        return data[:size], data[size:]

    async def _pause(self, duration_s: float | None) -> None:
        """Wait, but no longer than until the weather changes."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self._changed.wait()

    def _end(self) -> None:
        if self._cut_how == "rst":
            self._reset()
            return
        self._impose(Weather(swallows=BOTH))  # a side that goes on sending must not be answered by a reset
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    def _reset(self) -> None:
        for end in (self._near, self._far):
            if end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._proxy.drop(self)


class _Cut(Exception):
    """The line has been cut."""


class FaultProxy:
    """Stands between clients and a server; `with FaultProxy(server.port) as proxy`.

    Attributes:
        port: Where it listens.
        target_port: Where connections to come are led.
        refusing: Whether connections to come are reset at once.
        weather: Of connections to come.
        made: Connections so far.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.refusing = False
        self.weather = CALM
        self.made = 0
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"fault-proxy-{self.port}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[Line]:
        """Open connections, the oldest first."""
        return self.call(lambda: list(self._lines))

    def impose(self, weather: Weather, *, lasting: bool = False) -> None:
        """Let the bytes of all lines fare like this; if `lasting`, of those to come as well."""
        if lasting:
            self.weather = weather
        for line in self.lines:
            line.impose(weather)

    def cut(self, how: Literal["rst", "fin"] = "rst", *, after_bytes: int = 0) -> None:
        """Cut all lines; see `Line.cut`."""
        for line in self.lines:
            line.cut(how, after_bytes=after_bytes)

    def vanish(self) -> None:
        """Let all lines vanish; those to come get through, as from a network that one has changed to."""
        for line in self.lines:
            line.vanish()

    def close(self) -> None:
        """Cut all lines and end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_COMMAND_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the proxy's thread, and wait for what it returns."""

        async def calling() -> T:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(calling(), self._loop).result(_COMMAND_TIMEOUT_S)

    def drop(self, line: Line) -> None:
        """End a line at once; on the proxy's thread."""
        task = self._lines.pop(line, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._listener.close()
            self._loop.close()

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._stop.wait()
        accepting.cancel()
        tasks = [accepting, *self._lines.values()]
        for line in list(self._lines):
            line._reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            if self.refusing:
                near.close()
                continue
            far = socket.socket()
            far.setblocking(False)
            try:
                await self._loop.sock_connect(far, ("127.0.0.1", self.target_port))
            except OSError:
                near.close()
                far.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = Line(self, near, far, self.weather)
            self.made += 1
            self._lines[line] = asyncio.create_task(line.serve())
            self._lines[line].add_done_callback(lambda _, line=line: self._lines.pop(line, None))
