"""The pictures of all jobs under way, bounded in bytes: in memory first, then in a temporary file, then refused.

`add` takes a picture and returns how it is kept: the bytes themselves, or a `SpooledImage` that reads them from the
file when they are wanted; `remove` lets it go. The file is a row of nameless segments, each gone when the last picture
in it is, so that a queue that never runs empty does not grow for ever. It lives as long as the process at most.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO

from forgesyte_nb.errors import QueueFull

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment takes no more pictures once it is as large."""


class _Segment:
    """One nameless temporary file."""

    __slots__ = ("file", "live_bytes", "size")

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="forgesyte-backlog-", buffering=0)  # noqa: SIM115 -- closed when its last picture goes
        self.size = 0
        self.live_bytes = 0


class SpooledImage:
    """A picture in the temporary file.

    Attributes:
        size: Bytes.
    """

    __slots__ = ("_offset", "segment", "size")

    def __init__(self, segment: _Segment, offset: int, size: int) -> None:
        """It lies in a segment from `offset` on."""
        self.segment = segment
        self._offset = offset
        self.size = size

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: If the file cannot be read.
        """
        parts, offset, missing = [], self._offset, self.size
        while missing:
            part = os.pread(self.segment.file.fileno(), missing, offset)
            if not part:
                raise OSError(f"the backlog's temporary file ends {missing} bytes early")
            parts.append(part)
            offset += len(part)
            missing -= len(part)
        return b"".join(parts)


StoredImage = bytes | SpooledImage


class Backlog:
    """Pictures of jobs under way.

    Attributes:
        memory_bytes: Of the pictures in memory.
        spooled_bytes: Of the temporary file.
    """

    def __init__(self, *, memory_limit_bytes: int, spool_limit_bytes: int) -> None:
        """Make an empty one; the file is made when it is first needed."""
        self._memory_limit_bytes = memory_limit_bytes
        self._spool_limit_bytes = spool_limit_bytes
        self._segments: list[_Segment] = []
        self.memory_bytes = 0
        self.spooled_bytes = 0

    def add(self, image: bytes) -> StoredImage:
        """Keep a picture.

        Raises:
            QueueFull: If there is no room for it, or the file cannot be written.
        """
        size = len(image)
        if self.memory_bytes + size <= self._memory_limit_bytes:
            self.memory_bytes += size
            return image
        if self.spooled_bytes + size > self._spool_limit_bytes:
            setting = "spool_bytes" if self._spool_limit_bytes else "queue_bytes"
            raise QueueFull(
                f"{self.memory_bytes / 1048576:.0f} MiB of pictures wait in memory and "
                f"{self.spooled_bytes / 1048576:.0f} MiB in a file, the limit; send on when results have come, or "
                f"raise {setting} in the server's Settings"
            )
        try:
            return self._spool(image)
        except OSError as error:
            raise QueueFull(
                f"{self.memory_bytes / 1048576:.0f} MiB of pictures wait in memory, and the temporary file for more in "
                f"{tempfile.gettempdir()} cannot be written ({error.strerror or error}); send on when results have come"
            ) from error

    def _spool(self, image: bytes) -> SpooledImage:
        if not self._segments or self._segments[-1].size >= SEGMENT_BYTES:
            self._segments.append(_Segment())
        segment = self._segments[-1]
        offset, rest = segment.size, memoryview(image)
        while rest:
            rest = rest[os.pwrite(segment.file.fileno(), rest, segment.size) :]
            written = len(image) - len(rest) - (segment.size - offset)
            segment.size += written
            self.spooled_bytes += written
        segment.live_bytes += len(image)
        return SpooledImage(segment, offset, len(image))

    def remove(self, image: StoredImage) -> None:
        """Let a picture go."""
        if isinstance(image, bytes):
            self.memory_bytes -= len(image)
            return
        segment = image.segment
        segment.live_bytes -= image.size
        if segment.live_bytes == 0:
            self._segments.remove(segment)
            self.spooled_bytes -= segment.size
            segment.file.close()

    def descriptors(self) -> list[int]:
        """Of the temporary file's segments."""
        return [segment.file.fileno() for segment in self._segments]

    def close(self) -> None:
        """Let everything go."""
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()
        self.memory_bytes = self.spooled_bytes = 0
