"""The relay before a plain WebSocket server: all that either side does reaches the other, and nothing piles up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.conftest import PATIENCE_S, wait_for
from tests.jupyter.conftest import ROOT, TOKEN, Jupyter, Kernel
from tests.jupyter.stub import PORTION, STALLED_S

MIB = 1024 * 1024
TOKEN_HEADER = {"Authorization": f"token {TOKEN}"}
PORTIONS = 1024
"""64 MiB: more than the sockets' own buffers hold."""


@pytest.fixture(scope="module", autouse=True)
def stub(kernel: Kernel) -> None:
    kernel.run(f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.jupyter.stub import Stub; stub = Stub()")


@pytest.fixture
async def client(kernel: Kernel) -> AsyncIterator[ClientConnection]:
    async with _connect(kernel) as connection:
        yield connection


def _connect(kernel: Kernel, **options: Any) -> Any:
    more = {"proxy": None, "max_size": None, "ping_interval": None, "max_queue": 4, **options}
    return connect(kernel.ws, **{"additional_headers": TOKEN_HEADER, **more})


def closes(kernel: Kernel) -> list[Any]:
    """How connections ended at the stub since this was last asked."""
    said: list[Any] = json.loads(kernel.run("import json; print(json.dumps(stub.closes)); stub.closes.clear()"))
    return said


async def test_text_and_binary_stay_what_they_are(client: ClientConnection) -> None:
    for message in ("grüße", b"\x00\xff", "", b"", "x" * 12 * MIB, b"y" * (20 * MIB)):
        await client.send(message)
        assert await client.recv() == message


async def test_fragments_make_one_message(client: ClientConnection) -> None:
    await client.send(["a", "b", "c"])
    assert await client.recv() == "abc"


async def test_close_codes_both_ways(kernel: Kernel) -> None:
    await asyncio.to_thread(closes, kernel)
    async with _connect(kernel) as client:
        await client.close(4001, "the page says goodbye")
    assert await _told(kernel) == [4001, "the page says goodbye"]
    async with _connect(kernel) as client:
        await client.send("close")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4002, "the stub says goodbye")
    assert await _told(kernel) == [4002, "the stub says goodbye"]


async def _told(kernel: Kernel) -> Any:
    return (await asyncio.to_thread(wait_for, lambda: closes(kernel), "the stub to see the end"))[0]


async def test_a_connection_that_breaks_is_no_goodbye(kernel: Kernel) -> None:
    await asyncio.to_thread(closes, kernel)
    async with _connect(kernel) as client:
        await client.send("break")
        with pytest.raises(ConnectionClosed) as broken:
            await client.recv()
        assert broken.value.rcvd is None
    await _told(kernel)
    async with _connect(kernel) as client:
        client.transport.abort()
    assert (await _told(kernel))[0] == 1006  # a Close frame would have ended the session


async def test_the_handshake_is_between_the_two_ends(kernel: Kernel) -> None:
    async with _connect(kernel, subprotocols=["forgesyte.token.secret", "forgesyte.v2", "other"]) as client:
        assert client.subprotocol == "forgesyte.v2"
        assert not client.protocol.extensions  # offered by this client, wanted by the stub, dropped by the relay
    headers = json.loads(await asyncio.to_thread(kernel.run, "print(json.dumps(stub.headers[-1]))"))
    port = json.loads(await asyncio.to_thread(kernel.run, "print(stub.port)"))
    assert headers.pop("Sec-WebSocket-Key")
    assert headers == {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "forgesyte.v2, other",
    }


def test_neither_side_sees_the_others_cookies(jupyter: Jupyter, kernel: Kernel) -> None:
    status, headers, body = jupyter.request(
        f"{kernel.way}/look?token={TOKEN}", headers={"Cookie": jupyter.cookie(), "X-Mine": "mine"}
    )
    assert (status, body) == (200, b"seen")
    assert "stolen" not in str(headers)
    seen = json.loads(kernel.run("print(json.dumps(stub.headers[-1]))"))
    assert set(seen) == {"Host"}


async def test_pings_are_answered_by_the_page_alone(jupyter: Jupyter, kernel: Kernel) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", jupyter.port)
    path = f"/user/someone{kernel.way}/ws/raw"
    head = {
        "Host": f"127.0.0.1:{jupyter.port}",
        **TOKEN_HEADER,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]

    def say(opcode: Opcode, payload: bytes) -> None:
        writer.write(Frame(opcode, payload).serialize(mask=True))

    async def hear() -> tuple[int, bytes]:
        first, length = await reader.readexactly(2)
        return first & 0x0F, await reader.readexactly(length)

    async with asyncio.timeout(PATIENCE_S):
        writer.write("\r\n".join(lines).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        say(Opcode.TEXT, b"ping")
        assert await hear() == (Opcode.PING, b"receipt 7")
        say(Opcode.TEXT, b"pong?")
        assert await hear() == (Opcode.TEXT, b"no")  # a relay's own pong would have come before the question
        say(Opcode.PONG, b"receipt 7")
        say(Opcode.TEXT, b"pong?")
        assert await hear() == (Opcode.TEXT, b"yes")
        say(Opcode.PING, b"mine")
        assert await hear() == (Opcode.PONG, b"mine")
    writer.close()
    await writer.wait_closed()


async def test_a_page_that_does_not_read_slows_the_server(jupyter: Jupyter, kernel: Kernel) -> None:
    before = psutil.Process(jupyter.process.pid).memory_info().rss
    async with _connect(kernel) as client:
        await client.send(f"flood {PORTIONS}")
        stalled = await asyncio.to_thread(
            wait_for, lambda: json.loads(kernel.run("print(json.dumps(stub.stalled))")), "the stub to be held up"
        )
        assert 0 < stalled < PORTIONS // 2
        assert psutil.Process(jupyter.process.pid).memory_info().rss - before < 16 * MIB
        for _ in range(PORTIONS):
            assert await client.recv() == PORTION


async def test_a_server_that_does_not_read_slows_the_page(jupyter: Jupyter, kernel: Kernel) -> None:
    before = psutil.Process(jupyter.process.pid).memory_info().rss
    async with _connect(kernel) as client:
        await client.send("wait")
        sent = 0
        while True:
            sending = asyncio.ensure_future(client.send(PORTION))
            sent += 1
            if not (await asyncio.wait({sending}, timeout=STALLED_S))[0]:
                break
            assert sent < PORTIONS
        assert psutil.Process(jupyter.process.pid).memory_info().rss - before < 16 * MIB
        await asyncio.to_thread(kernel.run, "stub.go_on()")
        await sending
        await client.send("received?")
        assert await client.recv() == str(sent)


async def test_nothing_stays_open(jupyter: Jupyter, kernel: Kernel) -> None:
    process = psutil.Process(jupyter.process.pid)
    port = json.loads(await asyncio.to_thread(kernel.run, "print(stub.port)"))

    def open_to_stub() -> int:
        return sum(1 for one in process.net_connections("tcp") if one.raddr and one.raddr.port == port)

    async with _connect(kernel):
        assert open_to_stub() > 0
    await asyncio.to_thread(wait_for, lambda: open_to_stub() == 0, "the relay to let go of the stub")
    with socket.create_connection(("127.0.0.1", jupyter.port)) as page:  # gone before it has an answer
        page.sendall(f"GET /user/someone{kernel.way}/look HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode())
        page.sendall(f"Authorization: token {TOKEN}\r\n\r\n".encode())
    await asyncio.to_thread(wait_for, lambda: open_to_stub() == 0, "the relay to let go of the stub")
