"""One request to a kernel's server, and bytes both ways once it has become a WebSocket.

The browser's handshake is put to the kernel's server as it came, so that key, protocol version and subprotocol are
settled between those two. After "101" the relay copies bytes and understands none of them: text and binary, pings and
their pongs (the server takes those for receipts), close codes and reasons, a connection that breaks without a word,
all arrive as they were sent, and no limit but the server's own holds for a message. Each direction holds one portion
and takes the next when the other side has taken that, so a slow reader slows the writer, not the memory.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tornado.httputil import HTTPHeaders, HTTPInputError, parse_response_start_line
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.jupyter.kernel_file import KernelFile

PORTION_BYTES = 256 * 1024
ANSWER_TIMEOUT_S = 20.0
"""So long a kernel's server may take to answer; it may share its processor with a cell."""

_MOST_HEAD_BYTES = 64 * 1024
_MOST_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """The head of a response; the body is still in the stream."""

    status: int
    reason: str
    headers: HTTPHeaders
    stream: IOStream


async def ask(server: KernelFile, path: str, headers: dict[str, str]) -> Answer:
    """Put a GET to a kernel's server.

    Args:
        server: Where it is, and the secret it asks for.
        path: What to get, percent-encoded.
        headers: Besides `Host` and the secret's.

    Raises:
        ConnectionLost: If it does not answer as an HTTP server.
    """
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    host = f"[{server.address}]" if ":" in server.address else server.address
    stream = IOStream(socket.socket(family, socket.SOCK_STREAM))
    stream.set_nodelay(True)
    lines = {"Host": f"{host}:{server.port}", **headers}
    if server.secret is not None:
        lines["Authorization"] = f"Bearer {server.secret}"
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await stream.connect((server.address, server.port))
            await stream.write(request.encode())
            head = await stream.read_until(b"\r\n\r\n", max_bytes=_MOST_HEAD_BYTES)
        first, _, rest = head.decode("latin-1").partition("\r\n")
        start = parse_response_start_line(first)
        return Answer(start.code, start.reason, HTTPHeaders.parse(rest), stream)
    except BaseException as error:
        stream.close()
        if isinstance(error, TimeoutError):
            raise ConnectionLost(f"it did not answer within {ANSWER_TIMEOUT_S:g} s") from error
        if isinstance(error, (StreamClosedError, OSError)):
            raise ConnectionLost(f"{getattr(error, 'real_error', None) or error}") from error
        if isinstance(error, (HTTPInputError, UnsatisfiableReadError)):
            raise ConnectionLost("what listens there is no ForgeSyte server") from error
        raise


async def body_of(answer: Answer) -> bytes:
    """The body of a response that is no upgrade.

    Raises:
        ConnectionLost: If it does not come whole, or is too long to be a look-up's.
    """
    length = answer.headers.get("Content-Length", "0")
    if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
        raise ConnectionLost(f"its answer is said to be {length[:20]} bytes long")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await answer.stream.read_bytes(int(length))
    except TimeoutError as error:
        raise ConnectionLost(f"the rest of its answer did not come within {ANSWER_TIMEOUT_S:g} s") from error
    except StreamClosedError as error:
        raise ConnectionLost("it broke off in the midst of its answer") from error


async def splice(browser: IOStream, upstream: IOStream, moved: Callable[[], None]) -> None:
    """Copy bytes both ways until one side ends, then end the other; `moved` is called for every portion."""
    browser.set_nodelay(True)
    directions = {
        asyncio.ensure_future(_copy(browser, upstream, moved)),
        asyncio.ensure_future(_copy(upstream, browser, moved)),
    }
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        browser.close()
        upstream.close()
        await asyncio.gather(*directions, return_exceptions=True)


async def _copy(source: IOStream, target: IOStream, moved: Callable[[], None]) -> None:
    try:
        while True:
            portion = await source.read_bytes(PORTION_BYTES, partial=True)
            moved()
            await target.write(portion)
    except StreamClosedError:
        return
