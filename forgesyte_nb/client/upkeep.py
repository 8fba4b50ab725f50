"""`Upkeep`: one connection after the other, as long as there is one to be had.

It dials, lets the connection be used to its end, and comes back with growing pauses; it gives up after `max_retries`
attempts in a row, or when the server refuses. What a connection is used for it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.transport.base import Transport
from forgesyte_nb.transport.connecting import NoWayIn, pause_s

Dial = Callable[[], Coroutine[Any, Any, Transport]]
Use = Callable[[Transport], Coroutine[Any, Any, tuple[bool, str]]]
GiveUp = Callable[[ConnectionLost], None]

_WARN_AFTER_S = 1.0  # without a connection; a server that is replaced is back sooner
_SETTLED_S = 5.0  # a connection that lasted as long was a good one, even if it brought nothing

_log = logging.getLogger("forgesyte_nb.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client tries.

    Attributes:
        reconnect: Whether it tries at all.
        max_retries: Attempts in a row to come back, and to have one frame answered.
        backoff_s: Pause before the first attempt; doubles with each.
        max_backoff_s: Longest pause.
        quiet: Whether the log is not told that it tries.
    """

    reconnect: bool
    max_retries: int
    backoff_s: float
    max_backoff_s: float
    quiet: bool = False

    def pause_s(self, attempt: int) -> float:
        """Pause before attempt 1, 2, …; see there."""
        return pause_s(attempt, self.backoff_s, self.max_backoff_s)

    @property
    def total_s(self) -> float:
        """How long all pauses take together, about."""
        whole = (
            min(self.backoff_s * 2.0 ** min(attempt, 60), self.max_backoff_s) for attempt in range(self.max_retries)
        )
        return 0.75 * sum(whole)


class Upkeep:
    """Keeps a connection up.

    Attributes:
        reconnects: How often it came back.
        lost: Why there is no connection and none is being tried; None while it is open.
        trouble: Why there is no connection at the moment, while it is being tried again; else empty.
    """

    def __init__(self, dial: Dial, use: Use, give_up: GiveUp, patience: Patience) -> None:
        """Make it, not connected.

        Args:
            dial: Connects once, or raises `ConnectionLost`.
            use: Reads a connection to its end; returns True if it brought an answer, and why it ended.
            give_up: Called once when there will be no other connection.
            patience: How long to try.
        """
        self.reconnects = 0
        self.trouble = ""
        self.lost: ConnectionLost | None = ConnectionLost(
            "not connected: use 'async with Client(…)', or await connect() first"
        )
        self._dial, self._use, self._give_up, self._patience = dial, use, give_up, patience
        self._task: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._retries = 0
        self._closed = 0  # how often
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect, unless it is open. Of several calls at a time one dials and the others wait for it.

        Raises:
            ConnectionLost: If nobody answers, or if it was closed meanwhile.
        """
        async with self._opening:
            if self.lost is None:
                return
            closed_before = self._closed
            transport = await self._dial()
            if self._closed != closed_before:
                await transport.close()
                raise ConnectionLost("the client was closed while it connected")
            self._transport = transport
            self.lost, self._retries = None, 0
            self._task = asyncio.create_task(self._keep(transport), name="forgesyte-upkeep")
            try:
                await asyncio.sleep(0)  # it is in use when this returns
            except asyncio.CancelledError:
                await self.close()
                raise

    async def close(self) -> None:
        """Say goodbye, and give up: at once if it is cancelled meanwhile."""
        self._closed += 1
        lost = self.refuse()
        try:
            if self._transport is not None:
                await self._transport.close()
        finally:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
            self._give_up(lost)
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)

    def refuse(self) -> ConnectionLost:
        """Take nothing new, since it is about to be closed; returns the reason."""
        self.lost = ConnectionLost("the client was closed")
        return self.lost

    def disown(self) -> None:
        """In a forked process: the connection is the parent's."""
        if self._transport is not None:
            self._transport.disown()
        self._transport = self._task = None
        self._opening = asyncio.Lock()
        self.lost = ConnectionLost("the client belongs to the process that this one was forked from; make a new one")

    def check(self) -> None:
        """Raise `ConnectionLost` unless there is a connection or one is being tried."""
        if self.lost is not None:
            raise ConnectionLost(str(self.lost))

    async def _keep(self, transport: Transport) -> None:
        try:
            while True:
                reason = await self._use_one(transport)
                if self.lost is not None:
                    return
                if not self._patience.reconnect:
                    raise reason
                transport = await self._come_back_and_say(reason)
                self.reconnects += 1
        except ConnectionLost as lost:
            self.lost = lost
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of it, whatever it is
            _log.exception("the client itself failed; please report this")
            self.lost = ConnectionLost(f"the client itself failed: {error!r}")
        self._give_up(self.lost)

    async def _come_back_and_say(self, reason: ConnectionLost) -> Transport:
        """The next connection; whoever waits for it learns soon what they wait for."""
        _log.info("%s; trying to come back", reason)
        self.trouble = str(reason)
        warning = None if self._patience.quiet else asyncio.get_running_loop().call_later(_WARN_AFTER_S, self._warn)
        try:
            transport = await self._come_back(reason)
        finally:
            self.trouble = ""
            if warning is not None:
                warning.cancel()
        _log.info("the connection stands again")
        return transport

    def _warn(self) -> None:
        _log.warning("%s. Trying again, for some %.0f s in all", self.trouble, self._patience.total_s)

    async def _use_one(self, transport: Transport) -> ConnectionLost:
        """Use a connection to its end, and say how it ended."""
        began = time.monotonic()
        self._transport = transport
        try:
            good, reason = await self._use(transport)
        except BaseException:  # nobody reads it any more
            transport.abort()
            raise
        finally:
            self._transport = None
        if good or time.monotonic() - began > _SETTLED_S:
            self._retries = 0
        return ConnectionLost(reason)

    async def _come_back(self, reason: ConnectionLost) -> Transport:
        """The next connection, after a pause or several.

        Raises:
            ConnectionLost: If there is none to be had.
        """
        while self._retries < self._patience.max_retries:
            self._retries += 1
            await asyncio.sleep(self._patience.pause_s(self._retries))
            try:
                return await self._dial()
            except NoWayIn:
                raise
            except ConnectionLost as error:
                reason, self.trouble = error, str(error)
        raise ConnectionLost(f"{reason}. Tried {self._retries} times to come back; connect() tries again")
