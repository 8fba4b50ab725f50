"""Pictures read and encoded beside the event loop, and sent in the order in which they were given.

Threads of an executor are waited for when the loop ends, so a file that never answers would never let it end. These are
daemon threads: a call that is cancelled leaves its thread behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

_AT_A_TIME = 8  # pictures of one client that are read or encoded

Prepared = TypeVar("Prepared")


class Preparation:
    """Prepares the pictures of one client. Within a stream none overtakes another."""

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._last_turns: dict[str, asyncio.Future[None]] = {}

    @contextlib.asynccontextmanager
    async def in_turn(self, stream_id: str, make: Callable[[], Prepared], *, beside: bool) -> AsyncIterator[Prepared]:
        """Enter the block with what `make` returns, after the blocks that were asked for before in the same stream.

        Args:
            stream_id: The stream.
            make: Makes the picture.
            beside: True to call it in a thread; False if it costs next to nothing.

        Raises:
            Exception: What `make` raised.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        before = self._last_turns.get(stream_id)
        self._last_turns[stream_id] = turn
        turn.add_done_callback(lambda _: self._forget(stream_id, turn))
        try:
            picture = await self._in_thread(make) if beside else make()
            if before is not None:
                await asyncio.wait([before])  # unlike `await before`, it leaves that alone if it is cancelled
            yield picture
        finally:
            if before is None or before.done():
                turn.set_result(None)
            else:  # this one failed or was cancelled: the next waits for those before nevertheless
                before.add_done_callback(lambda _: turn.set_result(None))

    def _forget(self, stream_id: str, turn: asyncio.Future[None]) -> None:
        if self._last_turns.get(stream_id) is turn:
            del self._last_turns[stream_id]

    async def _in_thread(self, make: Callable[[], Prepared]) -> Prepared:
        async with self._room:
            loop = asyncio.get_running_loop()
            made: asyncio.Future[Prepared] = loop.create_future()

            def run() -> None:
                try:
                    settle: partial[Any] = partial(_set_result, made, make())
                except BaseException as error:  # noqa: BLE001 -- raised where it is awaited
                    settle = partial(_set_exception, made, error)
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(settle)

            threading.Thread(target=run, name="forgesyte-picture", daemon=True).start()
            return await made


def _set_result(made: asyncio.Future[Prepared], value: Prepared) -> None:
    if not made.done():
        made.set_result(value)


def _set_exception(made: asyncio.Future[Prepared], error: BaseException) -> None:
    if not made.done():
        made.set_exception(error)
