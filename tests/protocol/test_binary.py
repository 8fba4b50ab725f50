"""Binary messages of `forgesyte.v2`: a length, a JSON header, the image."""

from __future__ import annotations

import struct

import pytest

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.protocol import wire

HEADER = b'{"type":"send_frame","frame_id":"f","plugin":"p"}'


def binary(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<I", len(header) if length is None else length) + header + payload


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"{}" * 4000])
def test_the_payload_is_the_image(payload: bytes) -> None:
    assert wire.decode_client_binary(binary(HEADER, payload)).image == payload
    header = {"type": "send_frame", "frame_id": "f", "plugin": "p", "stream_id": "s"}
    ours = wire.encode_binary(header, payload)
    assert wire.decode_client_binary(ours) == wire.IncomingFrame("f", "p", b"{}", "s", payload)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter than its 4-byte"),
        (b"\x01\x00\x00", "shorter than its 4-byte"),
        (binary(HEADER, length=len(HEADER) + 1), "goes past its end"),
        (binary(HEADER, length=0xFFFFFFFF), "goes past its end"),
        (binary(b""), "not JSON"),
        (binary(HEADER, length=len(HEADER) - 1), "not JSON"),
        (binary(b"\xff\xfe"), "not JSON"),
        (binary(b"[]"), "this is an array"),
        (binary(b'{"type":"send_frame","frame_id":"f"}'), "missing field 'plugin'"),
        (binary(b'{"type":"send_frame","frame_id":1,"plugin":"p"}'), "'frame_id' must be a string, not a number"),
        (binary(HEADER[:-1] + b',"options":null}'), "'options' must be an object, not null"),
        (binary(HEADER[:-1] + b',"options":1e999}'), "'options' must be an object, not a number"),
        (binary(b'{"type":"subscribe","topic":"all"}'), "carry 'send_frame' only"),
    ],
)
def test_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        wire.decode_client_binary(data)
    assert reason in str(caught.value)


def test_the_header_of_a_refused_message_still_names_its_frame() -> None:
    assert wire.frame_id_of(wire.header_of(binary(b'{"type":"send_frame","frame_id":"f"}', b"\xff\xd8"))) == "f"
    assert wire.frame_id_of(wire.header_of(b"\x01")) is None
    assert wire.frame_id_of(wire.header_of(binary(HEADER, length=99999))) is None
