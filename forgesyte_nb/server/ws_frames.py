"""WebSocket frames as bytes (RFC 6455 section 5.2), both ways. Sans-I/O.

Of what a client's socket brings, nearly all are messages of one frame each. `FrameReader` takes those out with one
copy; the library's parser makes three, and on a machine that is busy with plugins it is memory that costs. Everything
else it passes on to the library as it came, which parses, answers or ends it: the request of the handshake, control
frames, fragments, and whatever is against the protocol or over its limits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from websockets.frames import Frame, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the library's wheel
    from websockets.utils import apply_mask

PASSED_ON = 0
TEXT = int(Opcode.TEXT)
BINARY = int(Opcode.BINARY)

TINY_BYTES = 64
"""A frame costs some 10 µs, however little is in it: of those that hold less it is their number that counts."""

_FINAL = 0x80
_MASKED = 0x80
_MESSAGES = {_FINAL | TEXT, _FINAL | BINARY}  # without reserved bits: no extension is ever negotiated here
_OPCODES = frozenset(map(int, Opcode))
_MASK_BYTES = 4
_MOST_TINY_FRAGMENTS = 1024
_END_OF_REQUEST = b"\r\n\r\n"
_SHORT = struct.Struct("!BB")
_MIDDLE = struct.Struct("!BBH")
_LONG = struct.Struct("!BBQ")


class FrameReader:
    """Cuts what one client sends.

    Frames, pings too, are kept back until `open`, or the end: a client need not wait for the answer to its handshake.
    """

    __slots__ = ("_ended", "_fragments", "_held", "_left", "_max_bytes", "_opened", "_request")

    def __init__(self, max_bytes: int) -> None:
        """Begin with the request of the handshake.

        Args:
            max_bytes: Size of a message from which on the library is to refuse it.
        """
        self._max_bytes = max_bytes
        self._request: bytes | None = b""  # the last bytes of it; None when it is over
        self._held: bytearray | None = None  # frames that are not whole
        self._left = 0  # bytes of a frame that is passed on in parts
        self._fragments = False
        self._opened = False
        self._ended = False

    @property
    def early_bytes(self) -> int:
        """Size of what came before `open`."""
        return len(self._held) if self._held is not None and not self._opened else 0

    def open(self) -> None:
        """Give frames out from now on."""
        self._opened = True

    def end(self) -> None:
        """Pass on all that comes from now on: the connection is closing, and the library knows how."""
        self._ended = True

    def feed(self, data: memoryview) -> Iterator[tuple[int, bytes | memoryview]]:
        """Take what was read.

        Args:
            data: As it came, cut anywhere; it is not kept.

        Yields:
            `TEXT` or `BINARY` with a message, unmasked and not checked for UTF-8, or `PASSED_ON` with bytes for the
            library, valid until the next step; in the order in which they came.
        """
        if self._request is not None:
            end = self._end_of_request(data)
            yield PASSED_ON, data[:end]
            data = data[end:]
        held = self._held
        if held is not None:
            held += data
            data = memoryview(held)
        at = 0
        if self._opened or self._ended:
            for done, kind, part in self._cut(data):
                at = done
                yield kind, part
        if held is None or at:
            # Not shortened in place: who took the last part may still hold on to it.
            self._held = bytearray(data[at:]) if at < len(data) else None

    def _end_of_request(self, data: memoryview) -> int:
        """Where in `data` the first frame begins; its length, as long as none does."""
        before = self._request or b""
        seen = before + bytes(data)
        found = seen.find(_END_OF_REQUEST)
        if found < 0:
            self._request = seen[1 - len(_END_OF_REQUEST) :]
            return len(data)
        self._request = None
        return found + len(_END_OF_REQUEST) - len(before)

    def _cut(self, view: memoryview) -> Iterator[tuple[int, int, bytes | memoryview]]:
        """Frames, as far as they are whole or passed on; with each, how much of `view` is done with."""
        end = len(view)
        passed, at = 0, min(self._left, end)
        self._left -= at
        while end - at >= _SHORT.size and not self._ended:
            first, second = view[at], view[at + 1]
            if first & 0x0F not in _OPCODES or not second & _MASKED:
                self._ended, at = True, end  # the library refuses that without its length
                break
            size, start = second & 0x7F, at + _SHORT.size
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(view[at + 2 : start], "big")
            if start > end:
                break
            start += _MASK_BYTES
            if first in _MESSAGES and size <= self._max_bytes and not self._fragments:
                if passed < at:
                    yield at, PASSED_ON, view[passed:at]
                    passed = at
                    continue  # that may have been the end
                if end - start < size:
                    break
                passed = at = start + size
                yield at, first & 0x0F, apply_mask(view[start:at], bytes(view[start - _MASK_BYTES : start]))
            else:
                self._fragments = self._goes_on(first)
                at, self._left = min(start + size, end), max(start + size - end, 0)
        if self._ended:
            at = end
        if passed < at:
            yield at, PASSED_ON, view[passed:at]

    def _goes_on(self, first: int) -> bool:
        """Whether a message in fragments is under way after a frame with this first byte."""
        if first & 0x08:
            return self._fragments  # control frames may come between
        return not first & _FINAL


class Fragments:
    """A message whose frames come one by one, as the library parses them.

    Attributes:
        binary: Whether it is a binary one.
        too_many: Why it must not go on; empty as long as it may.
    """

    __slots__ = ("_count", "_parts", "binary", "too_many")

    def __init__(self) -> None:
        """Made without a message."""
        self._parts, self._count = bytearray(), 0  # fragments may be tiny: an object each would add up
        self.binary = False
        self.too_many = ""

    def begin(self, frame: Frame) -> None:
        """Take the first."""
        self._parts, self._count = bytearray(frame.data), 1
        self.binary = frame.opcode is Opcode.BINARY

    def add(self, frame: Frame) -> bytes | None:
        """Take the next; the message, if that was the last."""
        self._parts += frame.data
        self._count += 1
        if self._count > _MOST_TINY_FRAGMENTS + 2 * len(self._parts) // TINY_BYTES:
            self.too_many = f"{self._count} fragments, most of them tiny"
        if not frame.fin:
            return None
        whole, self._parts = bytes(self._parts), bytearray()
        return whole


def frames_of(messages: list[bytes], opcode: Opcode = Opcode.TEXT) -> bytes:
    """Messages as unmasked, unfragmented frames, ready for one write.

    The library's own way costs 3 µs a message; no extension is ever negotiated here, so there is nothing else to do.
    """
    parts: list[bytes] = []
    first = _FINAL | opcode
    for message in messages:
        length = len(message)
        if length < 126:
            parts.append(_SHORT.pack(first, length))
        elif length < 65536:
            parts.append(_MIDDLE.pack(first, 126, length))
        else:
            parts.append(_LONG.pack(first, 127, length))
        parts.append(message)
    return b"".join(parts)


def ping_of(payload: bytes) -> bytes:
    """A ping with at most 125 bytes in it."""
    return _SHORT.pack(_FINAL | Opcode.PING, len(payload)) + payload
