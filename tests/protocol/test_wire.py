"""`wire.py`: literal JSON in; a message, or an error that names the field, out."""

from __future__ import annotations

import base64
import json
import re
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgesyte_nb.errors import InvalidImage, InvalidMessage, WireError
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import Cancel, Error, JobUpdate, Subscribe, Unsubscribe

BIG = bytes(range(256)) * 8  # long enough for the fast path


def frame(**fields: Any) -> bytes:
    """A send_frame as JSON; a field of `...` is left out."""
    message = {
        "type": "send_frame",
        "frame_id": "frame_001",
        "image_data": base64.b64encode(BIG).decode(),
        "plugin": "ocr",
        "options": {"threshold": 0.8},
        **fields,
    }
    return json.dumps({name: value for name, value in message.items() if value is not ...}).encode()


def refused(data: bytes, error: type[WireError] = InvalidMessage) -> str:
    """The reason for which it is refused."""
    with pytest.raises(error) as caught:
        wire.decode_client(data)
    assert type(caught.value) is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "subscribe", "topic": "job_123"}', Subscribe("job_123")),
        ('{"topic": "all", "type": "subscribe"}', Subscribe("all")),
        ('{"type": "unsubscribe", "topic": "job_123"}', Unsubscribe("job_123")),
        ('{"type": "cancel", "job_id": "job_1"}', Cancel("job_1")),
        ('{"type": "subscribe", "topic": "all", "more": [1, {"a": null}]}', Subscribe("all")),
        ('\n{"type"\t:"subscribe",\r\n"topic":"a\\u006cl"} ', Subscribe("all")),
    ],
)
def test_small_messages(text: str, message: object) -> None:
    assert wire.decode_client(text.encode()) == message


@pytest.mark.parametrize("image", [b"", b"x", BIG], ids=["empty", "short", "long"])
def test_send_frame(image: bytes) -> None:
    got = wire.decode_client(frame(image_data=base64.b64encode(image).decode(), stream_id="s"))
    assert got == wire.IncomingFrame("frame_001", "ocr", b'{"threshold": 0.8}', "s", image)


def test_options_and_stream_id_may_be_left_out() -> None:
    got = wire.decode_client(frame(options=...))
    assert (got.options, got.stream_id) == (b"{}", "")


@pytest.mark.parametrize("name", ["frame_id", "plugin", "image_data"])
def test_a_missing_field_is_named(name: str) -> None:
    assert f"missing field '{name}'" in refused(frame(**{name: ...}))


WRONG = [(None, "null"), (7, "a number"), (1.5, "a number"), (True, "a boolean"), ([], "an array"), ({}, "an object")]


@pytest.mark.parametrize(("value", "word"), WRONG, ids=[word for _, word in WRONG])
@pytest.mark.parametrize("name", ["frame_id", "plugin", "image_data", "stream_id"])
def test_a_field_of_the_wrong_type_is_named_with_its_type(name: str, value: Any, word: str) -> None:
    text = refused(frame(**{name: value}))
    assert f"'{name}' must be a " in text
    assert f"not {word}" in text


@pytest.mark.parametrize(("value", "word"), [*WRONG[:-1], ("{}", "a string")])
def test_options_of_the_wrong_type(value: Any, word: str) -> None:
    text = refused(frame(options=value))
    assert f"'options' must be an object, not {word}" in text


@pytest.mark.parametrize("options", ["1e999", "[1e999]", "9" * 400, "-" + "9" * 400])
def test_options_of_a_number_out_of_range(options: str) -> None:
    data = frame(options="OPTIONS").replace(b'"OPTIONS"', options.encode())
    assert "'options' must be an object, not a" in refused(data)


