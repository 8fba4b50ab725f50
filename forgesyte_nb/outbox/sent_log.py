"""Messages that were sent and that the client's side has not confirmed: what may have to be said again.

Numbers only grow. `forgotten` is the highest number of a message that can no longer be said again although nobody has
confirmed it. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat

KEPT_BYTES = 64 * 1024 * 1024
"""Messages kept until they are confirmed, at most: more than sockets can hold on their way."""


class SentLog:
    """What was sent, by number.

    Attributes:
        bytes: Size of the messages.
        forgotten: Up to this number some were let go without being confirmed.
    """

    __slots__ = ("_entries", "bytes", "forgotten")

    def __init__(self) -> None:
        """Make an empty one."""
        self._entries: deque[tuple[int, bytes, bool]] = deque()  # number, message, whether it is owed
        self.bytes = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, last_seq: int, messages: list[bytes], *, is_owed: bool) -> None:
        """Remember messages that are being sent.

        Only a client that never confirms, against the protocol, can have more than `KEPT_BYTES` under way.

        Args:
            last_seq: Number of the message before them.
            messages: In the order of their numbers.
            is_owed: Whether they are about the client's own doings, rather than broadcasts.
        """
        self._entries.extend(zip(range(last_seq + 1, last_seq + 1 + len(messages)), messages, repeat(is_owed)))
        self.bytes += sum(map(len, messages))
        while self.bytes > KEPT_BYTES and len(self._entries) > 1:
            seq, message, _ = self._entries.popleft()
            self.bytes -= len(message)
            self.forgotten = max(self.forgotten, seq)

    def confirm(self, seq: int) -> None:
        """All up to this number have been received."""
        entries = self._entries
        while entries and entries[0][0] <= seq:
            self.bytes -= len(entries.popleft()[1])

    def keep(self, wanted: Callable[[bytes, bool], bool]) -> None:
        """Let go of what is not wanted, by message and whether it is owed."""
        self._entries = deque(entry for entry in self._entries if wanted(entry[1], entry[2]))
        self.bytes = sum(len(message) for _, message, _ in self._entries)

    def take(self) -> tuple[list[bytes], list[bytes]]:
        """Take out all: what is owed, and the broadcasts."""
        owed = [message for _, message, is_owed in self._entries if is_owed]
        broadcasts = [message for _, message, is_owed in self._entries if not is_owed]
        self._entries.clear()
        self.bytes = 0
        return owed, broadcasts
