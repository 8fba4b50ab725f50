"""Messages that are wrong in every way we can think of, as hypothesis strategies: texts and binary messages.

A message begins as a right one. Fields are dropped, doubled, renamed, or given values of another kind, as raw JSON, so
that they may be what no JSON library would write; then its bytes are cut, flipped and spliced. Some come out right.
"""

from __future__ import annotations

import base64
import json
import struct

from hypothesis import strategies as st

from tests.fuzz.mutation import mutated

PLUGINS = """
from typing import Annotated, Literal
from pydantic import Field
import forgesyte_nb as fs

@fs.plugin
def tuned(frame, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5, mode: Literal["fast", "good"] = "fast",
          count: int = 1, note: str = "", tags: list[str] = [], table: dict[str, int | None] = {}):
    return {"types": [type(option).__name__ for option in (threshold, mode, count, note, tags, table)]}

@fs.plugin
def look(frame, *, view: Literal["rgb", "bgr", "gray", "pil", "size_wh"] = "rgb"):
    seen = getattr(frame, view)
    return {"view": list(getattr(seen, "shape", None) or getattr(seen, "size", None) or seen)}
"""

_ONE_PIXEL = bytes.fromhex("424d3a000000000000003600000028000000010000000100000001001800") + bytes(28)
_IMAGE = base64.b64encode(_ONE_PIXEL).decode()

# Values as raw JSON

