"""`StreamResults`: what has come of a stream, and how one has it: listed, waited for, told, as a table, as a picture.

Whoever brings the results calls `remember` from a thread of its own; all else may be called from any thread, during the
stream and after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from forgesyte_nb.checks import check_number
from forgesyte_nb.client.results import Result
from forgesyte_nb.workbench.failures import Failure, Failures, told_of
from forgesyte_nb.workbench.history import History, Shown
from forgesyte_nb.workbench.ledger import Pace

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as PILImage

Heard = Callable[[Result, float], object]
"""Called with each result and its time (`time.monotonic()`), on the stream's thread."""


class StreamResults:
    """Results so far, and those to come."""

    def __init__(self, *, most_results: int) -> None:
        """Begin without results; of more than `most_results` the oldest are forgotten."""
        self._history = History(results=most_results)
        self._pace = Pace()
        self._failures = Failures()
        self._active = False
        self._changed = threading.Condition()
        self._awaited: set[Callable[[], object]] = set()  # called at the end of each pass, by whoever awaits it
        self._heard: tuple[Heard, ...] = ()

    def remember(self, result: Result, at_s: float, options: dict[str, Any]) -> Shown | None:
        """Take a result; what there is to show of it, if anything.

        Args:
            result: The result.
            at_s: When it came, monotonic seconds.
            options: The plugin's, in case it failed.
        """
        with self._changed:
            shown = self._history.add(result, at_s)
            self._pace.add(result)
            if result.error is not None:
                self._failures.add(Failure.of_result(result, result.error, options))
            self._changed.notify_all()
        for heard in self._heard:
            heard(result, at_s)
        return shown

    def on_result(self, heard: Heard) -> Callable[[], None]:
        """Call `heard(result, at_s)` with each result to come, on the stream's thread; returns how to end that."""
        self._heard = (*self._heard, heard)

        def end() -> None:
            self._heard = tuple(other for other in self._heard if other is not heard)

        return end

    @property
    def failures(self) -> list[Failure]:
        """The last frames that failed, oldest first, to be looked at and run again; see `Failure`.

        At most 64 are kept; how many failed is in the `errors` of the stream's `ledger`.
        """
        with self._changed:
            return self._failures.all()

    def failures_told(self) -> list[dict[str, Any]]:
        """What viewers are told of them; see `told_of`."""
        with self._changed:
            return told_of(self._failures.all(), self._failures.count)

    @property
    def rate_fps(self) -> float:
        """Results per second of late."""
        with self._changed:
            return round(self._pace.rate_fps, 1)

    @property
    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile by stage, in milliseconds, over the last frames."""
        with self._changed:
            return self._pace.latency_ms()

    @property
    def results(self) -> list[Result]:
        """Results so far, oldest first; the newest `history` of them.

        `result.frame` is the picture as it was sent. Of the oldest, whose pictures are over the limit of memory, it is
        a `RawImage` that says so, and whose pixels raise `InvalidImage`.
        """
        with self._changed:
            return list(self._history.results)

    def timed_results(self) -> list[tuple[Result, float]]:
        """The same, each with the time it came, as `time.monotonic()` tells it."""
        with self._changed:
            return list(zip(self._history.results, self._history.times_s, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """The results so far as a table, one row each; columns as in `fs.batch`.

        While there are more to come it warns how many there are, such as "77 of 250 pictures", unless the source is
        live or looped; `wait`, or `await`, waits for all.
        """
        from forgesyte_nb.client.batch import to_frame

        with self._changed:
            results, missing = self.results, self._missing()
        if missing:
            warnings.warn(missing, stacklevel=2)
        return to_frame(results)

    def _missing(self) -> str:
        """How many results a table lacks, and how to have them; empty if it has all, or if there is no end in sight."""
        return ""

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait in this thread until the pass has ended.

        Raises:
            TimeoutError: If that takes longer than `timeout_s`; the stream goes on.
            ValueError: If `timeout_s` is negative.
        """
        if timeout_s is not None:
            check_number("timeout_s", timeout_s, least=0)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._active, timeout_s):
                raise TimeoutError(f"{self!r} has not ended within {timeout_s:g} s; stop() ends it")
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Wait in a cell, `await stream`, while other tasks of the kernel go on."""
        return self._end().__await__()

    async def _end(self) -> Self:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed while it was awaited
                loop.call_soon_threadsafe(ended.set)

        with self._changed:
            self._awaited.add(notify)
        try:
            while self._active:
                await ended.wait()
                ended.clear()
        finally:
            with self._changed:
                self._awaited.discard(notify)
        return self

    def _notify_all(self) -> None:
        """Wake those who wait for the end of a pass; the lock is held."""
        self._changed.notify_all()
        for notify in self._awaited:
            notify()

    def __iter__(self) -> Iterator[Result]:
        """The results from the first that is kept, waiting for those to come; ends with the pass."""
        taken = self._history.forgotten
        while True:
            ready, taken = self._after(taken)
            if not ready:
                return
            yield from ready

    def _after(self, taken: int) -> tuple[list[Result], int]:
        """Results after the first `taken`, as soon as there are any, and how many there are by then."""
        history = self._history
        with self._changed:
            self._changed.wait_for(lambda: history.total > taken or not self._active)
            return list(islice(history.results, max(0, taken - history.forgotten), None)), history.total

    def snapshot(self, back: int = 0) -> PILImage:
        """The picture so many before the newest, with its result drawn over it, as a Pillow image in mode RGB.

        Raises:
            ValueError: If there is none yet, or no longer, saying how to wait for one.
        """
        from PIL import Image

        from forgesyte_nb.drawing import draw_result

        with self._changed:
            pictures, awaited = list(self._history.pictures), self._active
        if not pictures:
            remedy = "; next(iter(stream)) waits for the first result, stream.wait() for its end" if awaited else ""
            raise ValueError(f"snapshot(): there is no picture{' yet' if awaited else ''}: {self!r}{remedy}")
        if not 0 <= back < len(pictures):
            raise ValueError(f"snapshot({back}): {len(pictures)} pictures are kept, 0 is the newest")
        shown = pictures[-1 - back]
        return Image.fromarray(draw_result(shown.frame.rgb, shown.about.get("result", {})))
