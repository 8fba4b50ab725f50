"""How a client writes its messages: the one place that knows base64 from binary.

The seed's protocol is text throughout. Where the server chose the subprotocol `forgesyte.v2`, a frame travels as a
binary message instead, header and image, without base64; everything else is equal. Sans-I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pybase64

from forgesyte_nb.image.pictures import Picture
from forgesyte_nb.protocol.messages import SUBPROTOCOL_V2, SendFrame
from forgesyte_nb.protocol.wire import encode, encode_binary


class WireFormat:
    """The format of one connection.

    Attributes:
        is_v2: Whether `forgesyte.v2` is spoken, so that `hello` comes first and frames are binary.
    """

    def __init__(self, subprotocol: str | None) -> None:
        """The format that belongs to what the server chose; None is the seed's."""
        self.is_v2 = subprotocol == SUBPROTOCOL_V2

    def pack(self, frame_id: str, plugin: str, options: bytes, stream_id: str, picture: Picture) -> tuple[bytes, bool]:
        """A `send_frame`, and True if it is a text message."""
        image = picture.bytes
        if self.is_v2:
            header = {
                "type": "send_frame",
                "frame_id": frame_id,
                "plugin": plugin,
                "options": msgspec.Raw(options),
                "stream_id": stream_id,
                "seq": picture.seq,
                "captured_at": picture.captured_at,
                "time_s": picture.time_s,
            }
            return encode_binary(header, image), False
        image_data = msgspec.Raw(b'"%b"' % pybase64.b64encode(image))
        return encode(SendFrame(frame_id, plugin, image_data, msgspec.Raw(options), stream_id)), True

    def decode(self, message: str | bytes) -> dict[str, Any] | None:
        """A server's message as the dict that listeners get; None for what a client has no use for.

        Unknown types and fields are passed on: a newer server may say more.
        """
        if isinstance(message, bytes):
            return None  # pictures of a stream, for viewers
        try:
            decoded = orjson.loads(message)
        except orjson.JSONDecodeError:
            return None
        return decoded if isinstance(decoded, dict) and isinstance(decoded.get("type"), str) else None
