"""`Transport`: one connection of a client to a server.

A client sends messages of the protocol and frames, and receives messages as dicts; how they are written is the
transport's own business. A transport connects once. When it ends, `receive` raises `TransportClosed`, and the client
makes another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from forgesyte_nb.image.pictures import Picture
from forgesyte_nb.protocol.messages import Cancel, Resume, Subscribe, Unsubscribe

Message = Subscribe | Unsubscribe | Cancel | Resume


class TransportClosed(Exception):
    """The connection has ended; its text says why.

    Attributes:
        too_large: True if the server ended it because a message was over its limit.
    """

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        """Give the reason."""
        super().__init__(reason)
        self.too_large = too_large


class MessageTooLarge(Exception):
    """A frame is over the server's limit for one message; it was not sent."""


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """A frame as a transport sends it.

    Attributes:
        frame_id: Its name.
        plugin: Name of the plugin.
        options: JSON object.
        stream_id: The stream of the client that it belongs to; empty if none was named.
        picture: The picture.
    """

    frame_id: str
    plugin: str
    options: bytes
    stream_id: str
    picture: Picture


class Transport(Protocol):
    """One connection to a server.

    Attributes:
        is_v2: True if the server speaks `forgesyte.v2`: it greets with `hello` and numbers its messages.
        takes_pixels: True if raw pixels are sent as they are; False if they must be encoded as an image file before.
        max_message_bytes: Largest message the server takes, once it has said so; 0 for no limit.
    """

    is_v2: bool
    takes_pixels: bool
    max_message_bytes: int

    async def send(self, message: Message | OutgoingFrame) -> None:
        """Send a message or a frame; one that is lost with the connection raises nothing.

        Raises:
            MessageTooLarge: If it is over `max_message_bytes`.
        """

    async def receive(self) -> dict[str, Any]:
        """The next message of the server.

        Raises:
            TransportClosed: If the connection has ended.
        """

    async def close(self) -> None:
        """Close the connection in order; idempotent. Cancelling it cuts the connection at once."""

    def abort(self) -> None:
        """Cut the connection at once."""

    def disown(self) -> None:
        """Release the connection in a forked process without closing it for the parent."""
