"""`Feeder`: a source read in a thread of its own, for a loop that takes one picture at a time.

Reading, decoding and encoding block, so none of it happens on the loop. With `every_frame` the thread waits when it
is some pictures ahead; with `freshest` it never waits: only the newest picture is kept, and what was skipped is
counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from forgesyte_nb.client.sources import Source
from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.pictures import Picture, RawImage

_AHEAD = 4  # pictures read before they are asked for, so that reading and sending overlap
_STOP_S = 1.0  # a source that blocks longer than this is left to its daemon thread


class Feeder:
    """Reads one source; made, iterated and stopped on one loop.

    Attributes:
        freshest: Whether only the newest picture is kept; may change at any time.
        read: Pictures read so far.
        skipped: Of those, how many were dropped for a newer one.
    """

    def __init__(self, source: Source, *, freshest: bool, encode: bool) -> None:
        """Begin to read."""
        self.read = 0
        self._encode = encode
        self.skipped = 0
        self._source = source
        self.freshest = freshest
        self._pictures: deque[Picture] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._wanted: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"forgesyte-source-{source.name}", daemon=True)
        self._thread.start()

    async def take(self) -> Picture | None:
        """The next picture; None at the end.

        Raises:
            BaseException: What reading raised, after all pictures before it were taken.
        """
        while True:
            with self._changed:
                if self._pictures:
                    self._changed.notify()
                    return self._pictures.popleft()
                if self._ended:
                    break
                wanted = self._wanted = self._loop.create_future()
            await wanted
        if self._error is not None:
            raise self._error
        return None

    async def stop(self) -> None:
        """Stop reading, close the source and wait for the thread.

        Raises:
            Exception: What closing the source raised, when the thread has ended.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
        try:
            self._source.close()
        finally:
            if self._thread.is_alive():
                await asyncio.to_thread(self._thread.join, _STOP_S)

    # In the thread

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._read()
        except BaseException as raised:  # noqa: BLE001 -- handed to the one who takes
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._wake()

    def _read(self) -> None:
        pictures = iter(self._source.frames())
        try:
            for picture in pictures:
                if not self._put(_encoded(picture) if self._encode else picture):
                    break
        finally:
            close = getattr(pictures, "close", None)  # of a generator, which then closes what it opened
            if close is not None:
                close()

    def _put(self, picture: Picture) -> bool:
        with self._changed:
            self.read += 1
            if self.freshest:
                self.skipped += len(self._pictures)
                self._pictures.clear()
            while len(self._pictures) >= _AHEAD and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return False
            self._pictures.append(picture)
            self._wake()
            return True

    def _wake(self) -> None:
        """Tell the loop, if it waits; the lock is held."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under a source that blocked
                self._loop.call_soon_threadsafe(_resolve, wanted)


def _resolve(wanted: asyncio.Future[None]) -> None:
    if not wanted.done():
        wanted.set_result(None)


def _encoded(picture: Picture) -> Picture:
    """The picture with its file made; one that cannot be made says so instead of stopping the rest."""
    try:
        picture.bytes  # noqa: B018 -- made and kept on first use
    except InvalidImage as error:
        return RawImage(
            b"", picture.frame_id, picture.seq, picture.captured_at, unreadable=str(error), time_s=picture.time_s
        )
    return picture
