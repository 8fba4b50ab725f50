"""The one place where messages become bytes and bytes become messages.

Sans-I/O. `decode_client` takes the bytes of one WebSocket message and returns a `ClientMessage` or raises
`InvalidMessage` with a text that names the field; the fast path is one call of a compiled decoder, and only a
message that it refuses is looked at again to say what is wrong. Base64 ends here: what leaves is image bytes.

A binary message (`forgesyte.v2`) is a 32-bit little-endian length, that many bytes of JSON header, and the
payload.
"""

from __future__ import annotations

import secrets
import struct
import time
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pybase64

from forgesyte_nb.errors import InvalidImage, InvalidMessage
from forgesyte_nb.image.data import ImageData, RawFormat, from_buffer
from forgesyte_nb.protocol.feed_messages import Ack, Control, Unwatch, Watch
from forgesyte_nb.protocol.messages import (
    Cancel,
    ClientMessage,
    Resume,
    SendFrame,
    ServerMessage,
    Subscribe,
    Unsubscribe,
)

_client_decoder = msgspec.json.Decoder(ClientMessage)
_server_decoder = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_HEADER_LENGTH = struct.Struct("<I")

MAX_NAME_CHARS = 256
"""Of a frame_id, stream_id or plugin: they are echoed, logged and remembered."""

_SHOWN_CHARS = 60  # of what stands in place of a type

_MARK = secrets.token_hex(12).encode()  # nobody can send it by chance or on purpose
_QUOTED_MARK = b'"' + _MARK + b'"'
_WORTH_CUTTING = 1024  # base64 characters; below that, parsing it costs no more than cutting it out

_REQUIRED: dict[str, dict[str, str]] = {
    "subscribe": {"topic": "string"},
    "unsubscribe": {"topic": "string"},
    "send_frame": {"frame_id": "string", "plugin": "string", "image_data": "base64 string"},
    "cancel": {"job_id": "string"},
    "resume": {"epoch": "string", "seq": "integer", "secret": "string"},
    "watch": {"feed": "string"},
    "unwatch": {"feed": "string"},
    "ack": {"feed": "string"},
    "control": {"feed": "string", "action": "string"},
}
_OPTIONAL: dict[str, dict[str, str]] = {
    "send_frame": {"options": "object", "stream_id": "string"},
    "control": {"request_id": "string"},
}
_NAMES = {"type", *(name for table in (_REQUIRED, _OPTIONAL) for fields in table.values() for name in fields)}
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
# Reads over everything else without making objects of it: a message of a million unknown fields costs little.
_fields_decoder = msgspec.json.Decoder(
    msgspec.defstruct("_Fields", [(name, msgspec.Raw, msgspec.Raw()) for name in sorted(_NAMES)])
)


_Length = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _BinaryFields(msgspec.Struct):
    """Optional fields of the header of a binary message: where the picture is from, and the layout of raw pixels."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    captured_at: float | None = None
    time_s: float | None = None
    encoding: Literal["rgb24", "gray8"] | None = None
    width: _Length | None = None
    height: _Length | None = None


_binary_fields_decoder = msgspec.json.Decoder(_BinaryFields)


class IncomingFrame(NamedTuple):
    """A `send_frame` as the rest of the server sees it.

    Attributes:
        options: Raw JSON of an object; checked against the plugin's schema later.
        image: An image file, not looked at yet, or raw pixels.
        seq: Number of the picture in its source, if its sender says so (`forgesyte.v2`).
        captured_at: Time of capture, seconds since the epoch, likewise.
        time_s: Position in the clip, in seconds, likewise.
    """

    frame_id: str
    plugin: str
    options: bytes
    stream_id: str
    image: ImageData
    seq: int | None = None
    captured_at: float | None = None
    time_s: float | None = None


_JOB_UPDATE = b'{"type":"job_update"'
_second = (0, "")


def timestamp() -> str:
    """Now in UTC as ISO 8601 with microseconds and `Z`, such as "2026-01-11T17:30:45.123456Z"."""
    global _second  # noqa: PLW0603 -- the text of the current second, shared by some thousand messages
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    known, text = _second
    if known != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, text)
    return f"{text}.{nanoseconds // 1000:06d}Z"


def encode(message: ServerMessage | ClientMessage) -> bytes:
    """The JSON of one message, UTF-8."""
    return _encoder.encode(message)


def with_seq(encoded: bytes, seq: int) -> bytes:
    """An encoded message with the receiver's own sequence number as its first field (`forgesyte.v2`)."""
    return b'{"seq":%d,%b' % (seq, encoded[1:])


def is_job_update(encoded: bytes) -> bool:
    """Whether an encoded message is a `job_update`."""
    return encoded.startswith(_JOB_UPDATE)


def decode_server(data: bytes | str) -> ServerMessage:
    """A server message from its JSON, for clients.

    Raises:
        InvalidMessage: If it is none of the server's messages.
    """
    try:
        message: ServerMessage = _server_decoder.decode(data)
        return message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(f"not a server message: {error}") from error


