"""`BlockingStream`: a stream's results as a plain iterator, in the thread that asks for them.

Results are fetched as many at a time as there are, so a fast stream costs one change of threads for several. Leaving
it early, by `break`, `close` or an interrupt, stops the source.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any, Self

from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source
from forgesyte_nb.client.stream import ResultStream
from forgesyte_nb.errors import ConnectionLost, SourceError

Call = Callable[[Coroutine[Any, Any, Any]], Any]


class BlockingStream:
    """Results of one source, as a plain iterator. Leaving it early stops the source."""

    def __init__(self, call: Call, stream: ResultStream) -> None:
        """Made by `BlockingClient.stream`."""
        self._stream = stream
        self._results = _results(call, stream)

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        return next(self._results)

    def close(self) -> None:
        """Stop; what is under way is forgotten."""
        self._results.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def source(self) -> Source:
        """The source."""
        return self._stream.source

    @property
    def sent(self) -> int:
        """Pictures sent so far."""
        return self._stream.sent

    @property
    def answered(self) -> int:
        """Results that came, failed ones included."""
        return self._stream.answered

    @property
    def failed(self) -> int:
        """Results with an error."""
        return self._stream.failed

    @property
    def skipped(self) -> int:
        """Pictures that were read and dropped for a newer one."""
        return self._stream.skipped

    @property
    def problem(self) -> SourceError | None:
        """Why the source ended early, if it did."""
        return self._stream.problem

    def __repr__(self) -> str:
        return repr(self._stream)


def _results(call: Call, stream: ResultStream) -> Generator[Result, None, None]:
    """No method: a generator that knew its `BlockingStream` would keep it alive after the user's `break`."""
    turn = asyncio.Lock()  # an interrupted fetch may still be on its way out
    chunks = stream.chunks()
    try:
        while chunk := call(_fetch(chunks, turn)):
            yield from chunk
    finally:
        with contextlib.suppress(ConnectionLost):  # a closed client has ended it
            call(_end(chunks, turn))
    stream.warn(stacklevel=3)


async def _fetch(chunks: AsyncGenerator[list[Result], None], turn: asyncio.Lock) -> list[Result]:
    async with turn:
        return await anext(chunks, [])


async def _end(chunks: AsyncGenerator[list[Result], None], turn: asyncio.Lock) -> None:
    async with turn:
        await chunks.aclose()
