"""Memory that the server and one worker share, so that an image is not pushed through a socket.

Two slots, used in turn: a lane never has more than two jobs, and they are answered in order, so a slot is free
again when its turn comes. The memory is an anonymous file (`memfd_create`, Linux): it has no name that could be left
behind, and it is gone with the two processes. Where there is no such thing, or an image is larger than a slot, the
image travels in the message. Sans-I/O beyond the mapping itself.
"""

from __future__ import annotations

import mmap
import os

SLOTS = 2
SLOT_BYTES = 2 * 1024 * 1024
"""Only pages that were written exist, so a lane that sees small images costs little."""


class ImageSlots:
    """One lane's shared memory, on either side.

    Attributes:
        file: Descriptor that the worker inherits; -1 where there is no shared memory.
    """

    def __init__(self, file: int) -> None:
        """Map the memory behind a descriptor."""
        self.file = file
        self._memory = mmap.mmap(file, SLOTS * SLOT_BYTES) if file >= 0 else None
        self._next = 0

    @classmethod
    def create(cls) -> ImageSlots:
        """New memory, or none where the system has no anonymous files."""
        if not hasattr(os, "memfd_create"):
            return cls(-1)
        file = os.memfd_create("forgesyte-images", os.MFD_CLOEXEC)
        os.ftruncate(file, SLOTS * SLOT_BYTES)
        return cls(file)

    def put(self, image: bytes) -> int:
        """Put an image into the next slot.

        Returns:
            The slot; -1 if the image must travel otherwise.
        """
        size = len(image)
        if self._memory is None or size > SLOT_BYTES:
            return -1
        slot = self._next
        self._next = (slot + 1) % SLOTS
        start = slot * SLOT_BYTES
        self._memory[start : start + size] = image
        return slot

    def get(self, slot: int, size: int) -> bytes:
        """A copy of what is in a slot."""
        if self._memory is None:
            raise ValueError("an image in a slot, and no shared memory")
        start = slot * SLOT_BYTES
        return self._memory[start : start + size]

    def close_file(self) -> None:
        """Close the descriptor; the mapping stays."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def close(self) -> None:
        """Let the memory go."""
        self.close_file()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
