"""`ResultStream`: a source sent through a plugin, as an async iterator of `Result`s.

Every picture that was read ends as exactly one result or is counted in `skipped`. What can fail for one picture is
in its result; what ends the stream (a source or a connection that broke) is raised after the results that were
under way. A source damaged in the middle only warns then: the results in front of it must not be lost by
`[result async for result in stream]`. At most `concurrency` pictures are unanswered or not yet taken, so a slow
reader of results slows the source and nothing piles up.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any, Literal, get_args

from forgesyte_nb.client.feeder import Feeder
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source
from forgesyte_nb.client.unanswered import SentFrame
from forgesyte_nb.errors import InvalidImage, InvalidOptions, SourceError
from forgesyte_nb.image.pictures import Picture, RawImage

Intent = Literal["every_frame", "freshest"]


def check_intent(intent: str) -> None:
    """Refuse what is no intent.

    Raises:
        ValueError: Naming what was given and what is allowed.
    """
    if intent not in get_args(Intent):
        raise ValueError(f"intent={intent!r}: choose 'every_frame' (nothing is skipped) or 'freshest'")


Send = Callable[[SentFrame], Coroutine[Any, Any, None]]
Forget = Callable[[SentFrame], None]
Explain = Callable[[InvalidOptions], InvalidOptions]
"""Says more of options that were refused."""


class ResultStream:
    """Results of one source and one plugin; iterate it once, with `async for`.

    Attributes:
        source: The source.
        stream_id: Its name on the wire; a stateful plugin keeps one state for it.
        intent: "every_frame" or "freshest".
        sent: Pictures sent so far.
        answered: Results that came, failed ones included.
        failed: Of those, how many failed.
        problem: Why the source ended early, if it did.
        on_refused: Called when the server refuses a picture for its options. If there are other options by then
            (`retune`), the picture, which has become no job, is sent again with those.
    """

    def __init__(
        self,
        source: Source,
        plugin: str,
        options: bytes,
        *,
        send: Send,
        forget: Forget,
        frame_ids: Callable[[], str],
        stream_id: str,
        intent: Intent | None,
        ordered: bool,
        concurrency: int,
        explain: Explain,
        encode: bool,
    ) -> None:
        """Made by `Client.stream`."""
        self.source = source
        self.stream_id = stream_id
        self.intent: Intent = intent or ("freshest" if source.live else "every_frame")
        self.sent = self.answered = self.failed = 0
        self.problem: SourceError | None = None
        self.on_refused: Callable[[], None] = _nothing
        self._plugin, self._options = plugin, options
        self._send, self._forget, self._frame_ids = send, forget, frame_ids
        self._ordered, self._concurrency = ordered, concurrency
        self._explain = explain
        self._encode = encode
        self._feeder: Feeder | None = None
        self._under_way: set[SentFrame] = set()
        self._ready: list[Result] = []
        self._early: list[tuple[int, Result]] = []  # a heap: came before an earlier picture's result
        self._next = 0
        self._after_answers = False
        self._pump_ended = False
        self._error: BaseException | None = None
        self._changed, self._room = asyncio.Event(), asyncio.Event()

    @property
    def read(self) -> int:
        """Pictures that the source gave: those sent, those skipped, and the few that wait to be sent."""
        return self._feeder.read if self._feeder is not None else 0

    def retune(self, options: bytes, *, after_answers: bool = False) -> None:
        """Send the pictures to come with other options, as JSON; on any thread.

        Args:
            options: The options.
            after_answers: Whether they wait until what is under way is answered: it is expected to be refused and sent
                again, and nothing of the stream may overtake it.
        """
        if after_answers:
            self._after_answers = True
        self._options = options

    def switch(self, intent: Intent, concurrency: int) -> None:
        """Go on with another intent; on any thread."""
        self.intent, self._concurrency = intent, concurrency
        if self._feeder is not None:
            self._feeder.freshest = intent == "freshest"

    @property
    def skipped(self) -> int:
        """Pictures that were read and dropped for a newer one."""
        return self._feeder.skipped if self._feeder is not None else 0

    async def __aiter__(self) -> AsyncGenerator[Result, None]:
        """Results as they come, or in the source's order if `ordered`.

        Raises:
            SourceError: If the source could not be read at all.
            ConnectionLost: If the server was lost for good.
            Exception: What the source itself raised.
        """
        chunks = self.chunks()
        try:
            async for chunk in chunks:
                for result in chunk:
                    yield result
        finally:
            await chunks.aclose()
        self.warn()

    async def chunks(self) -> AsyncGenerator[list[Result], None]:
        """The same, in lists of whatever has come; does not warn of a damaged source.

        Raises:
            RuntimeError: If it is iterated a second time.
        """
        if self._feeder is not None:
            raise RuntimeError("a stream is iterated once; call stream() again for another pass")
        self._feeder = Feeder(self.source, freshest=self.intent == "freshest", encode=self._encode)
        pump = asyncio.create_task(self._pump(self._feeder), name=f"forgesyte-{self.stream_id}")
        try:
            while chunk := await self._take():
                yield chunk
            self._end()
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            for frame in self._under_way:
                self._forget(frame)
            await self._feeder.stop()

    def warn(self, stacklevel: int = 2) -> None:
        """Warn of a source that ended early."""
        if self.problem is not None:
            warnings.warn(f"{self.problem}; their results are complete", stacklevel=stacklevel + 1)

    def _end(self) -> None:
        if isinstance(self._error, SourceError) and self.sent:
            self.problem = self._error
        elif self._error is not None:
            raise self._error

    async def _take(self) -> list[Result]:
        while not self._ready:
            if self._pump_ended and not self._under_way:
                return []
            self._changed.clear()
            await self._changed.wait()
        ready, self._ready = self._ready, []
        self._room.set()
        return ready

    async def _pump(self, feeder: Feeder) -> None:
        """From the source to the client, as long as there is room."""
        try:
            for order in itertools.count():
                while len(self._under_way) + len(self._ready) + len(self._early) >= self._concurrency:
                    await self._wait_for_room()
                picture = await feeder.take()
                if picture is None:
                    break
                await self._forward(picture, order, await self._options_in_turn())
        except Exception as error:  # noqa: BLE001 -- raised by the iterator, after the results under way
            self._error = error
        finally:
            self._pump_ended = True
            self._changed.set()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def _options_in_turn(self) -> bytes:
        """The options for the next picture, after the answers that they wait for."""
        options = self._options  # read first: whoever changes them says before whether they wait
        if self._after_answers:
            while self._under_way:
                await self._wait_for_room()
            self._after_answers = False
            options = self._options
        return options

    async def _forward(self, picture: Picture, order: int, options: bytes) -> None:
        frame = SentFrame(self._frame_ids(), self._plugin, options, self.stream_id, picture, _nobody)
        frame.deliver = lambda result: self._deliver(frame, order, result)
        frame.renew_options = lambda: self._renew_options(frame)
        self._under_way.add(frame)
        self.sent += 1
        if isinstance(picture, RawImage) and picture.unreadable:
            frame.deliver(frame.failed(InvalidImage(picture.unreadable), time.monotonic()))
            return
        try:
            await self._send(frame)
        except BaseException:
            self._under_way.discard(frame)
            self._forget(frame)
            self.sent -= 1
            raise

    def _renew_options(self, frame: SentFrame) -> bool:
        """Give a picture that was refused for its options those of now; whether they are others."""
        self.on_refused()
        refused, frame.options = frame.options, self._options
        return frame.options != refused

    def _deliver(self, frame: SentFrame, order: int, result: Result) -> None:
        self._under_way.discard(frame)
        if isinstance(result.error, InvalidOptions) and not result.job_id:
            result = replace(result, error=self._explain(result.error))
        self.answered += 1
        self.failed += not result.ok
        if not self._ordered:
            self._ready.append(result)
        else:
            heapq.heappush(self._early, (order, result))
            while self._early and self._early[0][0] == self._next:
                self._ready.append(heapq.heappop(self._early)[1])
                self._next += 1
        self._changed.set()
        self._room.set()

    def __repr__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        told = f"{self.sent} sent, {self.answered} answered{skipped}"
        return f"<ResultStream {self.source.name} → {self._plugin}: {told}>"


def _nothing() -> None:
    """What is done for a picture that is refused, unless the owner of the stream knows better."""


def _nobody(_result: Result) -> None:
    """Stands in until the frame's own `deliver` is set."""
