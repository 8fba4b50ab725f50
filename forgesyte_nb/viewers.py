"""Viewers: which session sees which feed, and how fast.

For each feed it watches a session gets the newest state and the newest picture, never a queue of them: at most
two pictures are unacknowledged (one on the screen, one on its way), and meanwhile newer ones replace each other. A
viewer that cannot acknowledge is paced by a timer. Image files pass through as they are; for a viewer that asked for
narrower ones they are made again, and raw pixels are encoded, both away from the loop. Runs on the loop's thread;
sans-I/O.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import orjson

from forgesyte_nb.errors import ForgeSyteError, InvalidMessage
from forgesyte_nb.feeds import Feed, FeedBook, ShownPicture
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.feed_messages import Ack, Control, Controlled, FeedEnded, FeedState, Unwatch, Watch
from forgesyte_nb.sessions import Session

IN_FLIGHT = 2
"""Unacknowledged pictures of one viewer."""

DEFAULT_QUALITY = 80
MIN_WIDTH, MAX_WIDTH = 16, 16384

CallSoon = Callable[[Callable[[], None]], None]
CallLater = Callable[[float, Callable[[], None]], Any]
Resize = Callable[[ShownPicture, int, int, Callable[[ShownPicture], None]], None]
"""Called with a picture, the width and quality wanted, and what to call with the outcome, on the loop."""


class Viewer:
    """One session watching one feed."""

    __slots__ = ("_viewers", "feed", "in_flight", "resizing", "resting", "session", "shown_seq", "told", "wish")

    def __init__(self, viewers: Viewers, session: Session, feed: Feed, wish: Watch) -> None:
        """Begin to watch."""
        self._viewers = viewers
        self.session = session
        self.feed = feed
        self.wish = wish
        self.in_flight: set[int] = set()
        self.shown_seq = 0
        self.told = b""
        self.resting = False
        self.resizing = False

    def refresh(self) -> None:
        """Give it what is new, as far as it may have it."""
        feed = self.feed
        if feed.ended:
            self.session.outbox.owe(wire.encode(FeedEnded(feed.feed_id, feed.ended)))
            return
        if feed.state is not self.told:
            self.told = feed.state
            self.session.outbox.show_state(feed.feed_id, wire.encode(FeedState(feed.feed_id, msgspec.Raw(feed.state))))
        picture = feed.picture
        if picture is None or picture.seq <= self.shown_seq or self.resting or self.resizing:
            return
        if self.wish.pace_ms is None and len(self.in_flight) >= IN_FLIGHT:
            return
        width = picture.about.get("width", 0)
        max_width = self.wish.max_width or width
        if max_width < width or isinstance(picture.image, Frame):
            self.resizing = True
            self._viewers.resize(picture, max_width, self.wish.quality or DEFAULT_QUALITY, self._resized)
        else:
            self._send(picture)

    def _resized(self, picture: ShownPicture) -> None:
        self.resizing = False
        if self._viewers.has(self):
            self._send(picture)
            self.refresh()

    def _send(self, picture: ShownPicture) -> None:
        self.shown_seq = picture.seq
        if self.wish.pace_ms is None:
            self.in_flight.add(picture.seq)
        else:
            self.resting = True
            self._viewers.call_later(self.wish.pace_ms / 1000, self._rested)
        self.session.outbox.show_picture(self.feed.feed_id, picture.message(self.feed.feed_id))

    def _rested(self) -> None:
        self.resting = False
        if self._viewers.has(self):
            self.refresh()

    def acknowledge(self, seq: int) -> None:
        """A picture is on the screen, and with it all before: one that was replaced on its way never will be."""
        self.in_flight = {sent for sent in self.in_flight if sent > seq}
        self.refresh()


class Viewers:
    """All viewers of one server."""

    def __init__(
        self, book: FeedBook, log: logging.Logger, *, call_soon: CallSoon, call_later: CallLater, resize: Resize
    ) -> None:
        """Make it without viewers.

        Args:
            book: Where feeds are looked up.
            log: For controls that fail without a reason of their own.
            call_soon: Calls something on the loop, from any thread.
            call_later: Calls something on the loop after seconds.
            resize: Makes a picture narrower, away from the loop.
        """
        self.call_later = call_later
        self.resize = resize
        self._book = book
        self._log = log
        self._call_soon = call_soon
        self._by_feed: dict[str, dict[Session, Viewer]] = {}
        self._posted: set[Feed] = set()

    def __len__(self) -> int:
        return sum(len(group) for group in self._by_feed.values())

    def has(self, viewer: Viewer) -> bool:
        """Whether it watches still."""
        return self._by_feed.get(viewer.feed.feed_id, {}).get(viewer.session) is viewer

    def receive(self, session: Session, message: wire.FeedMessage) -> None:
        """Take a message of a viewer.

        Raises:
            InvalidMessage: If its session does not speak `forgesyte.v2`, or a value is out of bounds.
        """
        if not session.numbered:
            raise InvalidMessage(
                "feeds are for clients that speak forgesyte.v2: programs that offer it, the server's own page, and "
                "pages of the Jupyter Server that started this kernel"
            )
        if type(message) is Ack:
            viewer = self._by_feed.get(message.feed, {}).get(session)
            if viewer is not None:
                viewer.acknowledge(message.seq)
        elif type(message) is Watch:
            self._watch(session, message)
        elif type(message) is Unwatch:
            self._drop(message.feed, session)
        elif type(message) is Control:
            self._control(session, message)

    def _watch(self, session: Session, wish: Watch) -> None:
        for name, value, low, high in (
            ("max_width", wish.max_width, MIN_WIDTH, MAX_WIDTH),
            ("quality", wish.quality, 1, 95),
            ("pace_ms", wish.pace_ms, 1, 10_000),
        ):
            if value is not None and not low <= value <= high:
                raise InvalidMessage(f"watch: '{name}' is {value}; it must be {low} to {high}")
        feed = self._book.get(wish.feed)
        if feed is None:
            session.outbox.owe(wire.encode(FeedEnded(wish.feed, "there is no such feed; it was closed, or never was")))
            return
        group = self._by_feed.setdefault(wish.feed, {})
        known = group.get(session)
        if known is not None:
            known.wish = wish
            known.in_flight.clear()
            known.refresh()
            return
        viewer = group[session] = Viewer(self, session, feed, wish)
        feed.watched(+1)
        viewer.refresh()

    def _drop(self, feed_id: str, session: Session) -> None:
        group = self._by_feed.get(feed_id, {})
        viewer = group.pop(session, None)
        if not group:
            self._by_feed.pop(feed_id, None)
        if viewer is not None:
            session.outbox.hide(feed_id)
            viewer.feed.watched(-1)

    def leave(self, session: Session) -> None:
        """Its connection is gone; whoever comes back watches anew."""
        for feed_id in [feed_id for feed_id, group in self._by_feed.items() if session in group]:
            self._drop(feed_id, session)

    def close(self) -> None:
        """The server ends."""
        for feed_id, group in list(self._by_feed.items()):
            for session in list(group):
                self._drop(feed_id, session)

    # What feeds say

    def changed(self, feed: Feed) -> None:
        """A feed has something new; on any thread. However often it says so, the loop is woken once."""
        if feed not in self._posted:
            self._posted.add(feed)
            self._call_soon(partial(self._refresh, feed))

    def _refresh(self, feed: Feed) -> None:
        self._posted.discard(feed)
        viewers = list(self._by_feed.get(feed.feed_id, {}).values())
        for viewer in viewers:
            viewer.refresh()
        if feed.ended:
            for viewer in viewers:
                self._drop(feed.feed_id, viewer.session)

    # Controls

    def _control(self, session: Session, message: Control) -> None:
        feed = self._book.get(message.feed)
        try:
            if feed is None:
                raise ValueError("there is no such feed; it was closed, or never was")
            outcome = feed.control(message.action, orjson.loads(bytes(message.value)))
        except (ForgeSyteError, ValueError, TypeError, KeyError) as error:
            self._answer(session, message, error=error)
        except Exception as fault:  # noqa: BLE001 -- a fault in what stands behind a feed must not cost the connection
            self._log.exception("control %.80r of feed=%s failed", message.action, message.feed)
            self._answer(session, message, error=fault)
        else:
            if isinstance(outcome, concurrent.futures.Future):
                outcome.add_done_callback(
                    lambda done: self._call_soon(partial(self._answer_future, session, message, done))
                )
            else:
                self._answer(session, message, outcome)

    def _answer_future(self, session: Session, message: Control, done: concurrent.futures.Future[Any]) -> None:
        if done.cancelled():
            self._answer(session, message, error=ValueError("it was cancelled"))
            return
        self._answer(session, message, None if done.exception() else done.result(), error=done.exception())

    def _answer(
        self, session: Session, message: Control, value: Any = None, *, error: BaseException | None = None
    ) -> None:
        if message.request_id is None:
            return
        reason = "" if error is None else f"{error}" or type(error).__name__
        encoded = b"null"
        if error is None:
            try:
                encoded = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            except TypeError as unspeakable:
                reason = f"the answer cannot be said in JSON: {unspeakable}"
        answer = Controlled(message.feed, message.request_id, not reason, msgspec.Raw(encoded), reason)
        session.outbox.owe(wire.encode(answer))
