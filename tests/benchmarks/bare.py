"""(a) The limit: the fastest bare `websockets` server, which decodes a message and answers with a constant.

No plugin, no job, no error handling. Chosen by processor time per message: `recv(decode=False)` over `async for`
(which makes a `str` first), `image_data` as `Raw` over `str` (no copy of 63 KB), pybase64 with `validate=True` over
without (which looks for characters to skip), asyncio's own loop (uvloop gained nothing: the kernel copies), and the
library's default queue. `/ws/fan_…` is for the fan-out: such connections hear of every message, by
`websockets.broadcast`.
"""

from __future__ import annotations

import asyncio

import msgspec
import pybase64
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.child import say, until_stdin_closes

REPLY = (
    '{"type":"frame_result","frame_id":"frame_0000","job_id":"job_0","plugin":"noop","status":"success",'
    '"result":{"ok":true},"processing_time_ms":0.0,"timestamp":"2026-01-11T17:30:45.123456Z"}'
)


class SendFrame(msgspec.Struct, tag_field="type", tag="send_frame"):
    """The one message that matters here."""

    frame_id: str
    plugin: str
    image_data: msgspec.Raw
    options: msgspec.Raw = msgspec.Raw(b"{}")


_listeners: set[ServerConnection] = set()


async def _answer(connection: ServerConnection) -> None:
    decode = msgspec.json.Decoder(SendFrame).decode
    b64decode, receive, send = pybase64.b64decode, connection.recv, connection.send
    try:
        while True:
            message = decode(await receive(decode=False))
            b64decode(memoryview(message.image_data)[1:-1], validate=True)
            await send(REPLY)
    except ConnectionClosed:
        pass


async def _fan_out(connection: ServerConnection) -> None:
    _listeners.add(connection)
    try:
        while True:
            await connection.recv(decode=False)
            broadcast(_listeners, REPLY)
    except ConnectionClosed:
        pass
    finally:
        _listeners.discard(connection)


async def _serve(connection: ServerConnection) -> None:
    fan_out = connection.request is not None and connection.request.path.startswith("/ws/fan_")
    await (_fan_out if fan_out else _answer)(connection)


async def main() -> None:
    """Serve until stdin is closed."""
    async with serve(
        _serve, "127.0.0.1", 0, compression=None, max_size=1 << 24, ping_interval=None, backlog=4096
    ) as server:
        say(port=server.sockets[0].getsockname()[1])
        await until_stdin_closes()


if __name__ == "__main__":
    asyncio.run(main())
