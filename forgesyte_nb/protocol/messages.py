"""The messages of the wire as typed structures: the seed's, and what `forgesyte.v2` adds.

Names of fields are the wire's. Nothing here does I/O or knows a socket; `wire.py` turns these into bytes and
back. `ClientMessage` is what a client may send, `ServerMessage` what it may receive. Fields and messages that
the seed does not have are marked *added*: a client that knows the seed alone can ignore them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from forgesyte_nb.protocol.feed_messages import (
    Ack,
    Control,
    Controlled,
    FeedEnded,
    FeedInfo,
    FeedState,
    Unwatch,
    Watch,
)

JobStatus = Literal["pending", "processing", "completed", "failed"]

SUBPROTOCOL_V2 = "forgesyte.v2"
SUBPROTOCOL_SEED = "forgesyte.v1"
"""Name of the seed's protocol: a browser that offers subprotocols (its token is one) fails unless one is selected."""


class Subscribe(msgspec.Struct, tag_field="type", tag="subscribe", frozen=True):
    """Receive what is published to `topic` from now on."""

    topic: str


class Unsubscribe(msgspec.Struct, tag_field="type", tag="unsubscribe", frozen=True):
    """Receive it no longer."""

    topic: str


class SendFrame(msgspec.Struct, tag_field="type", tag="send_frame", frozen=True):
    """An image for a plugin.

    Attributes:
        frame_id: The client's name for it, echoed in every message about it; need not be unique.
        image_data: Base64 text as raw JSON (still in its quotes, so that no copy is made of it), or the image
            itself where it came as the payload of a binary message.
        plugin: Name of the plugin.
        options: The plugin's options as raw JSON, checked against the plugin's schema later.
        stream_id: *Added.* Which of the client's streams the frame belongs to; a stateful plugin keeps one
            state for each.
    """

    frame_id: str
    plugin: str
    image_data: msgspec.Raw = msgspec.Raw()
    options: msgspec.Raw = msgspec.Raw(b"{}")
    stream_id: str = ""


class Cancel(msgspec.Struct, tag_field="type", tag="cancel", frozen=True):
    """*Added.* Nobody waits for a job of one's own: one that has not started ends; a plugin at work is told."""

    job_id: str


class Resume(msgspec.Struct, tag_field="type", tag="resume", frozen=True):
    """*Added, forgesyte.v2.* The first message of a client that comes back: what it has of an earlier session.

    Attributes:
        epoch: Of the numbers it counts by, from the `hello` or `resumed` that it had then.
        seq: Number of the last message it received.
        secret: From the `hello` of that session.
    """

    epoch: str
    seq: int
    secret: str


ClientMessage = Subscribe | Unsubscribe | SendFrame | Cancel | Resume | Watch | Unwatch | Ack | Control


class Timings(msgspec.Struct, frozen=True):
    """*Added.* Where a frame's time went, in milliseconds.

    Attributes:
        queue_ms: From its arrival to the moment a worker started on it.
        decode_ms: Decoding the image.
        plugin_ms: In the plugin itself, without decoding.
        total_ms: From its arrival to its result.
    """

    queue_ms: float
    decode_ms: float
    plugin_ms: float
    total_ms: float


class FrameResult(msgspec.Struct, tag_field="type", tag="frame_result", frozen=True):
    """The terminal message of a frame that was analysed.

    Attributes:
        result: The plugin's result as JSON, made where the plugin ran.
        processing_time_ms: Wall time in the plugin, decoding included.
        timestamp: UTC of completion, ISO 8601 with microseconds and `Z`.
        plugin_revision: *Added.* Counts up each time the plugin's code changes.
    """

    frame_id: str
    job_id: str
    plugin: str
    status: Literal["success", "error"]
    result: msgspec.Raw
    processing_time_ms: float
    timestamp: str
    timings: Timings
    plugin_revision: int


class Error(msgspec.Struct, tag_field="type", tag="error", frozen=True):
    """The terminal message of a frame that failed, or the answer to a message that could not be taken.

    Attributes:
        frame_id: The frame it is about; null if there is none.
        job_id: *Added.* The job that failed; null if the message was refused before it became a job.
        topic: *Added.* The topic of a `subscribe` that was refused; in no other error.
    """

    frame_id: str | None
    plugin: str | None
    error_code: str
    message: str
    timestamp: str
    job_id: str | None = None
    topic: str | msgspec.UnsetType = msgspec.UNSET


class JobUpdate(msgspec.Struct, tag_field="type", tag="job_update", frozen=True):
    """A change in the state or progress of a job."""

    job_id: str
    status: JobStatus
    frame_id: str
    plugin: str
    progress_percent: float
    timestamp: str


class Hello(msgspec.Struct, tag_field="type", tag="hello", frozen=True):
    """*Added, forgesyte.v2.* The first message: who answers, within which limits, and what can be watched.

    Attributes:
        epoch: Of the numbers `seq` of this session's messages.
        secret: Who comes back with it may `resume` the session; for its client alone.
        feeds_id: Of the process whose feeds these are: a widget learns by it that it talks to its own kernel, whatever
            server there answers.
    """

    server_id: str
    session: str
    epoch: str
    secret: str
    version: str
    max_message_bytes: int
    max_image_pixels: int
    plugins: list[str]
    feeds: list[FeedInfo] = []
    feeds_id: str = ""
    max_options_bytes: int = 0


class Subscribed(msgspec.Struct, tag_field="type", tag="subscribed", frozen=True):
    """*Added, forgesyte.v2.* Acknowledges a `subscribe`."""

    topic: str


class Unsubscribed(msgspec.Struct, tag_field="type", tag="unsubscribed", frozen=True):
    """*Added, forgesyte.v2.* Acknowledges an `unsubscribe`."""

    topic: str


class Resumed(msgspec.Struct, tag_field="type", tag="resumed", frozen=True):
    """*Added, forgesyte.v2.* Answers `resume`.

    Attributes:
        recovered: Whether everything after the client's `seq` follows, without a hole. If not, what is left of it
            follows, and the client has to find out for itself what it missed.
        session: The session that the connection serves from now on.
        epoch: That its messages are numbered by from now on.
        missed: How many messages follow that the client missed.
    """

    recovered: bool
    session: str
    epoch: str
    missed: int


class Dropped(msgspec.Struct, tag_field="type", tag="dropped", frozen=True):
    """*Added.* Broadcasts that were not sent, because this subscriber is too slow for them.

    Attributes:
        count: How many since it was last told.
    """

    count: int
    timestamp: str


class Broadcast(msgspec.Struct, tag_field="type", tag="broadcast", frozen=True):
    """*Added.* What the server's owner says to everyone, to a topic or to one client, from Python."""

    topic: str | None
    body: msgspec.Raw
    timestamp: str


ServerMessage = (
    FrameResult
    | Error
    | JobUpdate
    | Hello
    | Resumed
    | Subscribed
    | Unsubscribed
    | Broadcast
    | Dropped
    | FeedState
    | Controlled
    | FeedEnded
)
