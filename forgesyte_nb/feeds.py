"""Feeds: what the kernel shows live, as those who make the pictures see it.

A `Feed` is published to from any thread: a picture (`show`) and a state (`tell`), each replacing the one before. Who
watches, over which connection and how fast, is not its business (`viewers.py`): it only tells the servers that
something is new, and hears from them what a viewer wants done. Feeds belong to the process, not to a server, so
they outlive a server that is replaced. All methods are thread-safe; nothing here does I/O.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from forgesyte_nb.image.frame import Frame
from forgesyte_nb.protocol.feed_messages import FeedInfo, frame_header
from forgesyte_nb.protocol.wire import encode_binary

ControlAction = Callable[[str, Any], Any]
"""Called with an action and its value, on a server's loop; must return soon. What it returns is the answer; a
`concurrent.futures.Future` is waited for; a `ForgeSyteError`, `ValueError`, `TypeError` or `KeyError` is the reason
why nothing came of it."""


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture as it is published.

    Attributes:
        image: An image file that browsers can show, or a frame of raw pixels, which is encoded when it is sent.
        content_type: Such as "image/jpeg".
        seq: Number in its feed, from 1.
        about: The other fields of its header, anything that orjson can say.
    """

    image: bytes | Frame
    content_type: str
    seq: int
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        """The image file; encoding raw pixels takes milliseconds."""
        return self.image.bytes if isinstance(self.image, Frame) else self.image

    def message(self, feed_id: str) -> bytes:
        """The binary message."""
        return encode_binary(frame_header(feed_id, self.seq, self.content_type, self.about), self.payload)


class Feed:
    """One live picture of something.

    Attributes:
        feed_id: Unique in the process.
        kind: What it shows: "stream", "plot", "jobs", …; viewers choose their controls by it.
        title: For people.
        picture: The newest; None before the first.
        state: The newest, as JSON.
        ended: Why nothing more will come; empty while it is open.
        watchers: Viewers at the moment, over all servers; publishers may rest while it is 0.
    """

    def __init__(self, book: FeedBook, kind: str, title: str, control: ControlAction | None) -> None:
        """Made by `FeedBook.open`."""
        self.feed_id = f"{kind}-{secrets.token_hex(4)}"
        self.kind = kind
        self.title = title
        self.picture: ShownPicture | None = None
        self.state = b"{}"
        self.ended = ""
        self.watchers = 0
        self.on_watched: Callable[[], None] | None = None
        self._book = book
        self._control = control
        self._numbers = itertools.count(1)  # pictures may come from several threads at once

    @property
    def info(self) -> FeedInfo:
        """What `hello` says of it."""
        return FeedInfo(self.feed_id, self.kind, self.title)

    def show(self, image: bytes | Frame, content_type: str = "image/jpeg", **about: Any) -> None:
        """Publish a picture; `published_at` is added.

        Args:
            image: An image file that browsers can show, or a frame of raw pixels, encoded only if it is viewed.
            content_type: Such as "image/jpeg" or "image/png".
            **about: More fields for its header.
        """
        about["published_at"] = time.time()
        self.picture = ShownPicture(image, content_type, next(self._numbers), about)
        if self.watchers:
            self._book.changed(self)

    def tell(self, state: dict[str, Any]) -> None:
        """Publish a state.

        Raises:
            TypeError: If JSON cannot say it.
        """
        self.state = orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)
        if self.watchers:
            self._book.changed(self)

    def control(self, action: str, value: Any) -> Any:
        """Do what a viewer asks for.

        Raises:
            ValueError: If this feed takes no controls.
        """
        if self._control is None:
            raise ValueError(f"{self.kind} feeds take no controls")
        return self._control(action, value)

    def watched(self, change: int) -> None:
        """A server has more or fewer viewers of it."""
        self.watchers += change
        if self.watchers and self.on_watched is not None:
            self.on_watched()

    def close(self, reason: str = "it is closed") -> None:
        """Nothing more will come; viewers are told why. Twice is once."""
        if not self.ended:
            self.ended = reason
            self._book.close(self)

    def __repr__(self) -> str:
        return f"<Feed {self.feed_id} {self.title!r}, {self.watchers} watching>"


class FeedBook:
    """All feeds of this process, and the servers that pass them on.

    Attributes:
        book_id: Unique; viewers learn from it that a server has the feeds they are looking for.
    """

    def __init__(self) -> None:
        """Make an empty book."""
        self.book_id = secrets.token_hex(8)
        self._feeds: dict[str, Feed] = {}
        self._listeners: tuple[Callable[[Feed], None], ...] = ()

    def open(self, kind: str, title: str, control: ControlAction | None = None) -> Feed:
        """Open a feed.

        Args:
            kind: What it shows, one word.
            title: For people.
            control: Does what viewers ask for; None if there is nothing to steer.
        """
        feed = Feed(self, kind, title, control)
        self._feeds[feed.feed_id] = feed
        return feed

    def get(self, feed_id: str) -> Feed | None:
        """The feed of an id, if it is open."""
        return self._feeds.get(feed_id)

    def infos(self) -> list[FeedInfo]:
        """What `hello` lists."""
        return [feed.info for feed in list(self._feeds.values())]

    def listen(self, changed: Callable[[Feed], None]) -> None:
        """Call `changed(feed)`, on whatever thread, when a watched feed has something new or has ended."""
        self._listeners = (*self._listeners, changed)

    def unlisten(self, changed: Callable[[Feed], None]) -> None:
        """Call it no longer."""
        self._listeners = tuple(listener for listener in self._listeners if listener != changed)

    def changed(self, feed: Feed) -> None:
        """Tell the servers."""
        for listener in self._listeners:
            listener(feed)

    def close(self, feed: Feed) -> None:
        """Take a feed out and tell the servers."""
        self._feeds.pop(feed.feed_id, None)
        self.changed(feed)


_book = FeedBook()


def feed_book() -> FeedBook:
    """The feeds of this process."""
    return _book
