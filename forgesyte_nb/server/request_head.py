"""The head of a request that announces a body. Sans-I/O.

The WebSocket library closes the connection without an answer where a request has a body. The headers that announce one
are taken out of the head, and the body is dropped, so that the server can answer. One connection takes one request:
what follows it is never read as another.

Source: RFC 9112 section 6 (`Content-Length`, `Transfer-Encoding`).
"""

from __future__ import annotations

import re

_MAX_BYTES = 64 * 1024
_NOTHING = memoryview(b"")
_NO_REQUEST = memoryview(b"\r\n")
_END = b"\r\n\r\n"
_BODY_HEADER = re.compile(rb"\r\n(?:content-length|transfer-encoding):[^\r\n]*", re.IGNORECASE)
_NO_BODY = re.compile(rb"\r\ncontent-length:[ \t]*0[ \t]*", re.IGNORECASE)


class RequestHead:
    """Collects the head of one request.

    Attributes:
        has_body: True if the head announces a body.
        too_large: True if it is over 64 KiB; the library would keep 1 MiB of each that is not complete.
    """

    def __init__(self) -> None:
        """Begin with the first byte of a connection."""
        self.has_body = self.too_large = False
        self._head: bytearray | None = bytearray()

    def feed(self, data: memoryview) -> memoryview:
        """Take what was read.

        Args:
            data: As it came, cut anywhere; it is not kept.

        Returns:
            What the library is to read: nothing until the head is complete, nothing of a body, all else as it came.
            In place of a head that is too large, a line that it refuses.
        """
        if self._head is None:
            return _NOTHING if self.has_body or self.too_large else data
        searched_from = max(0, len(self._head) - len(_END) + 1)
        self._head += data
        end = self._head.find(_END, searched_from)
        self.too_large = (end if end >= 0 else len(self._head)) > _MAX_BYTES
        if self.too_large:
            self._head = None
            return _NO_REQUEST
        if end < 0:
            return _NOTHING
        whole, self._head = memoryview(self._head), None
        lines = bytes(whole[:end])
        self.has_body = any(_NO_BODY.fullmatch(line) is None for line in _BODY_HEADER.findall(lines))
        return memoryview(_BODY_HEADER.sub(b"", lines) + _END) if self.has_body else whole
