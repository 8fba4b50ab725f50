"""A source that is gathered into a table, by a caller that waits and may be interrupted.

Results become rows on the client's loop, so that an interrupt of the caller costs none. It only pauses the gathering:
pictures under way are still answered, the source waits, and a later call goes on where this one was interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.batch import check_for_all, row_of, table_of
from forgesyte_nb.client.loop_thread import LoopThread
from forgesyte_nb.client.stream import ResultStream
from forgesyte_nb.errors import ConnectionLost, InvalidOptions, PluginNotFound

if TYPE_CHECKING:
    import pandas as pd


class Gathering:
    """The half that runs on the client's loop.

    Attributes:
        stream: Where the results come from.
        rows: One for each result so far, in the source's order.
        failed: Rows with an error.
        error: The exception that ended it early; None if there was none.
        ended: True when no more rows will come.
    """

    def __init__(self, stream: ResultStream) -> None:
        """Gather nothing yet; `wait_for_more` begins."""
        self.stream = stream
        self.rows: list[dict[str, Any]] = []
        self.failed = 0
        self.error: Exception | None = None
        self.ended = False
        self._task: asyncio.Task[None] | None = None
        self._may_go_on, self._changed = asyncio.Event(), asyncio.Event()

    @property
    def length(self) -> int | None:
        """Pictures of the source; None if that is not known."""
        try:
            return len(self.stream.source)
        except TypeError:
            return None

    async def wait_for_more(self, seen: int) -> int:
        """Begin or go on, and wait until there are more than `seen` rows or it has ended; the number of rows."""
        self._may_go_on.set()
        if self._task is None:
            self._task = asyncio.create_task(self._gather(), name="forgesyte-batch")
        while len(self.rows) <= seen and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        return len(self.rows)

    def pause(self) -> None:
        """Take no further results: the stream sends as many pictures as may be under way, and waits. On the loop."""
        self._may_go_on.clear()

    def stop(self) -> None:
        """Give up what is under way and close the source. On the loop."""
        if self._task is not None:
            self._task.cancel()

    async def _gather(self) -> None:
        try:
            async with contextlib.aclosing(self.stream.chunks()) as chunks:
                async for chunk in chunks:
                    for result in chunk:
                        check_for_all(result)
                        self.failed += not result.ok
                        self.rows.append(row_of(result))
                    self._changed.set()
                    await self._may_go_on.wait()
        except Exception as error:  # noqa: BLE001 -- raised where the table is waited for
            self.error = error
        finally:
            self.ended = True
            self._changed.set()


class Batch:
    """The half of the caller. Once it and its tables are gone, the source is closed."""

    def __init__(
        self, thread: LoopThread, stream: ResultStream, release: Callable[[], None], *, progress: bool
    ) -> None:
        """Prepare to gather a stream's results.

        Args:
            thread: Where the client runs.
            stream: Its results, ordered.
            release: Called when it has ended or is given up.
            progress: True to show a progress bar.
        """
        self._thread, self._progress = thread, progress
        self._gathering = Gathering(stream)
        self._end = weakref.finalize(self, _end, thread, self._gathering, release)
        self._end.atexit = False

    def table(self) -> pd.DataFrame:
        """Gather to the end of the source, or until an interrupt; see `forgesyte_nb.batch`."""
        from forgesyte_nb.client.partial_table import PartialTable  # pandas takes a while, and may be interrupted, too

        gathering = self._gathering
        try:
            self._wait()
        except KeyboardInterrupt:
            rows = gathering.rows[:]
            if not rows:
                self._end()
                raise
            if gathering.stream.source.live:
                self._end()
                warnings.warn(f"interrupted after {len(rows)} pictures", stacklevel=3)
                return table_of(rows)
            self._thread.post(gathering.pause)
            partial = PartialTable.of(self, rows, gathering.length)
            warnings.warn(f"interrupted: {partial.told}", stacklevel=3)
            return partial
        except BaseException:
            self._end()
            raise
        self._end()
        self._tell_how_it_ended()
        return table_of(gathering.rows)

    def _wait(self) -> None:
        """Wait for all rows, with a progress bar, which is written from the calling thread alone."""
        from tqdm.auto import tqdm

        class Bar(tqdm):  # type: ignore[type-arg]
            monitor_interval = 0  # tqdm's own thread would write to whatever cell runs by then

        gathering = self._gathering
        name, length, seen = gathering.stream.source.name, gathering.length, len(gathering.rows)
        with Bar(total=length, initial=seen, desc=name, unit="image", disable=not self._progress) as bar:
            while not gathering.ended or seen < len(gathering.rows):
                count = self._thread.call(gathering.wait_for_more(seen))
                if gathering.failed:
                    bar.set_postfix(failed=gathering.failed, refresh=False)
                bar.update(count - seen)
                seen = count

    def _tell_how_it_ended(self) -> None:
        """Raise what ended it before there was anything of use, warn of what ended it later."""
        gathering, error = self._gathering, self._gathering.error
        gathering.stream.warn(stacklevel=4)
        if error is None:
            return
        is_of_use = {
            ConnectionLost: bool(gathering.rows),
            PluginNotFound: any(row["ok"] for row in gathering.rows),
            InvalidOptions: any(row["ok"] for row in gathering.rows),
        }
        if not is_of_use.get(type(error), False):
            raise error
        warnings.warn(f"{error}; the table ends after {len(gathering.rows)} pictures", stacklevel=4)


def _end(thread: LoopThread, gathering: Gathering, release: Callable[[], None]) -> None:
    thread.post(gathering.stop)
    release()
