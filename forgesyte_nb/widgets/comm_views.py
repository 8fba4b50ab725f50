"""The third way from the browser to the server: comm messages, one session for each view of a widget.

A page says `{"view": …, "kind": "open"}` and gets `{"to": …, "texts": […]}` with binary messages as buffers, beginning
with the server's `hello`; "say" carries a message of the protocol, as text or as one buffer; "here" is a sign of life
and "gone" the end. `{"to": …, "closed": reason}` is the kernel's end of it.

Messages of a page may be held up for as long as a cell runs, so silence alone proves nothing, yet a Jupyter Server
keeps what is sent to a page that has vanished. The longer a view was not heard of, the slower pictures are sent to
it, until it is dropped. Receiving only posts to the server's loop; sending happens on the server's thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from forgesyte_nb.errors import ServerError
from forgesyte_nb.server.server import Server
from forgesyte_nb.transport.local import Take

SILENT_S, DROPPED_S = 120.0, 3600.0
"""Nothing heard for so long: pictures come at `SILENT_PACE_MS`; the view is dropped."""

SILENT_PACE_MS = 1000
MOST_VIEWS = 32

Post = Callable[[dict[str, Any], list[bytes]], None]
"""Sends a custom message and its buffers to all pages; called on any thread."""


class CommView:
    """One view of a widget on one page, as a client of the server."""

    def __init__(self, view_id: str, post: Post, clock: Callable[[], float]) -> None:
        """Make it without a session."""
        self.view_id = view_id
        self._post = post
        self._clock = clock
        self._heard_at = clock()
        self._watched: dict[str, dict[str, Any]] = {}
        self._slow = False
        self._take: Take | None = None

    def enter(self, server: Server) -> None:
        """Open its session.

        Raises:
            ServerError: If the server is closed.
        """
        self._take = server.connect_local(f"view_{self.view_id}", self._send, self._closed)

    def say(self, text: str | None, buffers: list[Any]) -> None:
        """Pass a message of the page on."""
        self._heard_at = self._clock()
        if self._slow:
            self._slow = False
            for watch in list(self._watched.values()):
                self._pass_on(json.dumps(watch).encode())
        for buffer in buffers:
            self._pass_on(bytes(buffer), binary=True)
        if text:
            self._note(text)
            self._pass_on(text.encode())

    def _pass_on(self, message: bytes, *, binary: bool = False) -> None:
        if self._take is not None and message:
            self._take(message, binary=binary)

    def _note(self, text: str) -> None:
        """Remember what is watched, so that it can be made slower and faster again."""
        try:
            said = json.loads(text)
        except ValueError:
            return  # the server answers it
        if not isinstance(said, dict) or not isinstance(feed := said.get("feed"), str):
            return
        if said.get("type") == "watch":
            self._watched[feed] = said
        elif said.get("type") == "unwatch":
            self._watched.pop(feed, None)

    def _send(self, texts: list[bytes], pictures: list[bytes]) -> None:
        self._post({"to": self.view_id, "texts": [text.decode() for text in texts]}, pictures)
        silent_s = self._clock() - self._heard_at
        if silent_s > DROPPED_S:
            self.leave()
            self._closed("nothing was heard of this view for long")
        elif silent_s > SILENT_S and not self._slow:
            self._slow = True
            for watch in list(self._watched.values()):
                self._pass_on(json.dumps({**watch, "pace_ms": SILENT_PACE_MS}).encode())

    def _closed(self, reason: str = "the server was closed") -> None:
        self._take = None
        self._post({"to": self.view_id, "closed": reason}, [])

    def leave(self) -> None:
        """End its session; the page is not told."""
        take, self._take = self._take, None
        if take is not None:
            take(b"")

    @property
    def open(self) -> bool:
        """Whether it has a session."""
        return self._take is not None


class CommViews:
    """All views of one widget that have come by comm messages; thread-safe, since comms may be on a subshell."""

    def __init__(self, post: Post, server: Callable[[], Server], clock: Callable[[], float] = time.monotonic) -> None:
        """Make it without views.

        Args:
            post: Sends to the pages.
            server: The server in force.
            clock: Seconds.
        """
        self._post = post
        self._server = server
        self._clock = clock
        self._views: dict[str, CommView] = {}
        self._lock = threading.Lock()
        self._ended = False

    def __len__(self) -> int:
        return sum(view.open for view in self._views.values())

    def receive(self, said: dict[str, Any], buffers: list[Any]) -> None:
        """Take a message of a page; what is none of ours is left alone."""
        view_id, kind = said.get("view"), said.get("kind")
        if not isinstance(view_id, str):
            return
        if kind == "open":
            self._open(view_id)
            return
        view = self._views.get(view_id)
        if view is None or not view.open:
            if kind != "gone":
                self._post({"to": view_id, "closed": "the kernel does not know this view"}, [])
        elif kind == "gone":
            self._drop(view_id)
        else:
            text = said.get("text")
            view.say(text if isinstance(text, str) else None, buffers)

    def _open(self, view_id: str) -> None:
        self._drop(view_id)
        view = CommView(view_id, self._post, self._clock)
        with self._lock:
            if self._ended:
                return
            for stale in [name for name, known in self._views.items() if not known.open]:
                del self._views[stale]
            full = len(self._views) >= MOST_VIEWS
            if not full:
                self._views[view_id] = view
        if full:
            self._post({"to": view_id, "closed": f"the widget is open {MOST_VIEWS} times already"}, [])
            return
        try:
            view.enter(self._server())
        except ServerError as error:
            self._post({"to": view_id, "closed": str(error)}, [])

    def _drop(self, view_id: str) -> None:
        with self._lock:
            view = self._views.pop(view_id, None)
        if view is not None:
            view.leave()

    def close(self) -> None:
        """The widget is closed."""
        with self._lock:
            self._ended = True
            views, self._views = list(self._views.values()), {}
        for view in views:
            view.leave()
