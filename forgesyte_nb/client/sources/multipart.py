"""Cameras that send `multipart/x-mixed-replace` over HTTP: one request, a picture for each part.

The pictures travel on as the camera made them. Parsing is tolerant, as cameras are not: parts with and without
Content-Length, empty lines in front of a boundary, boundaries that differ from the one announced.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse

from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.settings import Settings

_MOST_PART_BYTES = 64 * 1024 * 1024
_MOST_HEADERS = 100
_HEADERS = ("content-length", "content-type")
_LENGTH = re.compile("[0-9]{1,12}")
_CHUNK_BYTES = 64 * 1024


class MultipartConnection:
    """An HTTP answer of many parts; see `live.Connection`."""

    fps: float | None = None

    def __init__(self, response: HTTPResponse, *, silence_s: float) -> None:
        """Read `response`; after `silence_s` without a picture the connection counts as broken."""
        self._response, self._silence_s = response, silence_s
        self._buffer = bytearray()
        self._boundary = b""
        self._due_at = 0.0

    def pictures(self) -> Iterator[Frame | None]:
        """Pictures as they come; None for a part that is a damaged picture or over the limit of pixels."""
        self._await_picture()
        while (part := self._next_part()) is not None:
            kind, content = part
            if kind.startswith("image/") or kind in ("", "application/octet-stream"):
                yield _decoded(content)
                self._await_picture()

    def _await_picture(self) -> None:
        self._due_at = time.monotonic() + self._silence_s

    def _next_part(self) -> tuple[str, bytes] | None:
        """Content type and content of a part; None at the end."""
        while True:
            line = self._line()
            if line is None:
                return None
            if line.startswith(b"--"):
                break
        stripped = line.rstrip()
        if self._boundary and stripped == self._boundary + b"--":
            return None
        self._boundary = stripped
        headers = self._headers()
        if headers is None:
            return None
        length = headers.get("content-length", "")
        content = self._exactly(int(length)) if _LENGTH.fullmatch(length) else self._until_boundary()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return None if content is None else (kind, content)

    def _headers(self) -> dict[str, str] | None:
        headers: dict[str, str] = {}
        for _ in range(_MOST_HEADERS):
            line = self._line()
            if line is None:
                return None
            if not line.strip():
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            if (name := name.strip().lower()) in _HEADERS:
                headers[name] = value.strip()
        raise SourceError("it sends headers without end, no pictures")

    def _line(self) -> bytes | None:
        return self._take_through(b"\n", 0)

    def _until_boundary(self) -> bytes | None:
        mark = b"\n" + self._boundary
        found = self._take_through(mark, len(mark) - 1)
        return None if found is None else found[:-1].removesuffix(b"\r")

    def _take_through(self, mark: bytes, keep: int) -> bytes | None:
        """Bytes up to and with a mark, of which the last `keep` stay; None at the end."""
        looked = 0
        while (at := self._buffer.find(mark, looked)) < 0:
            looked = max(0, len(self._buffer) - len(mark) + 1)
            if not self._fill():
                return None
        return self._cut(at + len(mark) - keep)

    def _exactly(self, length: int) -> bytes | None:
        while len(self._buffer) < length:
            if length > _MOST_PART_BYTES:
                raise SourceError(f"it announces a picture of {length:,} bytes; {_MOST_PART_BYTES:,} are allowed")
            if not self._fill():
                return None
        return self._cut(length)

    def _cut(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _fill(self) -> bool:
        """Read what is there, waiting for something; False at the end."""
        if len(self._buffer) > _MOST_PART_BYTES:
            raise SourceError(f"it sends no boundary within {_MOST_PART_BYTES:,} bytes")
        reason = ""
        try:
            data = self._response.read1(_CHUNK_BYTES)
        except TimeoutError:
            reason = self._silence()
        except (OSError, HTTPException, ValueError) as error:
            reason = f"the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})"
        if not reason and time.monotonic() > self._due_at:
            reason = self._silence()
        if reason:
            raise SourceError(reason)
        self._buffer += data
        return bool(data)

    def _silence(self) -> str:
        return f"it was silent: no picture for {self._silence_s:g} s"

    def interrupt(self) -> None:
        """End the connection under a reader that waits."""
        try:
            with socket.socket(fileno=os.dup(self._response.fileno())) as reached:
                reached.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass  # it is closed already

    def close(self) -> None:
        """Close the connection."""
        self._response.close()


def _decoded(content: bytes) -> Frame | None:
    try:
        frame = Frame(content, max_pixels=Settings.max_image_pixels)
        frame.rgb  # noqa: B018 -- its header may pass though its data are damaged
    except InvalidImage:
        return None
    return frame
