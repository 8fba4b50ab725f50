"""The queue of what a client is owed: in memory as far as that is little, the rest in the spool's file, none ever lost.

Messages come out in the order in which they were put in. Beyond the limit of memory large ones are written to the
file and read back when it is their turn; small ones stay, and so do all while the file is full or cannot be written:
how many there can be is bounded by the frames that were accepted and by `MOST_UNREAD_ANSWERS`. In place of an answer
that cannot be read back stands an error that says so (`protocol/remains.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forgesyte_nb.protocol.remains import Remains, remains_of
from forgesyte_nb.spool import Spool, Spooled, SpoolFull

MEMORY_BYTES = 8 * 1024 * 1024
"""Messages in memory, at most, where there is more than one; a client that reads has far less waiting."""

LARGE_BYTES = 4096
"""Messages from this size on are worth a place in the file."""


_NONE: deque[Any] = deque()  # where nothing is: an empty deque takes 760 bytes, of each idle connection


@dataclass(frozen=True, slots=True)
class _InFile:
    """A message in the file, and what is remembered of it; None if its loss is only counted."""

    spooled: Spooled
    remains: Remains | None

    def __len__(self) -> int:
        return self.spooled.size


class OwedQueue:
    """Encoded messages, first in, first out.

    Attributes:
        bytes: Size of all that is in it.
        unreadable: Messages that were lost since the file could not be read, and with nothing in their place.
    """

    __slots__ = ("_first", "_later", "_limit_bytes", "_spool", "bytes", "unreadable")

    def __init__(self, spool: Spool, limit_bytes: int = MEMORY_BYTES) -> None:
        """Make an empty one.

        Args:
            spool: Where large messages beyond the limit go.
            limit_bytes: Of what is kept in memory.
        """
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._first: list[bytes] = []
        self._later: deque[bytes | _InFile] = _NONE  # all after the first that was beyond the limit
        self.bytes = 0
        self.unreadable = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._later)

    def append(self, message: bytes, *, is_answer: bool = True) -> None:
        """Put one in.

        Args:
            message: The message.
            is_answer: Whether its client waits for it, if it is a terminal one.
        """
        self.bytes += len(message)
        if not self._later and (self.bytes <= self._limit_bytes or not self._first):
            self._first.append(message)
        else:
            if self._later is _NONE:
                self._later = deque()
            self._later.append(message if len(message) < LARGE_BYTES else self._spooled(message, is_answer))

    def _spooled(self, message: bytes, is_answer: bool) -> bytes | _InFile:
        try:
            return _InFile(self._spool.add(message, self), remains_of(message) if is_answer else None)
        except (SpoolFull, OSError):
            return message

    def put_back(self, messages: list[bytes]) -> None:
        """Put messages in before all others."""
        self._first[:0] = messages
        self.bytes += sum(map(len, messages))

    def take(self, max_bytes: int) -> list[bytes]:
        """Take out so much, but at least one message."""
        if self.bytes <= max_bytes and not self._later:
            taken, self._first, self.bytes = self._first, [], 0
            return taken
        taken, size = [], 0
        for message in self._first:
            if taken and size + len(message) > max_bytes:
                break
            taken.append(message)
            size += len(message)
        del self._first[: len(taken)]
        self.bytes -= size
        while self._later and not self._first and (not taken or size + len(self._later[0]) <= max_bytes):
            size += len(self._later[0])
            taken += self._next_later()
        return taken

    def _next_later(self) -> list[bytes]:
        message = self._later.popleft()
        self.bytes -= len(message)
        if isinstance(message, bytes):
            return [message]
        try:
            return [message.spooled.read()]
        except OSError as error:
            if message.remains is not None:
                return [message.remains.in_its_place(error)]
            self.unreadable += 1
            return []
        finally:
            self._spool.remove(message.spooled)

    def keep(self, wanted: Callable[[bytes], bool]) -> None:
        """Let go of what is not wanted, among what is in memory."""
        self._first = [message for message in self._first if wanted(message)]
        if self._later:
            self._later = deque(one for one in self._later if isinstance(one, _InFile) or wanted(one))
        self.bytes = sum(map(len, self._first)) + sum(map(len, self._later))

    def clear(self) -> None:
        """Let go of all."""
        for message in self._later:
            if isinstance(message, _InFile):
                self._spool.remove(message.spooled)
        self._first.clear()
        self._later = _NONE
        self.bytes = 0
