"""`Listeners`: who hears what a client receives: the functions a user registered, and those who iterate over messages.

Functions, plain and async alike, are called with each message, in order, beside the reader: they run in a task of their
own, so a slow one delays the next call and never the socket; one that raises is reported in the log and the others go
on. Who iterates has an inbox of its own, which is gone when nobody looks any more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

from forgesyte_nb.client.inbox import Inbox, Messages

Message = dict[str, Any]
Listener = Callable[[Message], Any]

_BUSY = 1000  # waiting messages from which on `calm` waits

_log = logging.getLogger("forgesyte_nb.client")


class Listeners:
    """Functions by the `type` of message they listen to, and iterators."""

    def __init__(self) -> None:
        """Make it without any; `start` begins to call them."""
        self._by_type: dict[str, list[Listener]] = {}
        self._iterated: weakref.WeakSet[Messages] = weakref.WeakSet()
        self._inbox: Inbox[Message] = Inbox()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._calm = asyncio.Event()
        self._calm.set()

    def add(self, kind: str, listener: Listener) -> None:
        """Call `listener` with each message of that type.

        Raises:
            TypeError: If it cannot be called.
        """
        if not callable(listener):
            raise TypeError(f"{listener!r} cannot be called; give a function of one argument, the message")
        self._by_type.setdefault(kind, []).append(listener)

    def messages(self, types: tuple[str, ...]) -> Messages:
        """All messages from now on, or those of some types, to be iterated over until `stop`."""
        messages = Messages(types)
        self._iterated.add(messages)
        return messages

    @property
    def dropped(self) -> int:
        """Messages dropped because listeners were too slow."""
        return self._inbox.dropped

    @property
    def is_current(self) -> bool:
        """Whether the running task is the one that calls listeners."""
        return self._task is not None and asyncio.current_task() is self._task

    def put(self, message: Message) -> None:
        """Have a message heard."""
        if message["type"] in self._by_type:
            self._idle.clear()
            self._inbox.put(message)
            if len(self._inbox) >= _BUSY:
                self._calm.clear()
        for messages in self._iterated:
            messages.put(message)

    def start(self) -> None:
        """Begin to call listeners, on the running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._call_all(), name="forgesyte-listeners")

    async def calm(self) -> None:
        """Wait while so many messages wait that some may be dropped soon; never in a listener itself."""
        if not self._calm.is_set() and not self.is_current:
            await self._calm.wait()

    async def idle(self) -> None:
        """Wait until every listener was called with everything that came; returns at once in a listener itself."""
        if not self.is_current:
            await self._idle.wait()

    async def stop(self) -> None:
        """Stop; calls that have not begun are dropped, iterators end. A listener itself may stop them all."""
        for messages in self._iterated:
            messages.inbox.close()
        self._iterated.clear()
        task, self._task = self._task, None
        self._inbox = Inbox()
        self._idle.set()
        self._calm.set()
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def disown(self) -> None:
        """In a forked process: the task is the parent's."""
        self._task = None

    async def _call_all(self) -> None:
        while self.is_current:  # until a listener has stopped them
            for message in await self._inbox.take():
                for listener in list(self._by_type[message["type"]]):
                    if self.is_current:
                        await _call(listener, message)
            if self.is_current:
                if not self._inbox:
                    self._idle.set()
                self._calm.set()


async def _call(listener: Listener, message: Message) -> None:
    try:
        outcome = listener(message)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:  # noqa: BLE001 -- a user's function may raise anything
        name = getattr(listener, "__qualname__", repr(listener))
        _log.exception("%s raised on a %s message; it will be called again with the next", name, message["type"])
