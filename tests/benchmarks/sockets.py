"""A WebSocket client that costs next to nothing: a raw socket, messages made and masked before they are sent.

`Messages` is a ring of `send_frame` messages in one buffer, so that sending several is one system call without a
copy. `Connection` walks over the server's frames by the lengths in their headers and looks at a few bytes of each:
enough to tell a terminal message from a `job_update`. It speaks what servers on loopback send: unmasked, unfragmented
frames.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Sequence

MASK = b"\x5a\xc3\x17\x8e"
RING = 64
_TYPE_AT = 9  # of the first letter of the type in '{"type":"…'
_RESULT, _ERROR = ord("f"), ord("e")
_NORMAL = b"\x03\xe8"  # close code 1000
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


def masked_frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A client's WebSocket frame, final and masked (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", opcode, 0x80 | 127, size)
    key = (MASK * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + MASK + masked


class Messages:
    """A ring of `RING` ready `send_frame` messages.

    Attributes:
        frame_ids: Of the messages, in order.
        buffer: All of them, one after the other.
        starts: Where each begins, and where the last ends.
    """

    def __init__(self, plugin: str, images: Sequence[bytes]) -> None:
        """Make messages for a plugin that go through `images` again and again."""
        encoded = [base64.b64encode(image).decode() for image in images]
        self.frame_ids = [f"frame_{number:04d}" for number in range(RING)]
        parts = [
            masked_frame(
                json.dumps(
                    {
                        "type": "send_frame",
                        "frame_id": frame_id,
                        "plugin": plugin,
                        "image_data": encoded[number % len(encoded)],
                        "options": {},
                    },
                    separators=(",", ":"),
                ).encode()
            )
            for number, frame_id in enumerate(self.frame_ids)
        ]
        self.starts = [0]
        for part in parts:
            self.starts.append(self.starts[-1] + len(part))
        self.buffer = memoryview(b"".join(parts))


class Connection:
    """One client's connection.

    Attributes:
        socket: Non-blocking.
        sent: Messages handed to the socket so far, whole or in part.
        texts: Text messages received, of any type.
        ended: Terminal messages received.
        kept: Their payloads, to be looked at when time is no longer taken.
    """

    __slots__ = ("_left", "_messages", "_rest", "ended", "kept", "sent", "socket", "texts")

    def __init__(self, port: int, client_id: str, messages: Messages) -> None:
        """Connect and do the opening handshake."""
        self.socket = open_websocket(port, client_id)
        self.socket.setblocking(False)
        self._messages = messages
        self._left = memoryview(b"")
        self._rest = b""
        self.sent = 0
        self.ended = 0
        self.texts = 0
        self.kept: list[bytes] = []

    def send(self, count: int) -> bool:
        """Send the next `count` messages; False if the socket would not take all, `push` the rest later."""
        starts, first = self._messages.starts, self.sent % RING
        self.sent += count
        if not self._left and first + count <= RING:
            self._left = self._messages.buffer[starts[first] : starts[first + count]]
        else:
            ring = [number % RING for number in range(first, first + count)]
            parts = [self._messages.buffer[starts[number] : starts[number + 1]] for number in ring]
            self._left = memoryview(b"".join([self._left, *parts]))
        return self.push()

    def push(self) -> bool:
        """Send what is left; whether all of it went."""
        try:
            while self._left:
                self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            return False
        return True

    def receive(self) -> int:
        """Read what has come; the number of terminal messages among it.

        Raises:
            ConnectionError: If the server has closed the connection.
        """
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        if self._rest:
            data = self._rest + data
        at, size, count = 0, len(data), 0
        while size - at >= 4:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = data[at + 2] << 8 | data[at + 3], at + 4
            elif length == 127:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            end = start + length
            if end > size:
                break
            if data[at] == _TEXT:
                self.texts += 1
                kind = data[start + _TYPE_AT]
                if kind in (_RESULT, _ERROR):
                    self.kept.append(data[start:end])
                    count += 1
            elif data[at] == _CLOSE:
                raise ConnectionError(f"the server closed the connection: {data[start:end]!r}")
            elif data[at] == _PING:
                # Behind what is half sent, never into the middle of it.
                self._left = memoryview(bytes(self._left) + masked_frame(data[start:end], _PONG))
                self.push()
            at = end
        self._rest = data[at:]
        self.ended += count
        return count

    def close(self) -> None:
        """Say goodbye and hang up."""
        self.socket.setblocking(True)
        self.socket.settimeout(1)
        try:
            self.socket.sendall(masked_frame(_NORMAL, _CLOSE))
            # Not until the socket ends: a server that forks has given a copy of it to its children.
            while (data := self.socket.recv(65536)) and bytes((_CLOSE, len(_NORMAL))) + _NORMAL not in data:
                pass
        except OSError:
            pass  # it is closed either way
        self.socket.close()


def open_websocket(port: int, client_id: str, timeout_s: float = 30.0) -> socket.socket:
    """A blocking socket after the opening handshake with `/ws/<client_id>`.

    Raises:
        ConnectionError: If the server does not switch protocols.
    """
    opened = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.sendall(
        f"GET /ws/{client_id} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = opened.recv(1) if len(head) > 12 else opened.recv(12)
        if not byte:
            break
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        opened.close()
        raise ConnectionError(f"no WebSocket at port {port}: {head[:200]!r}")
    return opened
