"""`Playback`: another source, with play, pause, step, speed and stop.

It stands between a source and the stream that reads it, on the reading thread; the controls may be called from any
thread and act on the next picture. A live source that is paused goes on being read and its pictures are let go, so
that after the pause the picture is of now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from forgesyte_nb.checks import check_count
from forgesyte_nb.client.sources import Source, SourceStatus, Take
from forgesyte_nb.image.pictures import Picture

NOMINAL_FPS = 10.0
"""Pictures per second at speed 1 of a source that has no rate of its own, such as a folder."""


class Playback(Source):
    """A source under control.

    Attributes:
        inner: The source itself.
        endless: True if it ends only when it is stopped: a live source, or one that is looped.
        paused: Whether it waits.
        speed: Multiple of the source's own rate; None is as fast as pictures are taken.
    """

    def __init__(self, inner: Source, *, speed: float | None = None) -> None:
        """Control a source; see `set_speed`."""
        super().__init__()
        self.inner = inner
        self.name, self.live, self.length, self.fps = inner.name, inner.live, inner.length, inner.fps
        self.endless = inner.live or inner._loop
        self.paused = False
        self.speed: float | None = None
        self._steps = 0
        self._stopped = False
        self._due_at = 0.0
        self._changed = threading.Condition()
        self.set_speed(speed)

    @property
    def status(self) -> SourceStatus:
        """Condition of the source."""
        return self.inner.status

    def _takes(self) -> Iterator[Take]:
        return self.inner._takes()

    def frames(self) -> Iterator[Picture]:
        """The pictures of one pass, when their time has come; see `Source.frames`."""
        self._due_at = time.monotonic()
        for picture in self.inner.frames():
            turn = self._wait_for_turn()
            if turn is None:
                return
            if turn:
                yield picture

    def _wait_for_turn(self) -> bool | None:
        """True to show the picture, False to let it go, None to stop."""
        with self._changed:
            while not self._stopped:
                if self.paused:
                    if self._steps:
                        self._steps -= 1
                        return True
                    if self.live:
                        return False
                    self._changed.wait()
                    self._due_at = time.monotonic()
                    continue
                now = time.monotonic()
                if self.speed is None or self.live or now >= self._due_at:
                    rate = (self.fps or NOMINAL_FPS) * (self.speed or 1.0)
                    # One that is late does not hurry to catch up with more than a picture.
                    self._due_at = max(self._due_at + 1 / rate, now)
                    return True
                self._changed.wait(self._due_at - now)
            return None

    def play(self) -> None:
        """Go on."""
        with self._changed:
            self.paused, self._steps = False, 0
            self._changed.notify_all()

    def pause(self) -> None:
        """Wait before the next picture."""
        with self._changed:
            self.paused = True
            self._changed.notify_all()

    def step(self, count: int = 1) -> None:
        """Let so many pictures through, and wait again.

        Raises:
            ValueError: If `count` is no whole number, or less than 1.
        """
        check_count("count", count)
        with self._changed:
            self.paused = True
            self._steps += count
            self._changed.notify_all()

    def set_speed(self, speed: float | None) -> None:
        """Set the pace.

        Args:
            speed: Multiple of the source's own rate (`NOMINAL_FPS` if it has none); None is as fast as it goes. A live
                source has its own pace, whatever this says.

        Raises:
            ValueError: If it is not positive.
        """
        if speed is not None and not (isinstance(speed, (int, float)) and 0 < speed < 1e6):
            raise ValueError(f"speed={speed!r}: a number greater than 0, or None for as fast as it goes")
        with self._changed:
            self.speed = speed
            self._due_at = time.monotonic()
            self._changed.notify_all()

    def rewind(self, *, paused: bool = False) -> None:
        """Make ready for a pass, also after `close`."""
        with self._changed:
            self._stopped = False
            self.paused, self._steps = paused, 0

    def close(self) -> None:
        """Stop: no further picture comes."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self.inner.close()

    def disown(self) -> None:
        """In a forked process: it is read in the parent."""
        self._changed, self._stopped = threading.Condition(), True

    def __len__(self) -> int:
        return len(self.inner)
