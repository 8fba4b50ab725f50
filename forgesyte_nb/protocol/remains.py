"""What is remembered of a terminal message while its text lies in a file, and what is said if it cannot be read back.

A frame has one terminal message, whatever happens: one that is lost with its file is replaced by an `error` that says
so. A few hundred bytes are enough for that, of messages that may be megabytes. Sans-I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from forgesyte_nb.errors import PluginError
from forgesyte_nb.protocol.messages import Error
from forgesyte_nb.protocol.wire import encode, timestamp

_RESULT, _ERROR = b'{"type":"frame_result"', b'{"type":"error"'
_AFTER_NAMES = b',"status":'  # in a JSON string its quotes would be escaped
_SHOWN_CHARS = 200


class _Names(msgspec.Struct, tag_field="type", tag="frame_result", frozen=True):
    """The beginning of a `frame_result`."""

    frame_id: str
    job_id: str
    plugin: str


_names_decoder = msgspec.json.Decoder(_Names)
_error_decoder = msgspec.json.Decoder(Error)


@dataclass(frozen=True, slots=True)
class Remains:
    """Of one terminal message.

    Attributes:
        beginning: Its JSON up to what it is about, or whole but for its text.
    """

    beginning: bytes

    def in_its_place(self, reason: OSError) -> bytes:
        """The `error` that is sent instead, encoded."""
        lost = f"the server could not read this answer back from its temporary file ({reason}); send the frame again"
        if self.beginning.startswith(_ERROR):
            error = _error_decoder.decode(self.beginning)
            return encode(msgspec.structs.replace(error, message=f"{error.message}; {lost}"))
        names = _names_decoder.decode(self.beginning + b"}")
        return encode(Error(names.frame_id, names.plugin, PluginError.code, lost, timestamp(), names.job_id))


def remains_of(encoded: bytes) -> Remains | None:
    """What is remembered of a message; None if it is no terminal message."""
    if encoded.startswith(_RESULT):
        return Remains(encoded[: encoded.index(_AFTER_NAMES)])
    if encoded.startswith(_ERROR):
        error = _error_decoder.decode(encoded)
        return Remains(encode(msgspec.structs.replace(error, message=f"{error.message[:_SHOWN_CHARS]}…")))
    return None