def test_an_array_buffer_gets_the_remedy() -> None:
    text = refused(frame(image_data={}))
    assert "ArrayBuffer" in text
    assert "new Uint8Array(buffer)" in text


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "cancel"])
@pytest.mark.parametrize(("value", "word"), WRONG, ids=[word for _, word in WRONG])
def test_small_messages_with_wrong_fields(kind: str, value: Any, word: str) -> None:
    name = "job_id" if kind == "cancel" else "topic"
    assert f"{kind}: missing field '{name}'" in refused(json.dumps({"type": kind}).encode())
    text = refused(json.dumps({"type": kind, name: value}).encode())
    assert f"{kind}: '{name}' must be a string, not {word}" in text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b" ", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"type": "subscribe", "topic": "all"', "not JSON"),
        (b'{"type": "subscribe", "topic": "all"} x', "not JSON"),
        (b'{"type": "subscribe", "topic": NaN}', "not JSON"),
        (b'{"type": "subscribe", "topic": "all", "x": NaN}', "not JSON"),
        (b'{"type": "subscribe", "topic": "all", "x": 01}', "not JSON"),
        (b"{'type': 'subscribe'}", "not JSON"),
        (b'\xef\xbb\xbf{"type": "subscribe", "topic": "all"}', "not JSON"),
        (b'{"type": "subscribe", "topic": "\\ud800"}', "not JSON"),
        (b'{"type": "subscribe", "topic": "a\xff"}', "not JSON"),
        (b"null", "this is null"),
        (b"7", "this is a number"),
        (b'"subscribe"', "this is a string"),
        (b'[{"type": "subscribe"}]', "this is an array"),
        (b"true", "this is a boolean"),
        (b"{}", "missing field 'type'"),
        (b'{"topic": "all"}', "missing field 'type'"),
        (b'{"type": null}', "unknown type None"),
        (b'{"type": 1e300}', "unknown type 1e+300"),
        (b'{"type": ["subscribe"]}', "unknown type ['subscribe']"),
        (b'{"type": "Subscribe", "topic": "all"}', "unknown type 'Subscribe'"),
        (b'{"type": "frame_result"}', "unknown type 'frame_result'"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_an_unknown_type_is_shown_shortened_and_the_known_ones_are_named() -> None:
    text = refused(json.dumps({"type": "x" * 1_000_000}).encode())
    assert len(text) < 300
    assert "'send_frame'" in text


def with_image_data(raw: bytes) -> bytes:
    """A send_frame whose `image_data` is this JSON."""
    return frame(image_data="IMAGE").replace(b'"IMAGE"', raw)


TEXT = base64.b64encode(b"\xff" * 3000).decode()


@pytest.mark.parametrize(
    "raw",
    [
        f'"{TEXT}"',
        f'  "{TEXT}"',
        f'\n\t\r                              "{TEXT}"',
        '"' + TEXT.replace("/", "\\/") + '"',
        '"' + TEXT.replace("/", "\\u002f") + '"',
        f'"data:image/png;base64,{TEXT}"',
        f'"data:;base64,{TEXT}"',
        '"data:image\\/png;base64,' + TEXT.replace("/", "\\/") + '"',
        '"' + "\\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)) + '"',
        f'" {TEXT}\\r\\n"',
    ],
    ids=["plain", "spaced", "far", "escaped", "u-escaped", "data", "data-bare", "data-escaped", "lines", "trimmed"],
)
def test_ways_to_write_base64(raw: str) -> None:
    assert wire.decode_client(with_image_data(raw.encode())).image == b"\xff" * 3000


@pytest.mark.parametrize(
    "text",
    ["no base64!", "QUJ", "QUJDR", "QUJD=", "=", "QU==JD", "QUJ-", "_" * 8, "QÜJD", TEXT[:-1], TEXT[:-8] + "*" * 8],
)
def test_what_is_not_base64(text: str) -> None:
    assert "not base64" in refused(frame(image_data=text), InvalidImage)


def test_a_data_url_without_data() -> None:
    assert "without a comma" in refused(frame(image_data="data:image/png;base64"), InvalidImage)


DECOY = base64.b64encode(b"decoy" * 600).decode()


@pytest.mark.parametrize("decoy", [DECOY, "short", 7, {"image_data": DECOY}])
@pytest.mark.parametrize("first", [True, False])
def test_an_image_data_key_further_in_is_not_the_image(decoy: Any, first: bool) -> None:
    options = {"image_data": decoy}
    fields: dict[str, Any] = {"type": "send_frame", "frame_id": "f", "plugin": "p"}
    image = {"image_data": base64.b64encode(BIG).decode()}
    message = {"options": options, **fields, **image} if first else {**fields, **image, "options": options}
    for separators in ((",", ":"), (", ", ": ")):
        got = wire.decode_client(json.dumps(message, separators=separators).encode())
        assert got.image == BIG
        assert json.loads(got.options) == options


def test_no_value_of_a_client_is_taken_for_the_mark_of_a_cut_out_image() -> None:
    message = {"options": {"image_data": DECOY}, "type": "send_frame", "frame_id": "f", "plugin": "p"}
    got = wire.decode_client(json.dumps({**message, "image_data": b"\x00image".hex()}).encode())
    assert got.image == base64.b64decode(b"\x00image".hex())
    assert json.loads(got.options) == {"image_data": DECOY}


def test_text_that_looks_like_the_key_is_text() -> None:
    text = '"image_data":"' + DECOY + '"'
    got = wire.decode_client(frame(options={"note": text}))
    assert (json.loads(got.options), got.image) == ({"note": text}, BIG)


@pytest.mark.parametrize("name", ["frame_id", "stream_id", "plugin"])
def test_names_have_a_limit(name: str) -> None:
    wire.decode_client(frame(**{name: "n" * 256}))
    with pytest.raises(InvalidMessage, match=f"'{name}' has 257 characters, the limit is 256"):
        wire.decode_client(frame(**{name: "n" * 257}))


@pytest.mark.parametrize("last", [TEXT, "QUJD"])
def test_of_a_key_given_twice_the_last_counts_as_in_json(last: str) -> None:
    data = frame().replace(b'"image_data"', b'"image_data": "' + DECOY.encode() + b'", "image_data"')
    assert wire.decode_client(data).image == BIG
    data = frame()[:-1] + b', "image_data": "' + last.encode() + b'", "frame_id": "again"}'
    got = wire.decode_client(data)
    assert (got.image, got.frame_id) == (base64.b64decode(last), "again")


def test_a_key_of_base64_letters_after_a_number_is_not_the_image() -> None:
    data = b'{"type":"send_frame","frame_id":"f","plugin":"p","image_data":1,"' + DECOY.encode() + b'":2}'
    assert "'image_data' must be a base64 string, not a number" in refused(data)


@settings(max_examples=150, deadline=None)
@given(
    image=st.binary(max_size=4000),
    frame_id=st.text(st.characters(codec="utf-8"), max_size=20),
    plugin=st.text(st.characters(codec="utf-8"), max_size=20),
    options=st.dictionaries(st.sampled_from(["image_data", "a", "type"]), st.text(max_size=1200) | st.integers(-9, 9)),
    ascii_only=st.booleans(),
    order=st.permutations(["type", "frame_id", "image_data", "plugin", "options"]),
)
def test_whatever_is_sent_arrives(
    image: bytes, frame_id: str, plugin: str, options: dict[str, Any], ascii_only: bool, order: list[str]
) -> None:
    options = {k: v.encode("utf-8", "ignore").decode() if isinstance(v, str) else v for k, v in options.items()}
    fields: dict[str, Any] = {"type": "send_frame", "frame_id": frame_id, "plugin": plugin, "options": options}
    fields["image_data"] = base64.b64encode(image).decode()
    data = json.dumps({name: fields[name] for name in order}, ensure_ascii=ascii_only).encode()
    got = wire.decode_client(data)
    assert (got.frame_id, got.plugin, got.image) == (frame_id, plugin, image)
    assert json.loads(got.options) == options


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_messages_raise_wire_errors_and_nothing_else(data: st.DataObject) -> None:
    good = frame(image_data=base64.b64encode(b"picture" * 200).decode())
    start = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 40))
    damaged = good[:start] + data.draw(st.binary(max_size=12)) + good[start + cut :]
    try:
        wire.decode_client(damaged)
    except WireError as error:
        assert str(error)  # noqa: PT017 -- either outcome is right
    wire.frame_id_of(damaged)  # finds one or none, and does not raise


