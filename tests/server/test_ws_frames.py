"""WebSocket frames cut by `FrameReader`, held against the library's own parser."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from forgesyte_nb.server.ws_frames import BINARY, PASSED_ON, TEXT, FrameReader, frames_of

REQUEST = (
    b"GET /ws/c HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMIT = 1000


def masked(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    return bytes(Frame(Opcode(opcode), payload, final).serialize(mask=True))


def reader(*, opened: bool = True) -> FrameReader:
    """One that has seen the request."""
    made = FrameReader(LIMIT)
    assert fed(made, REQUEST) == [(PASSED_ON, REQUEST)]
    if opened:
        made.open()
    return made


def fed(to: FrameReader, *reads: bytes) -> list[tuple[int, bytes]]:
    """What it gives out, with what is passed on in a row as one."""
    parts: list[tuple[int, bytes]] = []
    for read in reads:
        for kind, part in to.feed(memoryview(read)):
            if kind == PASSED_ON and parts and parts[-1][0] == PASSED_ON:
                part = parts.pop()[1] + part
            parts.append((kind, bytes(part)))
    return parts


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_one_frame_is_taken_out(size: int, opcode: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    assert fed(reader(), masked(payload, opcode)) == [(opcode, payload)]


def test_a_message_longer_than_65535_bytes_is_taken_out() -> None:
    large = FrameReader(1 << 20)
    large.open()
    assert fed(large, REQUEST + masked(b"x" * 70_000)) == [(PASSED_ON, REQUEST), (TEXT, b"x" * 70_000)]


@pytest.mark.parametrize(
    "frame",
    [
        masked(b"are you there?", Opcode.PING),
        masked(b"", Opcode.PONG),
        masked(b"\x03\xe8", Opcode.CLOSE),
        masked(b"x" * (LIMIT + 1)),
        b"\x81\x01x",  # not masked
        b"\xc1" + masked(b"compressed")[1:],
        b"\x83" + masked(b"unknown opcode")[1:],
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # a length that no message has
        masked(b"one", final=False) + masked(b"two", Opcode.CONT),
        masked(b"one", final=False) + masked(b"", Opcode.PING) + masked(b"not a continuation"),
    ],
)
def test_the_rest_is_the_librarys(frame: bytes) -> None:
    assert fed(reader(), frame) == [(PASSED_ON, frame)]


@pytest.mark.parametrize("start", [b"\x81\x7e\x03", b"\x83\xff"])
def test_what_no_server_takes_is_passed_on_before_its_length_is_known(start: bytes) -> None:
    assert fed(reader(), start) == [(PASSED_ON, start)]


def test_after_the_last_fragment_messages_are_taken_out_again() -> None:
    fragments = masked(b"one", final=False) + masked(b"two", Opcode.CONT)
    assert fed(reader(), fragments + masked(b"three")) == [(PASSED_ON, fragments), (TEXT, b"three")]


def test_a_frame_for_the_library_is_passed_on_before_it_is_whole() -> None:
    whole = masked(b"x" * (LIMIT + 1))
    assert fed(reader(), whole[:100]) == [(PASSED_ON, whole[:100])], "its length alone is too much"


def test_frames_wait_until_it_is_opened() -> None:
    early = reader(opened=False)
    message, ping = masked(b"hello"), masked(b"?", Opcode.PING)
    assert fed(early, message[:4], message[4:] + ping) == []
    assert early.early_bytes == len(message + ping)
    early.open()
    assert fed(early, b"") == [(TEXT, b"hello"), (PASSED_ON, ping)]
    assert early.early_bytes == 0


def test_at_the_end_everything_is_passed_on() -> None:
    ending = reader()
    frame, late = masked(b"cut in two"), masked(b"late")
    assert fed(ending, frame[:5]) == []
    ending.end()
    assert fed(ending, frame[5:], late) == [(PASSED_ON, frame + late)]


def test_what_follows_a_close_frame_in_one_read_is_passed_on() -> None:
    ending = reader()
    close, late = masked(b"\x03\xe8", Opcode.CLOSE), masked(b"late")
    parts = []
    for kind, part in ending.feed(memoryview(masked(b"first") + close + late)):
        parts.append((kind, bytes(part)))
        if kind == PASSED_ON:
            ending.end()
    assert parts == [(TEXT, b"first"), (PASSED_ON, close), (PASSED_ON, late)]


_OPCODES = [*[TEXT, BINARY, int(Opcode.CONT)] * 2, int(Opcode.PING), int(Opcode.PONG), int(Opcode.CLOSE)]
good_frames = st.builds(
    lambda opcode, final, payload: masked(payload[:125] if opcode & 8 else payload, opcode, final=final or opcode > 7),
    st.sampled_from(_OPCODES),
    st.booleans(),
    st.binary(max_size=300) | st.just(b"x" * (LIMIT + 1)),
)
streams = st.lists(st.one_of(good_frames, good_frames, good_frames, st.binary(max_size=12)), max_size=12).map(b"".join)


@given(streams, st.lists(st.integers(0, 3000), max_size=20))
def test_nothing_is_taken_differently_than_the_library_would(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reads = [stream[a:b] for a, b in itertools.pairwise(bounds)]

    alone = library()
    for read in reads:
        alone.receive_data(read)
    expected = said(alone.events_received())

    ours, library_of_ours = reader(), library()
    found: list[tuple[int, bool, bytes]] = []
    for read in reads:
        for kind, part in ours.feed(memoryview(read)):
            if kind == PASSED_ON:
                library_of_ours.receive_data(bytes(part))
                found += said(library_of_ours.events_received())
            else:
                found.append((kind, True, bytes(part)))
            if library_of_ours.close_sent:
                ours.end()
    assert found == expected
    assert library_of_ours.close_sent == alone.close_sent


def library() -> ServerProtocol:
    """The library's parser, which has let the client in as soon as it asked."""
    made = ServerProtocol(max_size=LIMIT)
    made.receive_data(REQUEST)
    (request,) = made.events_received()
    assert isinstance(request, Request)
    made.send_response(made.accept(request))
    return made


def said(events: Iterable[object]) -> list[tuple[int, bool, bytes]]:
    return [(int(event.opcode), event.fin, bytes(event.data)) for event in events if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_messages_are_written_as_the_library_would(size: int) -> None:
    payload = b"y" * size
    assert frames_of([payload]) == Frame(Opcode.TEXT, payload).serialize(mask=False)
