"""Bytes changed as accidents and attackers change them, as a hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

_FIELDS = [
    *(b"\x00", b"\x01", b"\xff", b"\x7f", b"\x80", b"\xff\xd9", b"\xff\xff", b"\x7f\xff", b"\xff\x7f", b"\x00\x00"),
    *(b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00"),
    *(b"\x00\x00\x00\x80", b"\x00\x01\x00\x00", b"\x10\x00\x00\x00", b"\x00" * 8, b"\xff" * 8),
]
"""Numbers at the ends of their ranges, of every width and in both orders of bytes."""


@st.composite
def mutated(draw: st.DrawFn, whole: bytes, *, most: int, near: int = 1 << 30) -> bytes:
    """Up to `most` changes, all `near` the beginning."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, min(len(data), near)))
        change = draw(st.sampled_from(["flip", "field", "cut", "remove", "insert", "repeat"]))
        if change == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "field":
            value = draw(st.sampled_from(_FIELDS))
            data[at : at + len(value)] = value
        elif change == "cut":
            del data[draw(st.integers(0, len(data))) :]
        elif change == "remove":
            del data[at : at + draw(st.integers(1, 64))]
        elif change == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif change == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)
