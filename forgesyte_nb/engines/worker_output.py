"""What a worker's C code and child processes write to stdout and stderr."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LAST_LINES, _LAST_BYTES = 12, 4096  # of what a worker wrote that could not start, for the error
_BURST_BYTES = 64 * 1024
_BYTES_PER_S = 4 * 1024


class WorkerOutput(asyncio.Protocol):
    """Puts it into the log; a flood is cut to `_BURST_BYTES` and then `_BYTES_PER_S`.

    Attributes:
        ended: Set when nobody holds the other end any more.
    """

    def __init__(
        self,
        logged: Callable[[str, str], None],
        transports: set[asyncio.BaseTransport],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `logged`, and be one of `transports` while it is open."""
        self._clock = clock
        self._logged = logged
        self._transports = transports
        self._room = float(_BURST_BYTES)
        self._looked_at = clock()
        self._cut = False
        self._last = b""
        self.ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is joined to the loop."""
        self._transport = transport
        self._transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody writes any more."""
        if self._transport is not None:
            self._transports.discard(self._transport)
        self.ended.set()

    @property
    def last_lines(self) -> str:
        """What was written last."""
        return "\n".join(self._last.decode("utf-8", "replace").splitlines()[-_LAST_LINES:])

    def data_received(self, data: bytes) -> None:
        """Something was written."""
        self._last = (self._last + data)[-_LAST_BYTES:]
        now = self._clock()
        self._room = min(_BURST_BYTES, self._room + (now - self._looked_at) * _BYTES_PER_S)
        self._looked_at = now
        if self._cut and self._room < _BYTES_PER_S:
            return  # until there is room for something worth reading
        kept = data[: int(self._room)]
        self._room -= len(kept)
        self._cut = len(kept) < len(data)
        text = kept.decode("utf-8", "replace").rstrip()
        self._logged("worker", f"wrote: {text}{' … (the rest is cut)' if self._cut else ''}")
