"""The private language between the server and its worker processes, over a socket pair. Sans-I/O.

A message is a head of nine bytes (length of the body and of the tail, 32-bit little-endian, and a kind), a body in
MessagePack, and a tail of raw bytes: the image of a task, the JSON of a result, the pickle of a plugin.

Tasks are numbered from 1, and every message about one says its number and when it began.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec

_HEAD = struct.Struct("<IIB")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Kind(IntEnum):
    """What a message is.

    To the worker: SETTINGS (limits), LOAD (tail: a pickled `Payload`), TASK (number, whether its start is news, plugin,
    revision, origin (frame_id, stream_key, seq, captured_at, time_s), options, place and size of its image in the
    lane's memory, `RawFormat` of raw pixels; tail: the image, if its place is -1), FORGET (a prefix of stream keys),
    CANCELLED (number), UNLOAD (name, revisions to keep).
    From the worker: READY, LOADED (name, revision, error code, message, detail; code is empty if it went well),
    UNLOADED (name), RENEW (why: a plugin needs a new process, and this one ends), LOG (plugin, text). Those about a
    task begin with its number and its start in monotonic seconds: STARTED, PROGRESS (percent), RESULT (decode_ms,
    plugin_ms, output; tail: JSON), FAILED (decode_ms, plugin_ms, output, code, message, detail).
    Never sent: GARBLED (why), what an inbox says of bytes that are no message.
    """

    SETTINGS = 1
    LOAD = 2
    TASK = 3
    FORGET = 4
    CANCELLED = 5
    UNLOAD = 6
    READY = 10
    LOADED = 11
    STARTED = 12
    PROGRESS = 13
    LOG = 14
    RESULT = 15
    FAILED = 16
    UNLOADED = 17
    RENEW = 18
    GARBLED = 20


def message(kind: Kind, body: Any = None, tail: bytes | memoryview = b"") -> bytes:
    """One message as bytes."""
    encoded = _encoder.encode(body)
    return b"".join((_HEAD.pack(len(encoded), len(tail), kind), encoded, tail))


_KINDS = frozenset(Kind)
_MAX_BODY_BYTES = 1 << 29  # less than any four characters of text are as a number


class Inbox:
    """Bytes in, messages out."""

    __slots__ = ("_missing", "_parts")

    def __init__(self) -> None:
        """Make an empty one."""
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes | memoryview) -> list[tuple[int, Any, bytes]]:
        """Add bytes as they came, and take out what is complete: kind, body and tail of each message."""
        if self._parts:
            # A large message comes in many pieces: they are joined once, when it is complete.
            self._parts.append(bytes(data))
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
        view = memoryview(data)
        messages: list[tuple[int, Any, bytes]] = []
        start, size = 0, len(view)
        while size - start >= _HEAD.size:
            body_length, tail_length, kind = _HEAD.unpack_from(view, start)
            if kind not in _KINDS or body_length >= _MAX_BODY_BYTES:  # or it would wait for what never comes
                messages.append((Kind.GARBLED, f"no message begins with {bytes(view[start : start + 16])!r}", b""))
                return messages
            tail_start = start + _HEAD.size + body_length
            end = tail_start + tail_length
            if end > size:
                break
            try:
                body = _decoder.decode(view[start + _HEAD.size : tail_start])
            except Exception as error:  # noqa: BLE001 -- a plugin wrote to the socket; what came before it counts
                messages.append((Kind.GARBLED, str(error), b""))
                return messages
            messages.append((kind, body, bytes(view[tail_start:end]) if tail_length else b""))
            start = end
        if start < size:
            rest = bytes(view[start:])
            self._parts.append(rest)
            self._missing = _length_of(rest) - len(rest)
        return messages


def _length_of(begun: bytes) -> int:
    """Length of a message as far as its beginning tells."""
    if len(begun) < _HEAD.size:
        return _HEAD.size
    body_length, tail_length, _ = _HEAD.unpack_from(begun)
    return int(_HEAD.size + body_length + tail_length)
