"""A queue of bytes in shared memory, from one process to another: one writes, one reads, neither waits.

Two counters that only grow say how much was ever put in and taken out; what lies between them is in the box, which
is used round and round. Bytes are written before the counter that makes them visible, so whoever dies in the
middle of it leaves nothing half said.
"""

from __future__ import annotations

_PUT, _TAKEN = 0, 8  # places of the 8-byte counters, on cache lines of their own
_HEAD_BYTES = 128


class PostBox:
    """One of its two sides; each keeps to its own methods."""

    def __init__(self, memory: memoryview) -> None:
        """Use memory that is all zeros, or that the other side has begun to use."""
        self._memory = memory
        self._counters = memory[:_HEAD_BYTES].cast("Q")
        self._box = memory[_HEAD_BYTES:]
        self._size = len(self._box)

    # Who writes

    def put(self, data: bytes) -> bool:
        """Put bytes in; False if there is no room for them."""
        counters, size = self._counters, self._size
        put = counters[_PUT]
        length = len(data)
        if length > size - (put - counters[_TAKEN]):
            return False
        start = put % size
        first = min(length, size - start)
        self._box[start : start + first] = data[:first]
        if first < length:
            self._box[: length - first] = data[first:]
        counters[_PUT] = put + length
        return True

    @property
    def is_empty(self) -> bool:
        """Whether all was taken out."""
        return self._counters[_PUT] == self._counters[_TAKEN]

    # Who reads

    def take(self) -> bytes:
        """Take out all there is."""
        counters, size = self._counters, self._size
        taken, put = counters[_TAKEN], counters[_PUT]
        if taken == put:
            return b""
        start, length = taken % size, put - taken
        data = bytes(self._box[start : start + length])
        if len(data) < length:
            data += self._box[: length - len(data)]
        counters[_TAKEN] = put
        return data

    def close(self) -> None:
        """Let the memory go."""
        for view in (self._counters, self._box, self._memory):
            view.release()
