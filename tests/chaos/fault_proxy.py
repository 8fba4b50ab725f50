"""A TCP proxy on loopback that does to connections what networks do to them, on command.

`FaultProxy(port)` stands between clients and the server on `port`, on a thread of its own. Each connection through it
is a `Line`: its `Weather` says how bytes fare, late, slowly or not at all. It can be cut, in the middle of a message
too, and it can vanish: then not even TCP answers on either side, as when a machine loses its network (Linux). All
methods may be called on any thread, and have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

from tests.chaos.fault_line import CALM, RESET_ON_CLOSE, Line, Weather

_COMMAND_TIMEOUT_S = 10.0

T = TypeVar("T")


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
        self._opening: set[asyncio.Task[None]] = set()
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
        await asyncio.gather(accepting, *self._opening, return_exceptions=True)
        serving = list(self._lines.values())
        for line in list(self._lines):
            line.reset()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            task = asyncio.create_task(self._lead_on(near))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _lead_on(self, near: socket.socket) -> None:
        """From a connection that was accepted to a line."""
        far = socket.socket()
        far.setblocking(False)
        try:
            if self.refusing:
                raise ConnectionRefusedError
            await self._loop.sock_connect(far, ("127.0.0.1", self.target_port))
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            near.close()
            far.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(self, near, far, self.weather)
        self.made += 1
        serving = self._lines[line] = asyncio.create_task(line.serve())
        serving.add_done_callback(lambda _: self._ended(line))

    def _ended(self, line: Line) -> None:
        self._lines.pop(line, None)
        line.close()  # not in its task, which may have been cancelled before it began
