"""`Inbox`: messages that wait for somebody who is slower than the socket.

The reader of a connection never waits (a paused reader starves ping and pong, and the connection dies), so what it
reads is put here. Bounded: over the limit the oldest are dropped and counted. One taker; not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, Self, TypeVar

Item = TypeVar("Item")

INBOX_MESSAGES = 10_000


class Inbox(Generic[Item]):
    """A bounded queue that drops its oldest.

    Attributes:
        dropped: How many were dropped.
        closed: Whether nothing more will come.
    """

    def __init__(self, limit: int = INBOX_MESSAGES) -> None:
        """Make an empty one that holds `limit` items."""
        self.dropped = 0
        self.closed = False
        self._limit = limit
        self._items: deque[Item] = deque()
        self._there = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add one, at the price of the oldest if it is full."""
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._there.set()

    def close(self) -> None:
        """Nothing more will come; what is there can still be taken."""
        self.closed = True
        self._there.set()

    async def take(self) -> list[Item]:
        """All that is there, at least one; an empty list once it is closed and empty."""
        while not self._items and not self.closed:
            self._there.clear()
            await self._there.wait()
        items = list(self._items)
        self._items.clear()
        return items


class Messages:
    """Messages as dicts, as they come; an async iterator made by `Client.messages`.

    Attributes:
        inbox: What waits; `inbox.dropped` counts what came while nobody looked.
    """

    def __init__(self, types: tuple[str, ...]) -> None:
        """Take messages of these types, or all."""
        self.inbox: Inbox[dict[str, Any]] = Inbox()
        self._types = frozenset(types)
        self._taken: list[dict[str, Any]] = []

    def put(self, message: dict[str, Any]) -> None:
        """Keep a message if it is wanted."""
        if not self._types or message["type"] in self._types:
            self.inbox.put(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if not self._taken:
            self._taken = (await self.inbox.take())[::-1]
        if not self._taken:
            raise StopAsyncIteration
        return self._taken.pop()
