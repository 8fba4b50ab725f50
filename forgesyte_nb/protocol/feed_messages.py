"""Messages about feeds (`forgesyte.v2`): what the kernel shows live, and how its viewers steer it.

A feed is a live picture of something in the kernel: a stream with its results, a plot, a table. A viewer watches
it, acknowledges each picture, and may control what stands behind it. Pictures and states are the newest there are,
never a queue. A picture travels as a binary message whose header is described at `frame_header`. Sans-I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Watch(msgspec.Struct, tag_field="type", tag="watch", frozen=True):
    """See a feed from now on; again with other values, see it so.

    Attributes:
        feed: Its id, from `hello` or from a widget.
        max_width: Widest picture wanted, in pixels; wider ones are scaled down. None: as they are.
        quality: JPEG quality, 1 to 95, of pictures that are scaled. None: 80.
        pace_ms: None: at most two pictures are unacknowledged. A number: nothing is acknowledged, and pictures
            come no faster than one in so many milliseconds (for a way on which acknowledgements may be held up).
    """

    feed: str
    max_width: int | None = None
    quality: int | None = None
    pace_ms: int | None = None


class Unwatch(msgspec.Struct, tag_field="type", tag="unwatch", frozen=True):
    """See it no longer; also while nobody looks, as in a hidden tab."""

    feed: str


class Ack(msgspec.Struct, tag_field="type", tag="ack", frozen=True):
    """The picture with this `seq` is on the screen."""

    feed: str
    seq: int


class Control(msgspec.Struct, tag_field="type", tag="control", frozen=True):
    """Steer what stands behind a feed: play, pause, step, options, and what else its kind understands.

    Attributes:
        value: Whatever the action takes.
        request_id: Echoed in the answer `controlled`; without it there is none.
    """

    feed: str
    action: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    request_id: str | None = None


class FeedInfo(msgspec.Struct, frozen=True):
    """One feed, as `hello` lists it."""

    feed: str
    kind: str
    title: str


class FeedState(msgspec.Struct, tag_field="type", tag="feed_state", frozen=True):
    """How things stand behind a feed; what `state` holds depends on the feed's kind."""

    feed: str
    state: msgspec.Raw


class Controlled(msgspec.Struct, tag_field="type", tag="controlled", frozen=True):
    """Answer to `control`: what came of it, or in `message` why nothing did."""

    feed: str
    request_id: str
    ok: bool
    value: msgspec.Raw = msgspec.Raw(b"null")
    message: str = ""


class FeedEnded(msgspec.Struct, tag_field="type", tag="feed_ended", frozen=True):
    """Nothing more will come of this feed; also the answer to watching one that is not there."""

    feed: str
    reason: str


def frame_header(feed: str, seq: int, content_type: str, about: dict[str, Any]) -> dict[str, Any]:
    """Header of a binary `frame` message.

    Args:
        feed: Id of the feed.
        seq: Number of the picture in its feed, from 1, with gaps where newer ones were there.
        content_type: Of the payload, such as "image/jpeg".
        about: What the feed's kind adds: `frame_id`, `result`, `published_at` (seconds since the epoch), …
    """
    return {"type": "frame", "feed": feed, "seq": seq, "content_type": content_type, **about}
