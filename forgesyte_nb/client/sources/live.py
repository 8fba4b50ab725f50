"""`LiveSource`: a camera or network stream that is connected to again when it goes away.

One connection is open at a time. The connection made when the source is opened, to see that something is there, is
the one that is read: some cameras serve one client only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from forgesyte_nb.client.sources.base import Source, SourceStatus, Take
from forgesyte_nb.errors import SourceError
from forgesyte_nb.image.frame import Frame

RECONNECT_S = 60.0
"""Default of `reconnect_s`."""

NETWORK_TIMEOUT_S = 10.0
"""Longest wait for a connection, and for a picture before the connection is made anew."""

_SILENT_S = 3.0  # without a picture for longer than this a camera is called silent
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


class Connection(Protocol):
    """An open connection to a camera."""

    fps: float | None

    def pictures(self) -> Iterator[Frame | None]:
        """Pictures until the stream ends; None for one that cannot be decoded.

        Raises:
            SourceError: If the connection breaks, or no picture comes in time.
        """
        ...

    def interrupt(self) -> None:
        """Make a waiting `pictures()` end soon. Any thread may call it."""
        ...

    def close(self) -> None:
        """Close; called by the thread that reads."""
        ...


Connect = Callable[[float], Connection]
"""Opens a connection, given the longest wait in seconds; raises `SourceError`."""


class LiveSource(Source):
    """A camera or stream; pictures are of now, and those that nobody reads are lost."""

    live = True

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        first: Connection | None = None,
        reconnect_s: float = RECONNECT_S,
        every: int = 1,
        loop: bool = False,
        fps: float | None = None,
    ) -> None:
        """Connect, unless `first` is an open connection.

        Raises:
            SourceError: If nothing answers.
            ValueError: If a setting makes no sense.
        """
        super().__init__(every=every, loop=loop, fps=fps)
        self.name = name
        self._connect, self._reconnect_s = connect, reconnect_s
        self._lock = threading.Lock()  # of the connection, and of what `status` reads
        self._connection: Connection | None = first or connect(NETWORK_TIMEOUT_S)
        self._is_read = False
        self.fps = self._connection.fps
        self._outages = self._damaged = self._pictures = 0
        self._reason = ""  # of the outage; empty while there is none
        self._waiting_since: float | None = None
        self._give_up_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    @property
    def status(self) -> SourceStatus:
        """Outages and damaged pictures so far, and whether it sends pictures at the moment."""
        with self._lock:
            outages, damaged, reason, since = self._outages, self._damaged, self._reason, self._waiting_since
        if reason:
            message = f"reconnecting to {self.name}: {reason}; outage {outages}"
            return SourceStatus("reconnecting", outages, damaged, message)
        waited_s = 0.0 if since is None else time.monotonic() - since
        if waited_s > _SILENT_S:
            message = f"{self.name} is silent: no picture for {waited_s:.0f} s"
            return SourceStatus("silent", outages, damaged, message)
        return SourceStatus("reading", outages, damaged)

    def _takes(self) -> Iterator[Take]:
        with self._lock:
            self._reason, self._waiting_since = "", time.monotonic()
            is_open = self._connection is not None
        try:
            if not is_open:
                self._keep(self._connect(NETWORK_TIMEOUT_S))
            while (connection := self._connected()) is not None:
                reason = "it ended the stream"
                with closing(connection):
                    try:
                        yield from self._read(connection)
                    except SourceError as error:
                        reason = str(error)
                    finally:
                        self._release()
                if self._closed.is_set():
                    return
                self._note_outage(reason)
        finally:
            with self._lock:
                self._waiting_since, self._reason = None, ""

    def _keep(self, connection: Connection) -> None:
        """Have a new connection read next, or close it if the source was closed meanwhile."""
        with self._lock:
            if not self._closed.is_set():
                self._connection = connection
                return
        connection.close()

    def _read(self, connection: Connection) -> Iterator[Take]:
        for picture in connection.pictures():
            if self._closed.is_set():
                return
            if picture is None:
                with self._lock:
                    self._damaged += 1
                continue
            with self._lock:
                self._pictures += 1
                self._reason, self._waiting_since, self._pause_s = "", None, _FIRST_PAUSE_S
            yield self._taker(picture, time.time())
            with self._lock:
                self._waiting_since = time.monotonic()

    def _taker(self, frame: Frame, captured_at: float) -> Take:
        def take(seq: int) -> Frame:
            frame.frame_id, frame.seq, frame.captured_at = f"{self.name}#{seq}", seq, captured_at
            return frame

        return take

    def _note_outage(self, reason: str) -> None:
        with self._lock:
            if not self._reason:
                self._outages += 1
                self._give_up_at = time.monotonic() + self._reconnect_s
            self._reason = reason.removeprefix(f"{self.name} ")

    def _connected(self) -> Connection | None:
        """The next connection; None if the source is closed.

        Raises:
            SourceError: If there was none, or none that sent a picture, for `reconnect_s`.
        """
        while not self._closed.is_set():
            with self._lock:
                if self._connection is not None:
                    self._is_read = True
                    return self._connection
            left_s = self._give_up_at - time.monotonic()
            if self._closed.wait(max(0.0, min(self._pause_s, left_s))):
                return None
            left_s = self._give_up_at - time.monotonic()
            if left_s <= 0:
                raise SourceError(self._given_up())
            self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            try:
                self._keep(self._connect(max(1.0, min(NETWORK_TIMEOUT_S, left_s))))
            except SourceError as error:
                self._note_outage(str(error))
        return None

    def _given_up(self) -> str:
        times = "once" if self._outages == 1 else f"{self._outages} times"
        return (
            f"{self.name} went away ({self._reason}) and did not come back within reconnect_s={self._reconnect_s:g}: "
            f"{self._pictures} pictures were read, and it was away {times}; see that it is switched on and reached "
            "from here, or give reconnect_s=… for a longer wait"
        )

    def _release(self) -> None:
        with self._lock:
            self._connection, self._is_read = None, False

    def close(self) -> None:
        """Stop and disconnect."""
        super().close()
        with self._lock:
            connection = self._connection
            if connection is None:
                return
            if self._is_read:  # its reader closes it
                connection.interrupt()
                return
            self._connection = None
        connection.close()
