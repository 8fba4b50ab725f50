"""`Client`: pictures out, results in, over one connection that is kept up; asynchronous.

The names and messages are the seed's; whatever its own client could do is done the same way here. On top of it: one
picture in and one result out (`analyze`), a source in and results out (`stream`, `batch`), a window that keeps the
server's queue short, and reconnection that loses nothing. Everything runs on the loop that called `connect`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING, Any, Self

from forgesyte_nb.background import disown_when_forked
from forgesyte_nb.checks import check_count, check_number, check_positive
from forgesyte_nb.client.entrance import Entrance
from forgesyte_nb.client.inbox import Messages
from forgesyte_nb.client.link import Link
from forgesyte_nb.client.listeners import Listener, Listeners
from forgesyte_nb.client.options import merge_options
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sender import Sender
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.client.sources.live import RECONNECT_S
from forgesyte_nb.client.stream import Intent, ResultStream
from forgesyte_nb.client.upkeep import Patience
from forgesyte_nb.keywords import known_keywords, own_keywords, with_own_keywords
from forgesyte_nb.protocol.topics import CLIENT_ID, check_topic
from forgesyte_nb.settings import Settings
from forgesyte_nb.transport.base import Transport
from forgesyte_nb.transport.fake import FakeTransport

if TYPE_CHECKING:
    import pandas as pd


class Client:
    """A connection to a server, kept up.

        async with fs.Client() as client:
            result = await client.analyze("page.png", "ocr", threshold=0.8)
            async for result in client.stream("street.mp4", "motion_detector"):
                print(result.seq, result["confidence"])

    Attributes:
        client_id: Its name at the server.
    """

    @known_keywords()
    def __init__(
        self,
        url: Any = None,
        *,
        client_id: str | None = None,
        token: str | os.PathLike[str] | None = None,
        window: int = 16,
        reconnect: bool = True,
        max_retries: int = 8,
        backoff_s: float = 0.2,
        max_backoff_s: float = 30.0,
        ping_interval_s: float = Settings.ping_interval_s,
        ping_timeout_s: float = Settings.ping_timeout_s,
        offer_v2: bool = True,
        quiet: bool = False,
        lossless: bool = False,
        transport: FakeTransport | None = None,
    ) -> None:
        """Make a client; `connect` or `async with` connects it.

        Args:
            url: Base URL of the server, or a `Server`; by default what `FORGESYTE_NB_URL` says, else
                "ws://localhost:8000". The server of this process's `serve()` is followed to another port, unless a URL
                or a token is given.
            client_id: Its name at the server; unique by default.
            token: The server's secret, or the path of a file with it, if it has one; of a `Server`, and where no `url`
                is given, it is known. Read again for each connection. Travels in a header, is never shown.
            window: Frames that may be unanswered at a time; sending waits beyond it.
            reconnect: Whether to come back when the connection breaks.
            max_retries: Attempts in a row, with pauses of `backoff_s`, doubling up to `max_backoff_s`.
            backoff_s: First pause, in seconds.
            max_backoff_s: Longest pause, in seconds.
            ping_interval_s: Time between keepalive pings.
            ping_timeout_s: Silence after a ping that means a dead connection.
            offer_v2: Whether to offer `forgesyte.v2`, which spares base64; without it, the seed's protocol.
            quiet: Whether the log is not warned of a connection that was lost and is being tried again; see `trouble`.
            lossless: True to send arrays and decoded video as raw pixels instead of JPEG (as PNG to a server that does
                not speak `forgesyte.v2`). To a server of this process they always travel so.
            transport: A `FakeTransport` instead of a connection, for tests without a server.

        Raises:
            ValueError: If the URL, client id or a number cannot be.
            ServerError: If others than its owner may read the token's file.
        """
        self._entrance = Entrance(
            url,
            token,
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            offer_v2=offer_v2,
            lossless=lossless,
        )
        self._fake = transport
        self.client_id = client_id if client_id is not None else f"py_{secrets.token_hex(6)}"
        if not isinstance(self.client_id, str) or CLIENT_ID.fullmatch(self.client_id) is None:
            raise ValueError(f"client_id={client_id!r}: 1 to 128 of the characters A-Z a-z 0-9 _ . : -")
        check_count("window", window)
        check_count("max_retries", max_retries, least=0)
        check_number("backoff_s", backoff_s, least=0)
        check_number("max_backoff_s", max_backoff_s, least=0)
        check_positive("ping_interval_s", ping_interval_s)
        check_positive("ping_timeout_s", ping_timeout_s)
        self._listeners = Listeners()
        patience = Patience(
            reconnect=reconnect, max_retries=max_retries, backoff_s=backoff_s, max_backoff_s=max_backoff_s, quiet=quiet
        )
        self._link = Link(self._dial, self._listeners.put, window=window, patience=patience)
        self._sender = Sender(self._link, window=window)
        disown_when_forked(self, Client._disown)

    async def _dial(self) -> Transport:
        if self._fake is not None:
            self._fake.open()
            return self._fake
        return await self._entrance.enter(self.client_id)

    async def connect(self) -> None:
        """Connect; after `ConnectionLost` it may be called again.

        Raises:
            ConnectionLost: If no server answers, or it refuses, saying what to do.
        """
        await self._link.upkeep.open()
        self._listeners.start()

    async def close(self) -> None:
        """Say goodbye. What is unanswered ends with `ConnectionLost`; `drain` first to wait for it.

        A listener may call it. If it is cancelled, the connection is cut without a goodbye.
        """
        try:
            await self._link.close()
        finally:
            await self._listeners.stop()

    def _disown(self) -> None:
        """In a forked process, where the connection is the parent's: every call raises `ConnectionLost`."""
        self._link.disown()
        self._listeners.disown()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Base URL of the server; that of this process's `serve()` may move to another port."""
        return self._entrance.url

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._link.connected

    @property
    def trouble(self) -> str:
        """Why there is no connection at this moment, while it is being tried again; empty if there is one."""
        return self._link.upkeep.trouble

    @property
    def unanswered(self) -> int:
        """Frames sent and not answered."""
        return len(self._link.unanswered)

    @property
    def reconnects(self) -> int:
        """How often the connection was made again."""
        return self._link.upkeep.reconnects

    # Listening

    def on_frame_result(self, listener: Listener) -> Listener:
        """Call `listener(message)` with each `frame_result`; plain or async, also as a decorator."""
        self._listeners.add("frame_result", listener)
        return listener

    def on_error(self, listener: Listener) -> Listener:
        """Call `listener(message)` with each `error`."""
        self._listeners.add("error", listener)
        return listener

    def on_job_update(self, listener: Listener) -> Listener:
        """Call `listener(message)` with each `job_update`."""
        self._listeners.add("job_update", listener)
        return listener

    def on_broadcast(self, listener: Listener) -> Listener:
        """Call `listener(message)` with each `broadcast`."""
        self._listeners.add("broadcast", listener)
        return listener

    def messages(self, *types: str) -> Messages:
        """All messages from now on, or those of some types, as dicts; ends when the client is closed."""
        return self._listeners.messages(types)

    async def subscribe(self, topic: str) -> None:
        """Receive what is published to `topic`: "all", a job's id, or "plugin_<name>". Survives reconnection.

        Raises:
            InvalidMessage: If it is no topic, or the server refuses it, as beyond its `max_topics`. (A server that does
                not speak `forgesyte.v2` says so in an `error` message.)
            ConnectionLost: If the client is not connected.
        """
        await self._link.subscribe(check_topic(topic))

    async def unsubscribe(self, topic: str) -> None:
        """Receive it no longer.

        Raises:
            InvalidMessage: If it is no topic.
            ConnectionLost: If the client is not connected.
        """
        await self._link.unsubscribe(check_topic(topic))

    # Sending

    async def send_frame(
        self,
        image: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        frame_id: str | None = None,
        stream_id: str = "",
    ) -> str:
        """Send a picture; its result goes to the listeners. Waits only while `window` frames are unanswered.

        Args:
            image: Bytes of an image file, a path, a uint8 array `(H, W, 3)` in RGB order, a Pillow image, a `Frame`.
                Of a file that holds several pictures the first is sent, with a warning.
                Arrays and Pillow images travel as JPEG; `fs.Frame.from_array(array, lossless=True)` as PNG.
            plugin: Name of the plugin.
            options: The plugin's options.
            frame_id: Its name; by default one that no other frame has. Once this client has subscribed to anything,
                others see `~` and a unique text behind it: answers to their frames of that name are told apart so.
            stream_id: Which stream it belongs to, for plugins that keep a state.

        Returns:
            The `frame_id`.

        Raises:
            ConnectionLost: If the client is not connected, or the server was lost for good.
            SourceError: If the image cannot be read, is none, or holds many, as a video does.
            ValueError: If a frame of that id is unanswered.
        """
        await self._listeners.calm()
        return await self._sender.send(image, plugin, options, frame_id=frame_id, stream_id=stream_id)

    async def analyze(
        self,
        image: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        stream_id: str = "",
        **more_options: Any,
    ) -> Result:
        """One picture in, its result out.

        Args:
            image: As in `send_frame`.
            plugin: Name of the plugin.
            options: The plugin's options; they can be given as keywords as well.
            timeout_s: Longest wait for the answer; by default the plugin's own limit and the connection's decide.
            stream_id: Which stream it belongs to, for plugins that keep a state.
            **more_options: Options.

        Raises:
            WireError: What the server answered: `InvalidImage`, `PluginNotFound`, `InvalidOptions`, `PluginError`, …
            ProcessingTimeout: The server's, or no answer within `timeout_s`.
            ConnectionLost: If the client is not connected, or the server was lost for good.
            SourceError: If the image cannot be read, is none, or holds many, as a video does.
            ValueError: If `timeout_s` is negative.
        """
        if timeout_s is not None:
            check_number("timeout_s", timeout_s, least=0)
        chosen = merge_options(options, more_options)
        result = await self._sender.ask(image, plugin, chosen, timeout_s=timeout_s, stream_id=stream_id)
        if result.error is not None:
            with own_keywords(self.analyze, more_options):
                raise result.error
        return result

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
    ) -> ResultStream:
        """Send all pictures of a source and iterate over the results as they come.

        A picture that fails yields a result with `error` set, so nothing is lost and nothing stops.

        Args:
            source: Whatever `open_source` takes, or a `Source`.
            plugin: Name of the plugin.
            options: The plugin's options; they can be given as keywords as well.
            intent: "every_frame": nothing is skipped, the source waits; "freshest": the newest picture when there
                is room, the others are counted in `skipped`. By default what suits the source.
            ordered: Whether results keep the source's order.
            concurrency: Pictures under way at a time, up to the client's window; by default that, and 2 for "freshest".
            every: Take every n-th picture.
            loop: Begin the source again at its end.
            fps: Send no more than this many pictures per second.
            reconnect_s: For a camera or network stream that goes away: longest time without a connection, in seconds,
                before the stream ends with an error. 0 ends it at once.
            **more_options: Options.

        Raises:
            SourceError: If the source cannot be opened.
            InvalidOptions: If the options cannot be said in JSON.
            ValueError: If a number cannot be.
        """
        return self._sender.stream(
            open_source(source, every=every, loop=loop, fps=fps, reconnect_s=reconnect_s),
            plugin,
            merge_options(options, more_options),
            intent=intent,
            ordered=ordered,
            concurrency=concurrency,
            explain=lambda error: with_own_keywords(error, self.stream, more_options),
        )

    async def batch(
        self,
        source: Any,
        plugin: str,
        options: dict[str, Any] | None = None,
        *,
        concurrency: int | None = None,
        every: int = 1,
        reconnect_s: float = RECONNECT_S,
        **more_options: Any,
    ) -> pd.DataFrame:
        """Send all pictures of a source, or every n-th, and return a table, one row for each, in the source's order.

        The arguments are those of `stream`.

        Raises:
            SourceError: If the source cannot be opened, or has no pictures.
            ConnectionLost: If the server was lost for good.
            PluginNotFound: If there is no such plugin.
            InvalidOptions: If the plugin refuses the options.
            ValueError: If a number cannot be.
        """
        from forgesyte_nb.client.batch import gather

        chosen = merge_options(options, more_options)
        stream = self.stream(
            source, plugin, chosen, ordered=True, concurrency=concurrency, every=every, reconnect_s=reconnect_s
        )
        with own_keywords(self.batch, more_options):
            return await gather(stream)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is answered and every listener has been called; in a listener, for the answers alone.

        Raises:
            TimeoutError: If that takes longer than `timeout_s`.
            ValueError: If `timeout_s` is negative.
        """
        if timeout_s is not None:
            check_number("timeout_s", timeout_s, least=0)
        async with asyncio.timeout(timeout_s):
            await self._link.idle()
            await self._listeners.idle()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<Client {self.client_id} {self.url} {state}, {self.unanswered} unanswered>"