_HARD_TEXTS = [
    *("", " ", "\x00", "\x7f", "\u2028", "\ufeff", "\U0001f5bc", "a\u0300", "\u202e", "null"),
    *("all", "job_x", "plugin_look", "../../etc/passwd", "<script>alert(1)</script>", "%s%n", "\r\nINFO forged"),
    *("x" * 257, "é" * 300),
]
_HARD_JSON = [
    *("null", "true", "false", "0", "-0", "-0.0", "1e999", "-1e-999", "1" * 400, "0." + "3" * 400, "2.5"),
    *("9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("01", "+1", "1.", ".5", "0x10", "NaN", "Infinity", "-Infinity", "undefined", "//", "/**/", ""),
    *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\uddbc"', r'"\u0000"', r'"\x41"', r'"\u12"', '"', '"\t"', "'a'"),
    *("[]", "{}", "[[]]", '{"": {}}', '{"a": 1, "a": 2}', '[1, "a", null]', "[1,]", '{"a": 1,}', "[", "{", "]", "}"),
]
_NESTINGS = [("[", "", "]"), ('{"a":', "1", "}"), ("[", "", ""), ('[{"b":', '""', "}]")]


def _nested(parts: tuple[str, str, str], depth: int) -> str:
    opening, middle, closing = parts
    return opening * depth + middle + closing * depth


_texts = st.sampled_from(_HARD_TEXTS).map(json.dumps) | st.text(max_size=12).map(json.dumps)
_deep = st.builds(_nested, st.sampled_from(_NESTINGS), st.sampled_from([2, 15, 16, 17, 18, 100, 999, 1024, 20_000]))
_numbers = st.integers().map(str) | st.floats().map(repr)
_odd = st.sampled_from(_HARD_JSON) | _texts | _numbers | _deep

# Values of fields, most of them right

_RIGHT_NAMES = [*(['"f1"'] * 9), '""', '"é\U0001f5bc"', json.dumps("x" * 256)]
_names = st.sampled_from([*_RIGHT_NAMES, json.dumps("x" * 257)]) | st.sampled_from(_RIGHT_NAMES) | _texts
_PLUGINS = ['"tuned"', '"look"', '"tuned"', '"look"', '"tuned"', '"lok"', '"TUNED"', '""']
_TOPICS = [
    *('"all"', '"job_1"', '"plugin_tuned"', '"job_"', '"plugin_"', '"job_1 "', '"ALL"', '"all\\n"'),
    json.dumps("job_" + "x" * 121),
]
_IMAGES = [
    *(f'"{_IMAGE}"', f'"data:image/bmp;base64,{_IMAGE}"', f'"{_IMAGE[:40]} {_IMAGE[40:]}"', f'"{_IMAGE}"'),
    *(f'"{_IMAGE[:-3]}"', f'"{_IMAGE}="', f'"{_IMAGE[:-4]}-_=="', '"\\u0041\\/AA"', '"äöü="', '""', '"="', '"===="'),
    *('"data:"', '"data:,"', f'"{"A" * 1500}"', f'"{"A" * 1501}"', f'"{"!" * 2000}"', '"\\\\' + "A" * 1500 + '"'),
]
_OPTIONS: dict[str, st.SearchStrategy[str]] = {
    "threshold": st.sampled_from(["0.5", "0", "1", "1e0", "1.0000001", "-0.1", '"0.5"', "NaN", "1e-400"]),
    "mode": st.sampled_from(['"fast"', '"good"', '"slow"', "null"]),
    "count": st.integers().map(str) | st.sampled_from(["1.0", "1e3", "1" * 5000, "true"]),
    "note": _texts,
    "tags": st.sampled_from(["[]", '["a"]', "[1]", '[["a"]]', '"a"']),
    "table": st.sampled_from(["{}", '{"a": 1}', '{"a": null, "a": 2}', '{"a": "1"}', "[]"]),
    "view": st.sampled_from(['"rgb"', '"pil"', '"size_wh"', '"RGB"', '"__class__"']),
}


def _object(fields: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields) + "}"


@st.composite
def options(draw: st.DrawFn) -> str:
    """The options of a plugin, as raw JSON."""
    names = draw(st.lists(st.sampled_from(sorted(_OPTIONS)), max_size=3))
    odd = draw(st.sampled_from([0, 0, 1]))
    return _object([(f'"{name}"', draw(_odd if odd else _OPTIONS[name])) for name in names])


_FIELDS: dict[str, dict[str, st.SearchStrategy[str]]] = {
    "send_frame": {
        "frame_id": _names,
        "plugin": st.sampled_from(_PLUGINS),
        "image_data": st.sampled_from(_IMAGES),
        "options": options(),
        "stream_id": _names,
    },
    "subscribe": {"topic": st.sampled_from(_TOPICS) | _texts},
    "unsubscribe": {"topic": st.sampled_from(_TOPICS) | _texts},
    "cancel": {"job_id": _names},
    "resume": {"epoch": _names, "seq": _numbers, "secret": _names},
    "watch": {"feed": _names, "max_width": _numbers, "quality": _numbers, "pace_ms": _numbers},
    "unwatch": {"feed": _names},
    "ack": {"feed": _names, "seq": _numbers},
    "control": {"feed": _names, "action": _names, "value": _odd, "request_id": _names},
}
_types = st.sampled_from([*_FIELDS, *["send_frame"] * 8])
_odd_types = st.sampled_from(['"sendFrame"', '"frame_result"', '"SUBSCRIBE"', '"__proto__"']) | _odd


@st.composite
def objects(draw: st.DrawFn, types: st.SearchStrategy[str] = _types) -> str:
    """A message as JSON text, with up to three faults in its fields."""
    kind = draw(types)
    fields = [('"type"', f'"{kind}"')]
    fields += [(f'"{name}"', draw(values)) for name, values in _FIELDS[kind].items()]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, max(0, len(fields) - 1)))
        fault = draw(st.sampled_from(["drop", "odd", "again", "rename", "more"]))
        if fault == "more" or not fields:
            fields.append((draw(_texts), draw(_odd)))
        elif fault == "drop":
            del fields[at]
        elif fault == "odd":
            fields[at] = (fields[at][0], draw(_odd_types if fields[at][0] == '"type"' else _odd))
        elif fault == "again":
            fields.append((fields[at][0], draw(_odd)))
        else:
            fields[at] = (draw(_texts), fields[at][1])
    return _object(fields)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """The bytes of a text message; nearly always UTF-8."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60) | _odd.map(str.encode))
    return draw(mutated(draw(objects()).encode(), most=draw(st.sampled_from([0, 0, 0, 1, 3]))))


@st.composite
def binaries(draw: st.DrawFn) -> bytes:
    """A binary message: a header whose length may lie, and a payload."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    header = draw(objects(st.sampled_from([*["send_frame"] * 5, "ack"]))).encode()
    payload = draw(st.just(_ONE_PIXEL) | st.binary(max_size=40))
    lie = draw(st.sampled_from([*[0] * 8, 1, -1, -4, 7, 1 << 31, (1 << 32) - 1]))
    length = (len(header) + lie) % (1 << 32)
    return draw(mutated(struct.pack("<I", length) + header + payload, most=draw(st.sampled_from([0, 0, 0, 1, 3]))))
