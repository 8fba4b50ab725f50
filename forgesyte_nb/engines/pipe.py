"""The private language between the server and its worker processes, over a socket pair. Sans-I/O.

A message is a head of nine bytes (length of the body and of the tail, 32-bit little-endian, and a kind), a body in
MessagePack, and a tail of raw bytes: the image of a task, the JSON of a result, the pickle of a plugin. Jobs of a
lane are answered in the order in which they were handed over, so messages about them need no name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgspec

_HEAD = struct.Struct("<IIB")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Kind(IntEnum):
    """What a message is.

    To the worker: SETTINGS (limits), LOAD (tail: a pickled `Payload`), TASK (a task; tail: its image), FORGET (a
    prefix of stream keys), CANCELLED. From the worker: READY, LOADED (name, revision, error code, message, detail;
    code is empty if it went well), STARTED, PROGRESS (percent), LOG (plugin, text), RESULT (decode_ms, plugin_ms,
    output; tail: JSON), FAILED (decode_ms, plugin_ms, output, code, message, detail).
    """

    SETTINGS = 1
    LOAD = 2
    TASK = 3
    FORGET = 4
    CANCELLED = 5
    READY = 10
    LOADED = 11
    STARTED = 12
    PROGRESS = 13
    LOG = 14
    RESULT = 15
    FAILED = 16


def message(kind: Kind, body: Any = None, tail: bytes = b"") -> bytes:
    """One message as bytes."""
    encoded = _encoder.encode(body)
    return b"".join((_HEAD.pack(len(encoded), len(tail), kind), encoded, tail))


class Inbox:
    """Bytes in, messages out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        """Make an empty one."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += data

    def messages(self) -> Iterator[tuple[int, Any, bytes]]:
        """Take the complete messages out: kind, body, tail."""
        buffer = self._buffer
        start, size = 0, len(buffer)
        try:
            while size - start >= _HEAD.size:
                body_length, tail_length, kind = _HEAD.unpack_from(buffer, start)
                body_start = start + _HEAD.size
                tail_start = body_start + body_length
                end = tail_start + tail_length
                if end > size:
                    break
                body = _decoder.decode(bytes(buffer[body_start:tail_start]))
                tail = bytes(memoryview(buffer)[tail_start:end]) if tail_length else b""
                start = end
                yield kind, body, tail
        finally:
            del buffer[:start]
