"""`StreamPass`: a source sent through a plugin once, from its first picture to the last answer, on a thread of its own.

The thread has a loop and a client of its own, and ends with the pass. What it is given to call is called on it;
everything else may be called from any thread. What ends a pass early is told to `ended`, never raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forgesyte_nb.background import loop_runner
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.options import encode_options
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.stream import Intent, ResultStream
from forgesyte_nb.errors import ForgeSyteError
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.ledger import Counts
from forgesyte_nb.workbench.playback import Playback

TELLING_INTERVAL_S = 0.2
"""So often `tell` is called while it runs."""

JOIN_PATIENCE_S = 2.0
"""So long the last answers are waited for when a stream is closed."""

GIVE_UP_S = 5.0
"""Longest wait for the thread after that: a source, or a function that hears results, may block it."""

_LAST_RESULTS_S = 1.0  # for the frames that are given up to be told

CONCURRENCY: dict[Intent, int] = {"every_frame": 8, "freshest": 2}
"""Pictures under way by default: enough to keep the workers busy, few enough for controls to act at once."""

_log = logging.getLogger("forgesyte_nb.client")


@dataclass(frozen=True)
class Route:
    """Where the pictures go.

    Attributes:
        server: A `Server` or the URL of one.
        token: Its secret, if it has one that is not known of the `Server`; it shows in no repr.
        plugin: Name of the plugin.
    """

    server: Server | str
    token: str | None = field(repr=False)
    plugin: str


class StreamPass:
    """One pass; it runs from the moment it is made."""

    def __init__(
        self,
        name: str,
        playback: Playback,
        route: Route,
        options: dict[str, Any],
        intent: Intent,
        concurrency: int | None,
        *,
        heard: Callable[[Result], None],
        refused: Callable[[], None],
        tell: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        """Begin.

        Args:
            name: Of the thread.
            playback: The source; `close` it to end the pass early.
            route: Where the pictures go.
            options: The plugin's, to begin with.
            intent: "every_frame" or "freshest", to begin with.
            concurrency: Pictures under way; None for what suits the intent.
            heard: Called with each result.
            refused: Called when a picture's options are refused; it may `retune`, and the picture is then sent again.
            tell: Called now and then.
            ended: Called last, with what ended it early, or an empty text.
        """
        self._playback, self._route = playback, route
        self._options, self._intent, self._concurrency = options, intent, concurrency
        self._heard, self._refused, self._tell, self._ended = heard, refused, tell, ended
        self._lock = threading.Lock()  # of what may change while it connects: all of that reaches the results
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._giving_up: asyncio.Future[None] | None = None
        self._is_over = False
        self._results: ResultStream | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with loop_runner() as runner:
                problem = runner.run(self._send_all())
        except asyncio.CancelledError:
            problem = ""  # given up
        except ForgeSyteError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 -- what the source raised is told to the stream's owner
            problem = f"{type(error).__name__}: {error}"
        self._is_over = True
        self._ended(problem if self._giving_up is None else "")

    async def _send_all(self) -> str:
        """Send everything and take everything; what damaged the source on the way, if anything did."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        window = max(self._concurrency or 0, *CONCURRENCY.values())
        async with Client(self._route.server, token=self._route.token, window=window, quiet=True) as client:
            self._client = client
            with self._lock:
                intent = self._intent
                self._results = client.stream(
                    self._playback,
                    self._route.plugin,
                    self._options,
                    intent=intent,
                    ordered=True,
                    concurrency=self._under_way(intent),
                )
                self._results.on_refused = self._refused
            telling = asyncio.create_task(self._keep_telling())
            try:
                async for results in self._results.chunks():
                    for result in results:
                        self._heard(result)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            return "" if self._results.problem is None else str(self._results.problem)

    async def _keep_telling(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(TELLING_INTERVAL_S)

    def retune(self, options: dict[str, Any], *, after_answers: bool = False) -> None:
        """Go on with other options; see `ResultStream.retune`."""
        with self._lock:
            self._options = options
            if self._results is not None:
                self._results.retune(encode_options(options), after_answers=after_answers)

    def switch(self, intent: Intent) -> None:
        """Go on with another intent."""
        with self._lock:
            self._intent = intent
            if self._results is not None:
                self._results.switch(intent, self._under_way(intent))

    def _under_way(self, intent: Intent) -> int:
        return self._concurrency or CONCURRENCY[intent]

    @property
    def trouble(self) -> str:
        """Why its server does not answer at the moment, while it is being tried again; else empty."""
        return "" if self._client is None else self._client.trouble

    @property
    def counts(self) -> Counts:
        """What became of the pictures so far."""
        results = self._results
        if results is None:
            return Counts()
        answered, failed, skipped = results.answered, results.failed, results.skipped
        sent = answered + skipped
        if not self._is_over:  # what was read ahead and never sent, since it was given up, is not pending for ever
            sent = max(results.read, sent)
        return Counts(sent=sent, results=answered - failed, errors=failed, skipped=skipped)

    def join(self) -> None:
        """Wait for its end, unless on its own thread.

        What is not answered after `JOIN_PATIENCE_S` is given up, also a connection that is being made. A thread that
        something blocks for `GIVE_UP_S` more is left to end by itself.
        """
        if self._thread is threading.current_thread():
            return
        self._thread.join(JOIN_PATIENCE_S)
        loop, task = self._loop, self._task
        if self._thread.is_alive() and loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(self._give_up, task)
            self._thread.join(GIVE_UP_S)
        if self._thread.is_alive():
            _log.warning("%s has not ended: its source or a function it calls blocks it", self._thread.name)

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        self._giving_up = asyncio.ensure_future(self._end_now(task))

    async def _end_now(self, task: asyncio.Task[Any]) -> None:
        """The unanswered pictures end with `ConnectionLost`; the server hears a goodbye and lets go of them."""
        if self._client is not None:
            await self._client.close()
            await asyncio.wait([task], timeout=_LAST_RESULTS_S)
        task.cancel()
