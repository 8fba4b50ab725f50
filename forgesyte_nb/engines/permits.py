"""Permits to begin tasks: a queue in the operating system from which both the server and a worker can take.

A task handed to a worker may have to be recalled, or blamed for the worker's death, while the worker cannot answer: it
is busy, hangs or has died. So each task has a permit, 8 bytes in a socket whose receiving end both processes hold. The
worker takes one permit for each task, in order, when it begins the task. The server recalls a task by taking all the
permits that are left and putting them back with that task's revoked. The operating system gives each permit to one of
the two, and a task whose permit is left when a worker has died had not begun.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

_BYTES = 8
_MOST = 4096
"""Permits that may be queued with revoked ones: 32 KiB, less than a socket takes."""


class Permits:
    """The server's side: both ends of the socket.

    Attributes:
        theirs: The receiving end, which the worker inherits.
    """

    def __init__(self) -> None:
        """Make an empty queue.

        Raises:
            OSError: If the system has no more descriptors.
        """
        self._ours, self.theirs = socket.socketpair()

    def grant(self, numbers: Iterable[int]) -> None:
        """Queue permits for tasks, in the order in which they are handed over."""
        packed = b"".join(number.to_bytes(_BYTES, "little", signed=True) for number in numbers)
        with contextlib.suppress(OSError):  # the worker is gone; nothing will begin
            self._ours.send(packed, socket.MSG_DONTWAIT)

    def waiting(self) -> list[int]:
        """Numbers of the tasks that have not begun, revoked ones too."""
        return [abs(number) for number in self._receive(socket.MSG_PEEK)]

    def revoke(self, task: int) -> bool:
        """Take back the permit of a task; False if the task has begun, or too many that were revoked are queued."""
        if len(self._receive(socket.MSG_PEEK)) >= _MOST:
            return False
        left = self._receive(0)
        self.grant(-number if number == task else number for number in left)
        return task in left

    def _receive(self, flags: int) -> list[int]:
        try:
            data = self.theirs.recv(_MOST * _BYTES, flags | socket.MSG_DONTWAIT)
        except OSError:
            return []
        return _numbers(data)

    @property
    def descriptors(self) -> list[int]:
        """Of both ends."""
        return [self._ours.fileno(), self.theirs.fileno()]

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self.theirs.close()


def begin(permits: socket.socket, task: int) -> bool:
    """In the worker: take the permit of the next task; False if the task was recalled."""
    return _numbers(permits.recv(_BYTES, socket.MSG_WAITALL)) == [task]


def _numbers(data: bytes) -> list[int]:
    return [
        int.from_bytes(data[start : start + _BYTES], "little", signed=True) for start in range(0, len(data), _BYTES)
    ]
