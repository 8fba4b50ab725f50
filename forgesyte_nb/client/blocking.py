"""`BlockingClient`: the client for cells and scripts that do not want to await.

It works inside and outside a running loop, since its own loop runs in its own thread. Ctrl-C, or the notebook's stop
button, ends a waiting call at once with `KeyboardInterrupt`; the client stays usable. No thread is left after `close`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from forgesyte_nb.client.client import Client
from forgesyte_nb.client.inbox import Messages
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source
from forgesyte_nb.client.stream import Stream
from forgesyte_nb.errors import ConnectionLost, SourceError

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")
Call = Callable[[Coroutine[Any, Any, Any]], Any]


class BlockingClient:
    """A connected client whose calls wait for their answer.

    client = fs.BlockingClient()
    client.analyze("page.png", "ocr")["text"]
    for result in client.stream("street.mp4", "motion_detector"):
        print(result.seq, result["confidence"])
    client.close()
    """

    def __init__(self, url: Any = None, **settings: Any) -> None:
        """Connect.

        Args:
            url: Base URL of the server, or a `Server`; see `Client`.
            **settings: As `Client` takes them.

        Raises:
            ConnectionLost: If no server answers, or it refuses, saying what to do.
            ValueError: If a setting cannot be.
        """
        self._client = Client(url, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"forgesyte-{self._client.client_id}", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # so that the server hears a goodbye
        try:
            self._call(self._client.connect())
        except BaseException:
            self.close()
            raise

    @property
    def client_id(self) -> str:
        """Its name at the server."""
        return self._client.client_id

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return self._client.url

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._client.connected

    def analyze(
        self,
        image: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        stream_id: str = "",
        **more_options: Any,
    ) -> Result:
        """One picture in, its result out; see `Client.analyze`.

        Raises:
            WireError: What the server answered.
            ConnectionLost: If the server was lost for good, or the client is closed.
            SourceError: If the image cannot be read, or is none.
        """
        chosen = {**(options or {}), **more_options}
        return self._call(self._client.analyze(image, plugin, chosen, timeout_s=timeout_s, stream_id=stream_id))

    def stream(self, source: Any, plugin: str, options: dict[str, Any] | None = None, **how: Any) -> BlockingStream:
        """Send all pictures of a source; iterate over what is returned for the results.

        Args:
            source: Whatever `open_source` takes.
            plugin: Name of the plugin.
            options: The plugin's options.
            **how: `intent`, `ordered`, `in_flight`, `every`, `loop`, `fps`, as `Client.stream` takes them.

        Raises:
            SourceError: If the source cannot be opened.
            InvalidOptions: If the options cannot be said in JSON.
        """
        return BlockingStream(self._call, self._client.stream(source, plugin, options, **how))

    def batch(
        self, source: Any, plugin: str, options: dict[str, Any] | None = None, *, progress: bool = True, **how: Any
    ) -> pd.DataFrame:
        """Send all pictures of a source and return a table, one row for each; see `forgesyte_nb.batch`."""
        from forgesyte_nb.client.batch import collect

        return collect(self.stream(source, plugin, options, ordered=True, **how), progress=progress)

    def send_frame(self, image: Any, plugin: str, options: dict[str, Any] | None = None, **how: Any) -> str:
        """Send a picture and return its `frame_id`; its messages come through `messages`. See `Client.send_frame`."""
        return self._call(self._client.send_frame(image, plugin, options, **how))

    def subscribe(self, topic: str) -> None:
        """Receive what is published to a topic; see `Client.subscribe`."""
        self._call(self._client.subscribe(topic))

    def unsubscribe(self, topic: str) -> None:
        """Receive it no longer."""
        self._call(self._client.unsubscribe(topic))

    def messages(self, *types: str, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """All messages from now on, or those of some types, as dicts.

        Args:
            *types: Such as "frame_result"; none means all.
            timeout_s: End when none has come for so long; by default wait on, until the client is closed.
        """
        messages: Messages = self._call(_later(self._client.messages, *types))
        return _messages(self._call, messages, timeout_s)

    def drain(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is answered; see `Client.drain`."""
        self._call(self._client.drain(timeout_s))

    def close(self) -> None:
        """Say goodbye and end the thread; twice is once."""
        atexit.unregister(self.close)
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._loop.is_closed() else "connected" if self.connected else "not connected"
        return f"<BlockingClient {self.client_id} {self.url} {state}>"

    def _run(self) -> None:
        """The thread: the loop until it is stopped, then its end."""
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(self._client.close())
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def _call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine on the client's loop and wait for it; an interrupted wait cancels it."""
        if self._loop.is_closed():
            work.close()
            raise ConnectionLost("the client is closed; make a new one with fs.BlockingClient()")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call in the client's own thread would wait for itself; use fs.Client there")
        waiting = _Call(work)
        try:
            self._loop.call_soon_threadsafe(waiting.start)
            return waiting.answer.result()
        except CancelledError:
            raise ConnectionLost("the client was closed") from None
        except BaseException:
            # An interrupt may come at any point above, even before the loop has taken the work up.
            self._loop.call_soon_threadsafe(waiting.cancel)
            raise


class _Call(Generic[Value]):
    """Work for the loop, and its outcome for the thread that waits."""

    def __init__(self, work: Coroutine[Any, Any, Value]) -> None:
        self.answer: Future[Value] = Future()
        self._work = work
        self._task: asyncio.Task[Value] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        if self._task is None:
            self._work.close()
        else:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Value]) -> None:
        if task.cancelled():
            self.answer.cancel()
        elif (error := task.exception()) is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(task.result())


class BlockingStream:
    """Results of one source, as a plain iterator. Leaving it early stops the source."""

    def __init__(self, call: Call, stream: Stream) -> None:
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


# Outside the classes, so that what is iterated does not keep its own end from being noticed.


def _results(call: Call, stream: Stream) -> Generator[Result, None, None]:
    """Results in this thread, fetched as many at a time as there are."""
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


def _messages(call: Call, messages: Messages, timeout_s: float | None) -> Iterator[dict[str, Any]]:
    while True:
        try:
            chunk = call(asyncio.wait_for(messages.inbox.take(), timeout_s))
        except (TimeoutError, ConnectionLost):
            return
        if not chunk:
            return
        yield from chunk


async def _later(function: Callable[..., Value], *arguments: Any) -> Value:
    return function(*arguments)
