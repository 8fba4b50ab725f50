"""Messages that wait while a plugin is registered that one of them is the first to use.

Registering packs the plugin and tries it in a lane. That takes long and runs the user's code, so a thread does it.
Until it has finished, further messages of the session wait in order, within a limit of bytes. Runs on the loop's
thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from forgesyte_nb.errors import QueueFull
from forgesyte_nb.image.data import size_bytes
from forgesyte_nb.protocol.wire import IncomingFrame
from forgesyte_nb.sessions import Session


class Receive(Protocol):
    """Takes a message of a session."""

    def __call__(self, session: Session, data: bytes | IncomingFrame, *, binary: bool) -> None:
        """Take it."""


class FirstUses:
    """Holds messages back by session."""

    def __init__(self, use: Callable[[str], None], receive: Receive, *, max_bytes: int) -> None:
        """Start without any.

        Args:
            use: Registers the plugin of a name; called in a thread.
            receive: Called with each message when it waits no longer.
            max_bytes: Size of the messages that may wait, over all sessions.
        """
        self._use = use
        self._receive = receive
        self._max_bytes = max_bytes
        self._held: dict[Session, deque[tuple[bytes | IncomingFrame, bool]]] = {}
        self._held_bytes = 0

    def __contains__(self, session: Session) -> bool:
        return session in self._held

    def begin(self, session: Session, plugin: str, data: bytes | IncomingFrame, *, binary: bool) -> None:
        """Register a plugin in a thread, and hold the message that uses it.

        Raises:
            QueueFull: If too much waits already.
        """
        self._check_room(data)
        self._held[session] = deque()
        self.hold(session, data, binary=binary)
        registering = asyncio.get_running_loop().run_in_executor(None, self._use, plugin)
        registering.add_done_callback(lambda _: self._release(session))

    def hold(self, session: Session, data: bytes | IncomingFrame, *, binary: bool) -> None:
        """Hold a message of a session that has others waiting.

        Raises:
            QueueFull: If too much waits already.
        """
        self._check_room(data)
        self._held[session].append((data, binary))
        self._held_bytes += _size_bytes(data)

    def _check_room(self, data: bytes | IncomingFrame) -> None:
        if self._held_bytes + _size_bytes(data) > self._max_bytes:
            raise QueueFull(f"{self._held_bytes >> 20} MiB wait for a plugin that is being loaded; send again later")

    def _release(self, session: Session) -> None:
        """Have the messages of a session taken, which is where its client goes on by now."""
        held = self._held.pop(session, deque())
        while held:
            data, binary = held.popleft()
            self._held_bytes -= _size_bytes(data)
            self._receive(session.last_heir, data, binary=binary)
            if session in self._held:  # one was the first to use another plugin
                self._held[session] += held
                return

    def release_all(self) -> None:
        """Have all messages taken now."""
        for session in list(self._held):
            self._release(session)


def _size_bytes(data: bytes | IncomingFrame) -> int:
    return size_bytes(data.image) if isinstance(data, IncomingFrame) else len(data)