FeedMessage = Watch | Unwatch | Ack | Control
DecodedMessage = Subscribe | Unsubscribe | Cancel | Resume | FeedMessage | IncomingFrame


def decode_client(data: bytes) -> DecodedMessage:
    """A client message from its JSON text (UTF-8, already checked to be so).

    Raises:
        InvalidMessage: Naming the field at fault; `frame_id_of` finds the frame it was about.
        InvalidImage: If `image_data` is text that is not base64.
    """
    return _decode_around_image(data) or _decode_whole(data)


def decode_client_binary(data: bytes) -> IncomingFrame:
    """A binary `send_frame`: a JSON header, and the image as payload.

    Raises:
        InvalidMessage: If a length is wrong or the header is no `send_frame`.
    """
    if len(data) < _HEADER_LENGTH.size:
        raise InvalidMessage("binary message shorter than its 4-byte header length")
    (length,) = _HEADER_LENGTH.unpack_from(data)
    end = _HEADER_LENGTH.size + length
    if end > len(data) and data.lstrip()[:1] == b"{":
        raise InvalidMessage("binary message that begins like JSON: send JSON as text (in Python a str, not bytes)")
    if end > len(data):
        raise InvalidMessage(f"binary message: header length {length} goes past its end ({len(data)} bytes)")
    message = _decode_fields(data[_HEADER_LENGTH.size : end], in_payload=True)
    if type(message) is not SendFrame:
        raise InvalidMessage("binary messages carry 'send_frame' only; send the others as text")
    try:
        fields = _binary_fields_decoder.decode(data[_HEADER_LENGTH.size : end])
    except msgspec.MsgspecError as error:
        raise InvalidMessage(f"send_frame: {error}") from error
    frame = _incoming(message, data[end:])._replace(
        seq=fields.seq, captured_at=fields.captured_at, time_s=fields.time_s
    )
    return frame if fields.encoding is None else frame._replace(image=_pixels(fields, data[end:]))


def _pixels(fields: _BinaryFields, payload: bytes) -> ImageData:
    if fields.encoding is None or fields.width is None or fields.height is None:
        raise InvalidMessage("send_frame: with 'encoding', 'width' and 'height' are required")
    layout = RawFormat(fields.encoding, fields.width, fields.height)
    if len(payload) != layout.size_bytes:
        raise InvalidMessage(
            f"send_frame: {layout.encoding} of {layout.width}×{layout.height} takes {layout.size_bytes} bytes of "
            f"pixels, not {len(payload)}"
        )
    return from_buffer(payload, layout)


def _decode_around_image(data: bytes) -> IncomingFrame | None:
    """A `send_frame` of the usual shape, without parsing the image's text: half the time for a large one.

    The base64 text is cut out, a mark put in its place, and the short rest decoded. Only if the mark comes
    back as the message's own `image_data` (and not from a key of the same name further in) was the cut
    right; everything unusual is left to `_decode_whole`.
    """
    key = data.find(b'"image_data":')
    start = data.find(b'"', key + 13) + 1
    end = data.find(b'"', start)
    if key < 0 or start <= 0 or end - start < _WORTH_CUTTING or start - key > 16:
        return None
    try:
        image = pybase64.b64decode(memoryview(data)[start:end], validate=True)
        message = _client_decoder.decode(b"".join((data[:start], _MARK, data[end:])))
    except (ValueError, RecursionError):
        return None
    if type(message) is not SendFrame or bytes(message.image_data) != _QUOTED_MARK:
        return None
    return _incoming(message, image)


def _decode_whole(data: bytes) -> DecodedMessage:
    message = _decode_fields(data)
    if type(message) is SendFrame:
        image_data = message.image_data
        kind = bytes(memoryview(image_data)[:1])
        if kind != b'"':
            raise InvalidMessage(_wrong_image_data(kind))
        return _incoming(message, _image_bytes(image_data))
    return message  # type: ignore[return-value]  # SendFrame has been dealt with


def _decode_fields(data: bytes, *, in_payload: bool = False) -> ClientMessage:
    try:
        message: ClientMessage = _client_decoder.decode(data)
        return message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(_what_is_wrong(data, error, in_payload=in_payload)) from error


def _incoming(message: SendFrame, image: bytes) -> IncomingFrame:
    options = bytes(message.options)
    if options[:1] != b"{":
        raise InvalidMessage(f"send_frame: 'options' must be an object, not {_raw_type(options)}")
    for name, text in (("frame_id", message.frame_id), ("stream_id", message.stream_id), ("plugin", message.plugin)):
        if len(text) > MAX_NAME_CHARS:
            raise InvalidMessage(f"send_frame: '{name}' has {len(text)} characters, the limit is {MAX_NAME_CHARS}")
    return IncomingFrame(message.frame_id, message.plugin, options, message.stream_id, image)


