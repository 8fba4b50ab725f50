"""`BlockingClient`: the client for cells and scripts that do not want to await.

It works inside and outside a running loop, since its own loop runs in its own thread. Ctrl-C, or the notebook's stop
button, ends a waiting call at once with `KeyboardInterrupt`; the client stays usable. No thread is left after `close`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from forgesyte_nb.checks import check_number
from forgesyte_nb.client.blocking_stream import BlockingStream, Call
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.inbox import Messages
from forgesyte_nb.client.loop_thread import LoopThread
from forgesyte_nb.client.options import merge_options
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sender import first_picture
from forgesyte_nb.client.sources.live import RECONNECT_S
from forgesyte_nb.client.stream import Intent
from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.keywords import own_keywords

if TYPE_CHECKING:
    import pandas as pd

    from forgesyte_nb.client.gathering import Batch

Value = TypeVar("Value")


class BlockingClient:
    """A connected client whose calls wait for their answer.

    Example:
        client = fs.BlockingClient()
        client.analyze("page.png", "ocr")["text"]
        for result in client.stream("street.mp4", "motion_detector"):
            print(result.seq, result["confidence"])
        client.close()
    """

    def __init__(
        self,
        url: Any = None,
        *,
        client_id: str | None = None,
        token: str | os.PathLike[str] | None = None,
        window: int = 16,
        reconnect: bool = True,
        **more: Any,
    ) -> None:
        """Connect.

        Args:
            url: Base URL of the server, or a `Server`; see `Client`.
            client_id: Its name at the server; unique by default.
            token: The server's secret, or the path of a file with it, if it has one.
            window: Frames that may be unanswered at a time.
            reconnect: Whether to come back when the connection breaks.
            **more: What else `Client` takes, such as `max_retries`.

        Raises:
            ConnectionLost: If no server answers, or it refuses, saying what to do.
            ValueError: If a setting cannot be.
        """
        self._client = Client(url, client_id=client_id, token=token, window=window, reconnect=reconnect, **more)
        self._thread = LoopThread(f"forgesyte-{self._client.client_id}", self._client.close)
        self._call = self._thread.call
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
            SourceError: If the image cannot be read, is none, or holds many, as a video does.
        """
        image = first_picture(image)  # in this thread, so that a warning points at the caller's line
        asked = self._client.analyze(image, plugin, options, timeout_s=timeout_s, stream_id=stream_id, **more_options)
        return self._call(asked)

    def stream(
        self,
        source: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        intent: Intent | None = None,
        ordered: bool = False,
        concurrency: int | None = None,
        every: int = 1,
        loop: bool = False,
        fps: float | None = None,
        reconnect_s: float = RECONNECT_S,
        **more_options: Any,
    ) -> BlockingStream:
        """Send all pictures of a source; iterate over what is returned for the results. See `Client.stream`.

        Raises:
            SourceError: If the source cannot be opened.
            InvalidOptions: If the options cannot be said in JSON.
            ValueError: If a number cannot be.
        """
        stream = self._client.stream(
            source,
            plugin,
            options,
            intent=intent,
            ordered=ordered,
            concurrency=concurrency,
            every=every,
            loop=loop,
            fps=fps,
            reconnect_s=reconnect_s,
            **more_options,
        )
        return BlockingStream(self._call, stream)

    def batch(
        self,
        source: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        concurrency: int | None = None,
        every: int = 1,
        reconnect_s: float = RECONNECT_S,
        progress: bool = True,
        **more_options: Any,
    ) -> pd.DataFrame:
        """Send all pictures of a source and return a table, one row for each; see `forgesyte_nb.batch`.

        Raises:
            ValueError: If `concurrency` is less than 1 or more than the client's `window`.
        """
        with own_keywords(self.batch, more_options):
            chosen = merge_options(options, more_options)
            begun = self._begin_batch(
                source,
                plugin,
                chosen,
                concurrency=concurrency,
                every=every,
                reconnect_s=reconnect_s,
                progress=progress,
                release=lambda: None,
            )
            return begun.table()

    def _begin_batch(
        self,
        source: Any,
        plugin: str,
        options: dict[str, Any],
        *,
        concurrency: int | None,
        every: int,
        reconnect_s: float,
        progress: bool,
        release: Callable[[], None],
    ) -> Batch:
        """A batch that has sent nothing yet; `release` is called at its end."""
        from forgesyte_nb.client.gathering import Batch

        stream = self._client.stream(
            source, plugin, options, ordered=True, concurrency=concurrency, every=every, reconnect_s=reconnect_s
        )
        return Batch(self._thread, stream, release, progress=progress)

    def send_frame(
        self,
        image: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        frame_id: str | None = None,
        stream_id: str = "",
    ) -> str:
        """Send a picture and return its `frame_id`; its messages come through `messages`. See `Client.send_frame`."""
        image = first_picture(image)
        return self._call(self._client.send_frame(image, plugin, options, frame_id=frame_id, stream_id=stream_id))

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

        Raises:
            ValueError: If `timeout_s` is negative.
        """
        if timeout_s is not None:
            check_number("timeout_s", timeout_s, least=0)
        messages: Messages = self._call(_later(self._client.messages, *types))
        return _messages(self._call, messages, timeout_s)

    def drain(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is answered; see `Client.drain`."""
        self._call(self._client.drain(timeout_s))

    def close(self) -> None:
        """Say goodbye and end the thread; twice is once."""
        atexit.unregister(self.close)
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._thread.closed else "connected" if self.connected else "not connected"
        return f"<BlockingClient {self.client_id} {self.url} {state}>"


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
