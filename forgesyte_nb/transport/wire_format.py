"""How a client writes its messages: the one place that knows base64 from binary.

The seed's protocol is text throughout. Where the server chose the subprotocol `forgesyte.v2`, a frame travels as a
binary message instead, header and image, without base64; everything else is equal. Sans-I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pybase64

from forgesyte_nb.image.data import ImageData, as_buffer, raw_format
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import Picture
from forgesyte_nb.protocol.messages import SUBPROTOCOL_V2, SendFrame
from forgesyte_nb.protocol.wire import encode, encode_binary


class WireFormat:
    """The format of one connection.

    Attributes:
        is_v2: True for `forgesyte.v2`: `hello` comes first and frames are binary.
        takes_pixels: True if raw pixels are sent as they are.
    """

    def __init__(self, subprotocol: str | None, *, lossless: bool = False) -> None:
        """Use the format of a subprotocol that the server selected; None is the seed's.

        Args:
            subprotocol: Its name.
            lossless: True to keep every pixel of frames that hold pixels: raw in `forgesyte.v2`, else as PNG.
        """
        self.is_v2 = subprotocol == SUBPROTOCOL_V2
        self.takes_pixels = self.is_v2 and lossless
        self._lossless = lossless

    def pack(self, frame_id: str, plugin: str, options: bytes, stream_id: str, picture: Picture) -> tuple[bytes, bool]:
        """A `send_frame`, and True if it is a text message."""
        data = self._data_of(picture)
        if self.is_v2:
            layout = raw_format(data)
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
            if layout is not None:
                header |= layout._asdict()
            return encode_binary(header, as_buffer(data)), False
        image_data = msgspec.Raw(b'"%b"' % pybase64.b64encode(as_buffer(data)))
        return encode(SendFrame(frame_id, plugin, image_data, msgspec.Raw(options), stream_id)), True

    def _data_of(self, picture: Picture) -> ImageData:
        if not self._lossless or not isinstance(picture, Frame) or picture.pixels is None:
            return picture.bytes
        return picture.pixels if self.is_v2 else Frame.from_array(picture.pixels, lossless=True, copy=False).bytes

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
