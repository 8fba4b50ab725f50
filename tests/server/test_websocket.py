"""Below the messages: fragments, bad UTF-8, missing masks, sizes; byte for byte on a bare TCP connection."""

from __future__ import annotations

import base64
import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from tests.conftest import Connect, wait_for
from tests.server.conftest import RawSocket, Start, log_of, upgrade

PLUGINS = """
@fs.plugin
def well(frame, *, note: str = ""):
    return {"note": note}

@fs.plugin
def large(frame, *, size: int):
    return {"text": "x" * size}
"""
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Raw = Callable[..., RawSocket]


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, engine="inline", max_message_bytes=100_000)


def frame_text(image: bytes, frame_id: str = "f", **options: Any) -> bytes:
    message = {"type": "send_frame", "frame_id": frame_id, "plugin": "well", "options": options}
    return json.dumps({**message, "image_data": base64.b64encode(image).decode()}, ensure_ascii=False).encode()


def result(raw: RawSocket) -> dict[str, Any]:
    """The next result or error."""
    while True:
        opcode, payload = raw.next_frame()
        assert opcode == TEXT, payload
        message: dict[str, Any] = json.loads(payload)
        if message["type"] != "job_update":
            return message


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_fragments_make_one_message(server: fs.Server, raw: Raw, tiny: bytes, pieces: int) -> None:
    """Cut anywhere, in the middle of a character too, with a ping between."""
    opened = raw(server).open()
    text = frame_text(tiny, note="ä€😀" * 50)
    cuts = [len(text) * piece // pieces for piece in range(pieces + 1)]
    for piece in range(pieces):
        part = text[cuts[piece] : cuts[piece + 1]]
        opened.send_frame(TEXT if piece == 0 else CONTINUED, part, fin=piece == pieces - 1)
        opened.send_frame(PING, b"still there?")
    answers = [opened.next_frame() for _ in range(pieces + 4)]
    assert answers.count((PONG, b"still there?")) == pieces
    messages = [json.loads(payload) for opcode, payload in answers if opcode == TEXT]
    assert [m["result"] for m in messages if m["type"] == "frame_result"] == [{"note": "ä€😀" * 50}]


def test_all_that_comes_right_behind_the_handshake_is_answered(server: fs.Server, raw: Raw) -> None:
    """A fast client, or one that does not wait for the server's answer, has sent much before its session is there."""
    opened = raw(server)
    lines = ["GET /ws/fast HTTP/1.1", f"Host: localhost:{server.port}", *(": ".join(header) for header in upgrade())]
    text = b'{"type": "subscribe"}'
    message = bytes([0x80 | TEXT, 0x80 | len(text)]) + bytes(4) + text
    opened.socket.sendall("\r\n".join([*lines, "", ""]).encode() + message * 3000)
    while b"\r\n\r\n" not in opened._unread:
        opened._read_more()
    opened._unread = opened._unread.partition(b"\r\n\r\n")[2]
    assert {result(opened)["error_code"] for _ in range(3000)} == {"INVALID_MESSAGE"}


@pytest.mark.parametrize("last", [bytes([0x80 | CLOSE, 0x82, 0, 0, 0, 0, 0x03, 0xE8]), bytes([0x80 | TEXT, 1, 65])])
def test_an_end_right_behind_the_handshake_is_the_end(server: fs.Server, raw: Raw, last: bytes) -> None:
    """A goodbye, or a frame that is not masked, of a peer that does not let go of the connection."""
    opened = raw(server)
    lines = ["GET /ws/brief HTTP/1.1", f"Host: localhost:{server.port}", *(": ".join(header) for header in upgrade())]
    opened.socket.sendall("\r\n".join([*lines, "", ""]).encode() + last)
    said = b""
    while data := opened.socket.recv(4096):
        said += data
    assert b"101 Switching Protocols" in said
    wait_for(lambda: server.stats()["connections"] == 0, "its session to be left")


def test_an_empty_text_is_answered(server: fs.Server, raw: Raw) -> None:
    opened = raw(server).open()
    opened.send_frame(TEXT, b"")
    assert result(opened)["error_code"] == "INVALID_MESSAGE"


@pytest.mark.parametrize("text", [b"\xff", b'{"type": "\xc3"}', b"\xed\xa0\x80", b'{"a": "\xc3\xa4\x80"}'])
@pytest.mark.parametrize("fragmented", [False, True])
def test_text_that_is_not_utf8_ends_the_connection_with_1007(
    server: fs.Server, raw: Raw, text: bytes, fragmented: bool
) -> None:
    opened = raw(server).open()
    if fragmented:
        opened.send_frame(TEXT, text[:1], fin=False)
        opened.send_frame(CONTINUED, text[1:])
    else:
        opened.send_frame(TEXT, text)
    assert opened.close_code() == 1007


def test_what_comes_after_bad_text_is_not_taken(server: fs.Server, raw: Raw, tiny: bytes) -> None:
    accepted = server.stats()["accepted"]
    opened = raw(server).open()
    opened.send_frame(TEXT, b"\xff")
    opened.send_frame(TEXT, frame_text(tiny))
    assert opened.close_code() == 1007
    assert server.stats()["accepted"] == accepted


def test_unmasked_unexpected_and_unknown_frames_end_the_connection_with_1002(server: fs.Server, raw: Raw) -> None:
    for opcode, fin, masked in ((TEXT, True, False), (CONTINUED, True, True), (3, True, True), (PING, False, True)):
        opened = raw(server).open()
        opened.send_frame(opcode, b"{}", fin=fin, masked=masked)
        assert opened.close_code() == 1002, (opcode, fin, masked)


def test_a_message_begun_within_another_ends_the_connection_with_1002(server: fs.Server, raw: Raw) -> None:
    opened = raw(server).open()
    opened.send_frame(TEXT, b"{", fin=False)
    opened.send_frame(TEXT, b"}")
    assert opened.close_code() == 1002


async def test_a_message_of_the_limit_is_taken_and_one_over_it_ends_the_connection_with_1009(
    server: fs.Server, client: Connect
) -> None:
    opened = await client(server)
    await opened.send(" " * 100_000)
    assert (await opened.terminal(None))["error_code"] == "INVALID_MESSAGE"
    await opened.send(" " * 100_001)
    with pytest.raises(ConnectionClosed):
        await opened.next()
    assert opened.socket.close_code == 1009
    assert "100000" in opened.socket.close_reason.replace(",", "").replace("_", "")


def test_fragments_that_together_are_over_the_limit_end_the_connection_with_1009(server: fs.Server, raw: Raw) -> None:
    opened = raw(server).open()
    opened.send_frame(TEXT, b" " * 60_000, fin=False)
    opened.send_frame(CONTINUED, b" " * 60_000)
    assert opened.close_code() == 1009


@pytest.mark.parametrize("size", [1, 64])
def test_a_message_may_come_in_many_fragments_that_are_not_tiny(server: fs.Server, raw: Raw, size: int) -> None:
    opened = raw(server).open()
    count = 1000 if size == 1 else 1500
    opened.send_frame(TEXT, b"{", fin=False)
    opened.socket.sendall((bytes([CONTINUED, 0x80 | size, 0, 0, 0, 0]) + b" " * size) * count)
    opened.send_frame(CONTINUED, b"}")
    assert "missing field 'type'" in result(opened)["message"]


@pytest.mark.parametrize("size", [0, 1, 20])
def test_a_message_in_very_many_tiny_fragments_ends_the_connection_with_1009(
    server: fs.Server, raw: Raw, size: int
) -> None:
    """Empty ones never reach the limit of a message; and all of them cost time out of proportion to their bytes."""
    opened = raw(server).open()
    opened.send_frame(TEXT, b"", fin=False)
    opened.send_frame(PING, b"")
    assert opened.next_frame() == (PONG, b"")
    tracemalloc.start()
    try:
        opened.socket.sendall((bytes([CONTINUED, 0x80 | size, 0, 0, 0, 0]) + b" " * size) * 3000)
        opcode, payload = opened.next_frame()
        wait_for(lambda: tracemalloc.get_traced_memory()[0] < 300_000, "what was made to read them to be freed")
    finally:
        tracemalloc.stop()
    assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1009)
    assert b"fragments, most of them tiny" in payload


