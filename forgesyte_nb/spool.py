"""Bytes that wait in a temporary file, because there are too many of them for memory.

`add` writes bytes and returns a `Spooled`, which reads them back; `remove` lets them go. The file is a row of nameless
segments, each gone when the last bytes in it are, so that a queue that never runs empty does not grow for ever. It
lives as long as the process at most.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment takes no more once it is as large."""


class _Segment:
    """One nameless temporary file."""

    __slots__ = ("file", "live_bytes", "size")

    def __init__(self) -> None:
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

    def add(self, data: bytes) -> Spooled:
        """Write bytes into the file.

        Raises:
            SpoolFull: If there is no room.
            OSError: If the file cannot be written.
        """
        if self.bytes + len(data) > self.limit_bytes:
            raise SpoolFull
        if not self._segments or self._segments[-1].size >= SEGMENT_BYTES:
            self._segments.append(_Segment())
        segment = self._segments[-1]
        offset, rest = segment.size, memoryview(data)
        while rest:
            rest = rest[os.pwrite(segment.file.fileno(), rest, segment.size) :]
            written = len(data) - len(rest) - (segment.size - offset)
            segment.size += written
            self.bytes += written
        segment.live_bytes += len(data)
        return Spooled(segment, offset, len(data))

    def remove(self, spooled: Spooled) -> None:
        """Let bytes go."""
        segment = spooled.segment
        segment.live_bytes -= spooled.size
        if segment.live_bytes == 0 and segment in self._segments:
            self._segments.remove(segment)
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
        self.bytes = 0
