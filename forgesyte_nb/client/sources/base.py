"""`Source`: pictures from one place, in order, with their pace.

A source has a name, a flag for live input, and yields pictures with a number, a capture time and a position, lazily
and in one thread. An element that is no picture is yielded as a `RawImage` and stops nothing. `SourceError` is raised
when a source is opened and nothing can be read, and by `frames()` at the point where reading cannot continue; all
pictures before that point have been yielded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from forgesyte_nb.checks import check_count, check_positive
from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.image.pictures import Picture, RawImage

Take = Callable[[int], Picture]
"""Makes the picture at one place of a source, given its number. It is not called for a picture that is skipped."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The condition of a source at one moment.

    Attributes:
        state: "reading"; "silent" if a live source has sent no picture for some seconds; "reconnecting" while it is
            away.
        outages: Number of times that a live source went away.
        damaged: Number of pictures of a live source that could not be decoded and were skipped.
        message: Text for people about a state other than "reading"; else empty.
    """

    state: Literal["reading", "silent", "reconnecting"] = "reading"
    outages: int = 0
    damaged: int = 0
    message: str = ""


class Source:
    """Pictures from one place, in order. Subclasses implement one pass through it.

    Attributes:
        name: Its name in messages and results; without user name, password and query of a URL.
        live: True if pictures are lost when they are not read in time, as with a camera.
        length: Number of pictures that one pass yields; None if unknown. A hint: videos miscount.
        fps: Its own pictures per second; None if it has no rate.
    """

    name = "source"
    live = False
    length: int | None = None
    fps: float | None = None

    def __init__(self, *, every: int = 1, loop: bool = False, fps: float | None = None) -> None:
        """Set the pace; see `open_source`.

        Raises:
            ValueError: If `every` is less than 1 or `fps` not positive.
        """
        check_count("every", every)
        if fps is not None:
            check_positive("fps", fps)
        self._every, self._loop, self._pace = every, loop, fps
        self._closed = threading.Event()

    @property
    def status(self) -> SourceStatus:
        """Its condition: outages and damaged pictures of a live source. Any thread may read it."""
        return SourceStatus()

    def _takes(self) -> Iterator[Take]:
        """One pass."""
        raise NotImplementedError

    def frames(self) -> Iterator[Picture]:
        """The pictures, from the start each time it is called; one reader at a time.

        Yields:
            `Frame`, or `RawImage` for what is no picture; `seq` is its number in the source, with gaps if
            `every` is more than 1, and counts on when the source loops.

        Raises:
            SourceError: Where it cannot be read on; at its end, if it is empty.
        """
        self._closed.clear()
        began = time.monotonic()
        for count, (seq, take) in enumerate(self._places()):
            if self._pace is not None and self._closed.wait(max(0.0, began + count / self._pace - time.monotonic())):
                return
            try:
                picture = take(seq)
            except (InvalidImage, SourceError) as error:
                picture = RawImage(b"", f"{self.name}#{seq}", seq, unreadable=str(error))
            yield picture

    def _places(self) -> Iterator[tuple[int, Take]]:
        seq = 0
        while True:
            first = seq
            for take in self._takes():
                if self._closed.is_set():
                    return
                if seq % self._every == 0:
                    yield seq, take
                seq += 1
            if not seq and not self._closed.is_set():
                raise SourceError(
                    f"The source {self.name!r} has no pictures: give it one at least; a generator that was read to its "
                    "end must be made anew"
                )
            if not self._loop or seq == first:
                return

    def close(self) -> None:
        """Stop: a running `frames()` ends at the next picture; it can be called anew. Any thread may call it."""
        self._closed.set()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of pictures that `frames()` will yield, as far as is known.

        Raises:
            TypeError: If it is not known.
        """
        if self.length is None or self._loop:
            raise TypeError(f"{self.name} has no known length")
        return -(-self.length // self._every)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        size = "" if self.length is None else f" {self.length} pictures"
        rate = "" if self.fps is None else f" {self.fps:g} fps"
        status = f", {self.status.message}" if self.status.message else ""
        return f"<{type(self).__name__} {self.name}{size}{rate}{' live' if self.live else ''}{status}>"
