"""What a client may write on a connection after its handshake, right and wrong, as a hypothesis strategy."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

_FIRST_BYTES = [0x81, 0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A]
_PAYLOADS = [b"", b"{}", b"\xff", b"\xc3", b"\x03", b"\x03\xe8", b"\x03\xee", b"\x03\xe8\xff", b"#1", b"#99", b"#-1"]


@st.composite
def streams(draw: st.DrawFn, *, too_long: int) -> bytes:
    """WebSocket frames, or noise; `too_long` is a length that no message may have."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(min_size=1, max_size=200))
    return b"".join(draw(st.lists(_frames(too_long), min_size=1, max_size=5)))


@st.composite
def _frames(draw: st.DrawFn, too_long: int) -> bytes:
    """One frame (RFC 6455 section 5.2) whose length may lie or be written in a longer form than it needs."""
    first = draw(st.sampled_from([*_FIRST_BYTES, draw(st.integers(0, 255))]))
    payload = draw(st.sampled_from([*_PAYLOADS, draw(st.binary(max_size=130))]))
    length = draw(st.sampled_from([*[len(payload)] * 18, 0, 125, 126, 65_536, too_long, 1 << 63]))
    form = draw(st.sampled_from([*[0] * 8, 126, 127]))
    masked = draw(st.sampled_from([*[0x80] * 9, 0]))
    if length < 126 and form == 0:
        size = bytes([masked | length])
    elif length < 65_536 and form != 127:
        size = struct.pack("!BH", masked | 126, length)
    else:
        size = struct.pack("!BQ", masked | 127, length)
    if not masked:
        return bytes([first]) + size + payload
    mask = draw(st.binary(min_size=4, max_size=4))
    return bytes([first]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
