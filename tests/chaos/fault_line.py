"""One connection through the fault proxy: two ways for bytes, and what may befall them.

A `Weather` says how bytes fare: late, slowly, or not at all. Everything here runs on the proxy's thread, but for the
commands of a `Line`, which may be given on any and have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

Way = Literal["up", "down"]
BOTH: frozenset[Way] = frozenset(("up", "down"))

T = TypeVar("T")

CAN_VANISH = sys.platform == "linux"

_OPPOSITE: dict[Way, Way] = {"up": "down", "down": "up"}
_CHUNK_BYTES = 64 * 1024
_CHUNKS_UNDER_WAY = 16
_PORTIONS_PER_S = 20
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of each packet
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Weather:
    """How bytes fare.

    Attributes:
        swallows: Ways whose bytes are taken and never delivered, nor is their end; that cannot be made good again.
        delay_s: How much later bytes arrive.
        bytes_per_s: The most that passes each way; 0 for nothing, for as long as it lasts; None for no limit.
    """

    swallows: frozenset[Way] = frozenset()
    delay_s: float = 0.0
    bytes_per_s: float | None = None


CALM = Weather()


class Proxy(Protocol):
    """Whose line it is."""

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the proxy's thread, and wait for what it returns."""

    def drop(self, line: Line) -> None:
        """End a line at once."""


class Line:
    """One connection through the proxy.

    Attributes:
        weather: How its bytes fare now.
        passed: Bytes delivered so far, by way.
    """

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket, weather: Weather) -> None:
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

    def _set_vanished(self, vanished: bool) -> None:
        self._vanished = vanished
        for end in (self._near, self._far):
            if vanished:
                end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(_DROP_ALL)))
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
        except OSError:
            self.reset()  # what one side says by resetting, the other is told the same way
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Let go of both sides, when nothing is passed on any more."""
        self._near.close()
        self._far.close()

    async def _pass(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        delivery = asyncio.create_task(self._deliver(way, under_way, sink))
        try:
            data = b"?"
            while data:
                try:
                    data = await loop.sock_recv(source, _CHUNK_BYTES)
                except OSError:
                    if way not in self.weather.swallows:
                        raise
                    return
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
            if not data and way not in self.weather.swallows:
                with contextlib.suppress(OSError):  # the other side may have ended first
                    sink.shutdown(socket.SHUT_WR)
            if not data:
                return
            while data:
                portion, data = await self._portion(way, data)
                if way in self.weather.swallows:
                    continue
                try:
                    await loop.sock_sendall(sink, portion)
                except OSError:
                    if _OPPOSITE[way] not in self.weather.swallows:
                        raise
                    continue
                self.passed[way] += len(portion)
                if way == "down" and self.passed["down"] == self._cut_at:
                    self._end()
                    if self._cut_how == "rst":
                        return  # the tasks are cancelled only at their next pause

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
            self.reset()
            return
        self._impose(Weather(swallows=BOTH))  # a side that goes on sending must not be answered by a reset
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End it at once, by a reset on both sides; on the proxy's thread."""
        for end in (self._near, self._far):
            if end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._proxy.drop(self)
