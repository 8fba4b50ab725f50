"""What the server's tests share: one server for a module, and sockets that speak less than a WebSocket library."""

from __future__ import annotations

import base64
import io
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.client import parse_headers
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.logs import flush_log
from tests.conftest import PATIENCE_S, run_cell

Start = Callable[..., fs.Server]

# Plugins that several modules' cells contain.
WAITS = """
@fs.plugin(engine="threads")
def waits(frame):
    gate.wait(60)
    return {}
"""
FAILS = """
@fs.plugin
def fails(frame):
    raise ValueError("on purpose")
"""
LONG = """
@fs.plugin
def long(frame):
    return {"text": "x" * 16_000}
"""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What `waits` waits for; open at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers that live as long as the module: `start_for_module(cell, names={…}, **settings)`."""
    servers: list[fs.Server] = []

    def start(cell: str, names: dict[str, Any] | None = None, **settings: Any) -> fs.Server:
        registry = Registry()
        run_cell(cell, registry, **(names or {}))
        server = fs.Server(
            port=0,
            settings=fs.Settings(**{"workers": 2, "drain_timeout_s": 1.0, **settings}),
            plugin_registry=registry,
            log=tmp_path_factory.mktemp("log") / "server.log",
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


class RawSocket:
    """A TCP connection that says what it is told to, byte for byte."""

    def __init__(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE_S)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((host, port))
        self._unread = b""
        self.headers = Message()
        """Of the last response."""

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(
        self, path: str, headers: list[tuple[str, str]], method: str = "GET", sent: bytes = b""
    ) -> tuple[int, bytes]:
        """A request with exactly these headers; status and body (what a 101 is followed by stays unread)."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + sent)
        while b"\r\n\r\n" not in self._unread:
            self._read_more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        self.headers = parse_headers(io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n"))
        if status == 101:
            return status, b""
        while data := self.socket.recv(65536):
            self._unread += data
        return status, self._unread

    def open(self, client_id: str = "", *more: tuple[str, str]) -> RawSocket:
        """Become a WebSocket, of a client that has not been there before if none is named."""
        client_id = client_id or secrets.token_hex(8)
        port = self.socket.getpeername()[1]
        status, body = self.request(f"/ws/{client_id}", [("Host", f"localhost:{port}"), *upgrade(), *more])
        assert status == 101, body
        return self

    def send_frame(self, opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> None:
        """One WebSocket frame, right or wrong."""
        mask = os.urandom(4) if masked else b""
        if masked:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        size = struct.pack("!B", len(payload)) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
        size = bytes([size[0] | (0x80 if masked else 0)]) + size[1:]
        self.socket.sendall(bytes([(0x80 if fin else 0) | opcode]) + size + mask + payload)

    def next_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame of the server that is no ping."""
        opcode, payload = 9, b""
        while opcode == 9:
            opcode, size = self._exactly(1)[0] & 15, self._exactly(1)[0]
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            payload = self._exactly(size)
        return opcode, payload

    def close_code(self) -> int:
        """The code of the Close frame to come; what is said before it is passed over."""
        opcode, payload = self.next_frame()
        while opcode != 8:
            opcode, payload = self.next_frame()
        return int.from_bytes(payload[:2], "big")

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._read_more()
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def _read_more(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the connection ended after {self._unread!r}"
        self._unread += data


def upgrade(*subprotocols: str) -> list[tuple[str, str]]:
    """The headers that ask for a WebSocket, without Host."""
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(secrets.token_bytes(16)).decode()),
    ]
    return headers + [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] * bool(subprotocols)


@pytest.fixture
def raw() -> Iterator[Callable[..., RawSocket]]:
    """Connects: `raw(server)`; all are closed at the end."""
    opened: list[RawSocket] = []

    def connect(server: fs.Server, **options: Any) -> RawSocket:
        opened.append(RawSocket(server.port, **options))
        return opened[-1]

    yield connect
    for one in opened:
        one.socket.close()


def log_of(server: fs.Server) -> str:
    """All of a server's log, what is still to be written included."""
    flush_log(server._log)
    return Path(server.log).read_text(encoding="utf-8")
