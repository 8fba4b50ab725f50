"""Bytes that wait in a temporary file, because there are too many of them for memory.

`add` writes bytes and returns a `Spooled`, which reads them back; `remove` lets them go. The file is made of nameless
segments, each gone when the last bytes in it are, so that a queue that never runs empty does not grow for ever. Queues
of their own have segments of their own: what one is slow to let go of holds nothing of the others'. It lives as long as
the process at most.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment takes no more once it is as large."""


class _Segment:
    """One nameless temporary file."""

    __slots__ = ("file", "live_bytes", "queue", "size")

    def __init__(self, queue: object) -> None:
        self.queue = queue
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="forgesyte-spool-", buffering=0)  # noqa: SIM115 -- closed when the last of it goes
        self.size = 0
        self.live_bytes = 0


class Spooled:
    """Bytes in the temporary file.

    Attributes:
        size: Bytes.
    """

    __slots__ = ("_offset", "segment", "size")

    def __init__(self, segment: _Segment, offset: int, size: int) -> None:
        """They lie in a segment from `offset` on."""
        self.segment = segment
        self._offset = offset
        self.size = size

    def __len__(self) -> int:
        return self.size

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: If the file cannot be read.
        """
        parts, offset, missing = [], self._offset, self.size
        while missing:
            part = os.pread(self.segment.file.fileno(), missing, offset)
            if not part:
                raise OSError(f"the spool's temporary file ends {missing} bytes early")
            parts.append(part)
            offset += len(part)
            missing -= len(part)
        return b"".join(parts)


class SpoolFull(Exception):
    """There is no room in the file for more."""


class Spool:
    """The temporary file.

    Attributes:
        bytes: Of the file.
        limit_bytes: It takes no more than that.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Make an empty one; the file is made when it is first needed."""
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._segments: list[_Segment] = []
        self._growing: dict[object, _Segment] = {}  # by queue

    def add(self, data: bytes, queue: object = None) -> Spooled:
        """Write bytes into the file.

        Args:
            data: The bytes.
            queue: With which they are let go, about in the order in which they were added.

        Raises:
            SpoolFull: If there is no room.
            OSError: If the file cannot be written.
        """
        if self.bytes + len(data) > self.limit_bytes:
            raise SpoolFull
        segment = self._growing.get(queue)
        if segment is None or segment.size >= SEGMENT_BYTES:
            segment = self._growing[queue] = _Segment(queue)
            self._segments.append(segment)
        offset, rest = segment.size, memoryview(data)
        try:
            while rest:
                rest = rest[os.pwrite(segment.file.fileno(), rest, offset + len(data) - len(rest)) :]
        except OSError:  # what was written of it does not count: the next is written over it
            self._drop_if_empty(segment)
            raise
        segment.size += len(data)
        segment.live_bytes += len(data)
        self.bytes += len(data)
        return Spooled(segment, offset, len(data))

    def remove(self, spooled: Spooled) -> None:
        """Let bytes go."""
        segment = spooled.segment
        segment.live_bytes -= spooled.size
        self._drop_if_empty(segment)

    def _drop_if_empty(self, segment: _Segment) -> None:
        if segment.live_bytes == 0 and segment in self._segments:
            self._segments.remove(segment)
            if self._growing.get(segment.queue) is segment:
                del self._growing[segment.queue]
            self.bytes -= segment.size
            segment.file.close()

    def descriptors(self) -> list[int]:
        """Of its segments."""
        return [segment.file.fileno() for segment in self._segments]

    def close(self) -> None:
        """Let everything go."""
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()
        self._growing.clear()
        self.bytes = 0