def test_pings_whose_pongs_are_not_read_end_the_connection(server: fs.Server, raw: Raw) -> None:
    opened = raw(server, receive_buffer=4096).open("pinger")
    pings = (bytes([0x80 | PING, 0x80 | 125]) + bytes(4) + b"p" * 125) * 100_000
    tracemalloc.start()
    try:
        with contextlib.suppress(OSError):  # cut off in the middle, or not
            opened.socket.sendall(pings)
        assert tracemalloc.get_traced_memory()[1] < len(pings) / 2, "the pongs of all of them would be as much"
    finally:
        tracemalloc.stop()
    wait_for(lambda: "pings whose pongs are not read" in log_of(server), "the reason in the log")


async def test_a_connection_that_failed_costs_the_others_nothing(
    server: fs.Server, client: Connect, raw: Raw, tiny: bytes
) -> None:
    other = await client(server)
    opened = raw(server).open()
    opened.send_frame(TEXT, b"\xff")
    assert opened.close_code() == 1007
    assert (await other.analyze("f", tiny, "well"))["type"] == "frame_result"


async def test_what_one_was_owed_when_a_message_was_too_large_is_there_on_coming_back(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    """The server ended that connection, not the client: its session waits."""
    opened = await client(server, "large")
    opened.socket.transport.pause_reading()
    await opened.frame("before", tiny, "well")
    await opened.send(" " * 100_001)
    opened.socket.transport.resume_reading()
    await opened.socket.wait_closed()
    assert opened.socket.close_code == 1009
    again = await client(server, "large")
    assert (await again.terminal("before"))["type"] == "frame_result"


@pytest.mark.parametrize("size", [1, 100, 125, 126, 65_000, 66_000, 3_000_000])
async def test_answers_of_every_size_arrive_whole(server: fs.Server, client: Connect, tiny: bytes, size: int) -> None:
    answer = await (await client(server)).analyze("f", tiny, "large", {"size": size})
    assert answer["result"] == {"text": "x" * size}


def test_a_websocket_version_or_key_that_is_wrong_is_refused(server: fs.Server, raw: Raw) -> None:
    host = ("Host", "localhost")
    asked = [host, ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "12")]
    assert raw(server).request("/ws/x", [*asked, ("Sec-WebSocket-Key", "x")])[0] in (400, 426)
    assert raw(server).request("/ws/x", [host])[0] == 426