def encode_binary(header: ServerMessage | dict[str, Any], payload: bytes | memoryview) -> bytes:
    """A binary message of `forgesyte.v2`."""
    encoded = _encoder.encode(header)
    return b"".join((_HEADER_LENGTH.pack(len(encoded)), encoded, payload))


def _image_bytes(image_data: msgspec.Raw) -> bytes:
    """The image from a raw JSON string: JSON escapes (`\\/` is legal), a `data:` prefix and white space undone."""
    try:
        text = msgspec.json.decode(image_data, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"send_frame: 'image_data' is not UTF-8 ({error})") from error
    if text.startswith("data:"):
        _, comma, text = text.partition(",")
        if not comma:
            raise InvalidImage("image_data: a data: URL without a comma; expected 'data:image/png;base64,…'")
    try:
        return pybase64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise InvalidImage(
            f"image_data is not base64 ({error}): send the bytes of an image file, encoded as standard base64"
        ) from error


def header_of(data: bytes) -> bytes:
    """The JSON header of a binary message; empty if there is none."""
    if len(data) < _HEADER_LENGTH.size:
        return b""
    (length,) = _HEADER_LENGTH.unpack_from(data)
    end = _HEADER_LENGTH.size + length
    return data[_HEADER_LENGTH.size : end] if end <= len(data) else b""


def frame_id_of(data: bytes) -> str | None:
    """The `frame_id` of a message that could not be taken, if it has one that is a string; of a long one the start."""
    return _name_of(data, "frame_id")


def plugin_of(data: bytes) -> str | None:
    """The `plugin` of a message that could not be taken, likewise."""
    return _name_of(data, "plugin")


def _name_of(data: bytes, field: str) -> str | None:
    try:
        raw: msgspec.Raw = getattr(_fields_decoder.decode(data), field)
        return msgspec.json.decode(raw, type=str)[:MAX_NAME_CHARS]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _what_is_wrong(data: bytes, error: Exception, *, in_payload: bool) -> str:
    """One sentence for a person: the field, what it is, what it should be."""
    try:
        data.decode()
        _raw_decoder.decode(data)
    except RecursionError:
        return "message is nested too deeply"
    except (msgspec.MsgspecError, UnicodeDecodeError) as not_json:
        return f'not JSON ({not_json}); a message is an object such as {{"type": "subscribe", "topic": "all"}}'
    if data.lstrip()[:1] != b"{":
        return f"a message is a JSON object with a 'type', this is {_raw_type(data.lstrip())}"
    decoded = _fields_decoder.decode(data)
    fields = {name: raw for name in _NAMES if (raw := bytes(getattr(decoded, name)))}
    kinds = ", ".join(repr(kind) for kind in _REQUIRED)
    if "type" not in fields:
        return f"missing field 'type'; it is one of {kinds}"
    kind = _value(fields["type"])
    if not isinstance(kind, str) or kind not in _REQUIRED:
        return f"unknown type {_shown(kind)}; it is one of {kinds}"
    required = {n: e for n, e in _REQUIRED[kind].items() if not (in_payload and n == "image_data")}
    for name, expected in required.items():
        if name not in fields:
            return f"{kind}: missing field '{name}' ({expected})"
    for name, expected in {**required, **_OPTIONAL.get(kind, {})}.items():
        if name in fields and not _is(expected, fields[name]):
            return f"{kind}: '{name}' must be {_article(expected)} {expected}, not {_raw_type(fields[name])}"
    return f"{kind}: {error}"


def _value(raw: bytes) -> Any:
    """A JSON value as Python has it; one that is long, and no string, as it stands."""
    if len(raw) > _SHOWN_CHARS and raw[:1] != b'"':
        return raw
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return raw  # a number too large to decode


def _is(expected: str, raw: bytes) -> bool:
    if expected == "integer":
        return _raw_type(raw) == "a number" and not any(mark in raw for mark in b".eE")
    return _raw_type(raw) == ("an object" if expected == "object" else "a string")


def _wrong_image_data(kind: bytes) -> str:
    if kind == b"":
        return "send_frame: missing field 'image_data' (base64 string)"
    if kind == b"{":
        return (
            "send_frame: 'image_data' must be a base64 string, not an object: JSON.stringify turns an "
            "ArrayBuffer into {}; pass `new Uint8Array(buffer)` to sendFrame"
        )
    return f"send_frame: 'image_data' must be a base64 string, not {_raw_type(kind)}"


def _raw_type(raw: bytes) -> str:
    """What a JSON value is, by its first character: numbers too large to decode have one, too."""
    names = {
        b"{": "an object",
        b"[": "an array",
        b'"': "a string",
        b"n": "null",
        b"t": "a boolean",
        b"f": "a boolean",
    }
    return names.get(raw[:1], "a number")


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeio" else "a"


def _shown(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "…"
