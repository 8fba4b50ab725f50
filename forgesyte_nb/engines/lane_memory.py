"""Memory that the server and one worker share: images, what the worker is at, what was taken back, results.

A socket costs two system calls and wakes the other side for every message; what is here costs neither. The server
puts a task's image into one of `LANE_TASKS` slots. The worker writes down which task it begins and when, so that the
server knows it at any moment, also of a worker that hangs or has died. The server may recall a task that has not
begun. Results wait in a `PostBox` until the worker rings or the server looks.

Tasks are numbered from 1 as they are handed over; at most `LANE_TASKS` are unanswered, so the slot of a task is its
number modulo that. Every word has one writer. The memory is an anonymous file (`memfd_create` on Linux, elsewhere a
temporary file without a name): it is gone with the two processes.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading

from forgesyte_nb.engines.post_box import PostBox

LANE_TASKS = 8
SLOT_BYTES = 2 * 1024 * 1024
"""Only pages that were written exist, so a lane that sees small images costs little."""

_POST_BYTES = 256 * 1024
_NUMBER, _STARTED_AT, _RECALLED = 0, 1, 8  # places of 8-byte words; each side's are on cache lines of their own
_WORDS_BYTES = 128
_POST_START = mmap.PAGESIZE
_IMAGES_START = _POST_START + _POST_BYTES
_SIZE = _IMAGES_START + LANE_TASKS * SLOT_BYTES


class LaneMemory:
    """One lane's shared memory, on either side.

    Attributes:
        file: Descriptor that the worker inherits; -1 once it was closed.
        posts: Messages from the worker that travel without a system call.
    """

    def __init__(self, file: int) -> None:
        """Map the memory behind a descriptor; -1 is memory that is not shared."""
        self.file = file
        self._memory = mmap.mmap(file, _SIZE)
        self._view = memoryview(self._memory)
        self._words = self._view[:_WORDS_BYTES].cast("Q")
        self._times = self._view[:_WORDS_BYTES].cast("d")
        self.posts = PostBox(self._view[_POST_START:_IMAGES_START])
        self._fence = threading.Lock()

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
            os.ftruncate(file, _SIZE)
            return cls(file)
        except OSError:
            os.close(file)
            raise

    # Images

    def put_image(self, number: int, image: bytes) -> bool:
        """Put the image of a task into its slot; whether it fits."""
        size = len(image)
        if size > SLOT_BYTES:
            return False
        start = _IMAGES_START + number % LANE_TASKS * SLOT_BYTES
        self._memory[start : start + size] = image
        return True

    def image(self, number: int, size: int) -> bytes:
        """A copy of the image of a task."""
        start = _IMAGES_START + number % LANE_TASKS * SLOT_BYTES
        return self._memory[start : start + size]

    # What the worker is at

    def begin(self, number: int, started_at: float) -> bool:
        """The worker begins a task, unless that was recalled; whether it does.

        Args:
            number: Of the task.
            started_at: Monotonic seconds (the clock is the same in all processes).
        """
        self._times[_STARTED_AT] = started_at
        self._words[_NUMBER] = number
        with self._fence:  # its atomic instructions keep this read after that write; `recall` does likewise
            return self._words[_RECALLED + number % LANE_TASKS] != number

    def begun(self) -> tuple[int, float]:
        """Number and start of the task begun last; 0 if none was."""
        while True:
            number, started_at = self._words[_NUMBER], self._times[_STARTED_AT]
            if self._words[_NUMBER] == number and self._times[_STARTED_AT] == started_at:
                return number, started_at

    def recall(self, number: int) -> bool:
        """Take back a task; whether it certainly will not begin.

        If not, it has begun, or is about to and will be answered as recalled.
        """
        self._words[_RECALLED + number % LANE_TASKS] = number
        with self._fence:
            return self._words[_NUMBER] < number

    # The end

    def close_file(self) -> None:
        """Close the descriptor; the mapping stays."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def close(self) -> None:
        """Let the memory go."""
        self.close_file()
        self.posts.close()
        for view in (self._words, self._times, self._view):
            view.release()
        self._memory.close()
