"""`Sender`: what a user has made into frames, each with a name that no other has, and sent.

An answer goes one of three ways: to the listeners alone (`send`), to the one who waits for it (`ask`), or into a stream
of results (`stream`). It belongs to one client and one link, and neither connects nor listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from forgesyte_nb.checks import check_count
from forgesyte_nb.client.caller import warn_caller
from forgesyte_nb.client.link import Link
from forgesyte_nb.client.options import encode_options
from forgesyte_nb.client.preparing import Preparation
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source, collection_kind, first_and_count
from forgesyte_nb.client.stream import Explain, Intent, ResultStream, check_intent
from forgesyte_nb.client.unanswered import SentFrame
from forgesyte_nb.errors import ProcessingTimeout, SourceError
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import Picture, RawImage, as_picture
from forgesyte_nb.plugins.options import check_size

_FRESH_CONCURRENCY = 2  # one in a worker, one on its way: more would only make the freshest picture old
_CHEAP_BYTES = 256 * 1024  # of an image file whose header is read at once instead of in a thread


class Sender:
    """Names frames and streams, and sends them."""

    def __init__(self, link: Link, *, window: int) -> None:
        """Send over a link that has room for `window` frames."""
        self._link, self._window = link, window
        self._preparation = Preparation()
        self._streams = itertools.count(1)
        self._counts: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._frame_ids = map(f"{secrets.token_hex(4)}-{{}}".format, itertools.count(1))

    async def send(
        self, image: Any, plugin: str, options: dict[str, Any] | None, *, frame_id: str | None, stream_id: str
    ) -> str:
        """Send a picture and return the name of its frame; see `Client.send_frame`."""
        async with self._frame(image, plugin, options, stream_id, frame_id) as frame:
            frame.outlives = True
            await self._link.admit(frame)
        await self._link.transmit(frame)
        return frame.frame_id

    async def ask(
        self, image: Any, plugin: str, options: dict[str, Any], *, timeout_s: float | None, stream_id: str
    ) -> Result:
        """Send a picture and wait for its result, which may be an error; see `Client.analyze`."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        sent: SentFrame | None = None
        try:
            async with asyncio.timeout(timeout_s):
                async with self._frame(image, plugin, options, stream_id, None) as sent:
                    sent.deliver = lambda result: None if answer.done() else answer.set_result(result)
                    await self._link.admit(sent)
                await self._link.transmit(sent)
                return await answer
        except TimeoutError:
            raise ProcessingTimeout(
                f"{plugin} did not answer within timeout_s={timeout_s:g}; give it longer, or see what the server is "
                "busy with"
            ) from None
        finally:
            if sent is not None:
                self._link.forget(sent)

    def stream(
        self,
        source: Source,
        plugin: str,
        options: dict[str, Any],
        *,
        intent: Intent | None,
        ordered: bool,
        concurrency: int | None,
        explain: Explain,
    ) -> ResultStream:
        """Begin a stream of a source that is open; see `Client.stream`."""
        _check_name(plugin)
        if concurrency is not None:
            check_count("concurrency", concurrency)
            if concurrency > self._window:
                raise ValueError(
                    f"concurrency={concurrency}: this client has window={self._window} frames under way at most; make "
                    f"it with window={concurrency}"
                )
        if intent is not None:
            check_intent(intent)
        freshest = (intent or ("freshest" if source.live else "every_frame")) == "freshest"
        return ResultStream(
            source,
            plugin,
            self._encoded(options),
            send=self._link.submit,
            forget=self._link.forget,
            frame_ids=self._frame_ids.__next__,
            stream_id=f"stream_{next(self._streams)}",
            intent=intent,
            ordered=ordered,
            concurrency=concurrency or (min(_FRESH_CONCURRENCY, self._window) if freshest else self._window),
            explain=explain,
            encode=not self._link.takes_pixels,
        )

    @contextlib.asynccontextmanager
    async def _frame(
        self, image: Any, plugin: str, options: dict[str, Any] | None, stream_id: str, frame_id: str | None
    ) -> AsyncIterator[SentFrame]:
        """A frame that is ready to be sent, when it is its turn in its stream."""
        _check_name(plugin)
        chosen = frame_id is not None
        name = frame_id if frame_id is not None else next(self._frame_ids)
        encoded = self._encoded(options)
        # A frame has its number; other pictures are counted in their stream.
        seq = image.seq if isinstance(image, (Frame, RawImage)) else next(self._counts[stream_id])
        encode = not self._link.takes_pixels
        is_cheap = isinstance(image, bytes) and len(image) <= _CHEAP_BYTES
        prepared = self._preparation.in_turn(
            stream_id, lambda: _one_picture(image, seq, encode=encode), beside=not is_cheap
        )
        async with prepared as (picture, warning):
            if warning:
                warn_caller(warning)
            yield SentFrame(name, plugin, encoded, stream_id, picture, _nobody, chosen=chosen)

    def _encoded(self, options: dict[str, Any] | None) -> bytes:
        """The JSON of options; those over the server's limit would be refused with every frame."""
        encoded, limit_bytes = encode_options(options), self._link.max_options_bytes
        if limit_bytes:
            check_size(encoded, max_bytes=limit_bytes)
        return encoded


def _one_picture(image: Any, seq: int, *, encode: bool) -> tuple[Picture, str]:
    """The picture of a call, read and encoded, and the warning that it is one of several; else an empty text.

    Raises:
        SourceError: If the image cannot be read, is none, or holds many.
        InvalidImage: If it is an array of a shape or type that is no picture.
    """
    if many := collection_kind(image):
        named = image if isinstance(image, (str, os.PathLike)) else "this"
        raise SourceError(
            f"{named} is {many}; analyze and send_frame take one image: stream(…) sends all pictures that are in "
            "it and gives a result for each, batch(…) a table"
        )
    first, warning = _first_of(image)
    picture = as_picture(first, seq=seq)
    if isinstance(picture, RawImage) and picture.unreadable:
        raise SourceError(picture.unreadable)
    if encode:
        picture.bytes  # noqa: B018 -- encoded and kept on first use
    return picture, warning


def first_picture(image: Any) -> Any:
    """The picture of a file that holds several; warns the caller of that, and returns anything else as it is."""
    first, warning = _first_of(image)
    if warning:
        warn_caller(warning)
    return first


def _first_of(image: Any) -> tuple[Any, str]:
    first, count = first_and_count(image)
    if count == 1:
        return image, ""
    name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "the image"
    warning = f"{name} holds {count} pictures, of which the first alone is sent; stream(…) sends all of them"
    return as_picture(first), warning  # a `Frame`, which is one picture


def _check_name(plugin: Any) -> None:
    if not isinstance(plugin, str):
        name = getattr(plugin, "__name__", "ocr")
        raise TypeError(
            f"plugin of type {type(plugin).__name__}: give the plugin's name, which comes after the picture or source, "
            f"such as {name!r}"
        )


def _nobody(_result: Result) -> None:
    """A frame whose answer goes to the listeners alone."""