@pytest.mark.parametrize(
    ("data", "frame_id", "plugin"),
    [
        (b'{"frame_id": "f", "plugin": "p"}', "f", "p"),
        (b'{"frame_id": 7, "plugin": null}', None, None),
        (b'{"frame_id": "f"', None, None),
        (b"[]", None, None),
        (b"", None, None),
        (b"[" * 100_000, None, None),
    ],
)
def test_the_frame_an_unusable_message_was_about(data: bytes, frame_id: str | None, plugin: str | None) -> None:
    assert (wire.frame_id_of(data), wire.plugin_of(data)) == (frame_id, plugin)


def test_of_a_name_over_the_limit_the_start_is_echoed() -> None:
    data = frame(frame_id="f" * 100_000, plugin="p" * 100_000)
    assert "'frame_id' has 100000 characters, the limit is 256" in refused(data)
    assert (wire.frame_id_of(data), wire.plugin_of(data)) == ("f" * 256, "p" * 256)


def test_fields_that_nobody_knows_are_read_over() -> None:
    data = b"{" + b",".join(b'"k%d":0' % number for number in range(50_000)) + b"}"
    tracemalloc.start()
    try:
        assert "missing field 'type'" in refused(data)
        assert (wire.frame_id_of(data), wire.plugin_of(data)) == (None, None)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(data), "no object was made of any"


def test_timestamps_are_utc_with_microseconds() -> None:
    stamps = [wire.timestamp() for _ in range(1000)]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    assert stamps == sorted(stamps)


def test_server_messages_have_the_seeds_fields() -> None:
    error = json.loads(wire.encode(Error("f", "ocr", "INVALID_IMAGE", "why", "now")))
    assert error == {
        "type": "error",
        "frame_id": "f",
        "plugin": "ocr",
        "error_code": "INVALID_IMAGE",
        "message": "why",
        "timestamp": "now",
        "job_id": None,
    }
    update = JobUpdate("job_1", "completed", "f", "ocr", 100, "now")
    assert wire.decode_server(wire.encode(update)) == update
    assert json.loads(wire.with_seq(wire.encode(update), 7))["seq"] == 7


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b'{"type": "hello"}', b'{"type": "subscribe"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_server_message(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a server message"):
        wire.decode_server(data)


def test_raw_options_keep_their_spelling() -> None:
    assert msgspec.json.decode(wire.decode_client(frame(options={"a": "\u00fc\u2028"})).options) == {
        "a": "\u00fc\u2028"
    }
