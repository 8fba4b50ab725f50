"""Memory that the server and one worker share for pictures: the server copies one into it without a system call.

Each task that is under way has a place of its own, which its message names. The message travels over a socket, and that
orders what both sides do with the memory on any processor. The memory is an anonymous file (`memfd_create` on Linux,
elsewhere a temporary file without a name): it is gone with the two processes.
"""

from __future__ import annotations

import mmap
import os
import tempfile

PLACES = 8
PLACE_BYTES = 32 * 1024 * 1024
"""Raw pixels of 3840×2160 take 24 MiB. Only pages that were written exist: a lane of small pictures costs little."""


class LaneMemory:
    """One lane's shared memory, on either side.

    Attributes:
        file: Descriptor that the worker inherits; -1 once it was closed.
    """

    def __init__(self, file: int) -> None:
        """Map the memory behind a descriptor; -1 is memory that is not shared."""
        self.file = file
        self._memory = mmap.mmap(file, PLACES * PLACE_BYTES)

    @classmethod
    def create(cls) -> LaneMemory:
        """New memory.

        Raises:
            OSError: If the system has no more descriptors or memory.
        """
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("forgesyte-lane", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as nameless:
                file = os.dup(nameless.fileno())
        try:
            os.ftruncate(file, PLACES * PLACE_BYTES)
            return cls(file)
        except OSError:
            os.close(file)
            raise

    def put(self, place: int, image: bytes | memoryview) -> None:
        """Copy a picture of at most `PLACE_BYTES`, one byte an element, into a place."""
        start = place * PLACE_BYTES
        self._memory[start : start + len(image)] = image

    def get(self, place: int, size: int) -> bytes:
        """A copy of the picture in a place."""
        start = place * PLACE_BYTES
        return self._memory[start : start + size]

    def close_file(self) -> None:
        """Close the descriptor; the mapping stays."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def close(self) -> None:
        """Unmap the memory."""
        self.close_file()
        self._memory.close()
