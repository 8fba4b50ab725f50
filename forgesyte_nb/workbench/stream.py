"""`Stream`: a source going through a plugin in the background, held in a cell.

It reads, sends and receives on threads of its own, so the kernel stays free; the controls (play, pause, step, speed,
options, …) act at once, whether they come from Python or from a viewer of its feed. Results can be iterated, awaited,
tabled, plotted and watched, during and after. One pass ends by itself with its source; `play` then begins another.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from forgesyte_nb.client.client import Client
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.client.stream import Intent
from forgesyte_nb.client.wire_format import encode_options
from forgesyte_nb.errors import ForgeSyteError, PluginNotFound
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.workbench.cells import own
from forgesyte_nb.workbench.history import History, Shown
from forgesyte_nb.workbench.ledger import Counts, Pace
from forgesyte_nb.workbench.playback import Playback

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as PILImage

    from forgesyte_nb import LivePlot, PluginPanel, StreamView

STATE_INTERVAL_S = 0.2
"""So often viewers hear how the ledger stands."""

IN_FLIGHT = {"every_frame": 8, "freshest": 2}
"""Pictures under way: enough to keep the workers busy, few enough for controls to act at once."""

Heard = Callable[[Result, float], object]
"""Called with each result and its time (`time.monotonic()`), on the stream's thread."""


class Stream:
    """A source, a plugin, and what comes of them.

        stream = fs.stream("street.mp4", "motion_detector")
        stream.view()                       # in a cell: live
        for result in stream: ...           # or: await stream; stream.to_frame()

    Attributes:
        plugin: Name of the plugin.
        playback: Its source, under control.
        intent: "every_frame" or "freshest".
        status: "playing", "paused", "stopped" (by hand), "ended" (the source is) or "failed".
        problem: Why it failed or ended early; empty if it did not.
        feed: What its viewers see.
    """

    def __init__(
        self,
        playback: Playback,
        plugin: str,
        options: dict[str, Any],
        *,
        url: str,
        token: str | None,
        registry: Registry | None,
        intent: Intent,
        history: int,
    ) -> None:
        """Made, and begun, by `fs.stream`."""
        self.plugin = plugin
        self.playback = playback
        self.intent: Intent = intent
        self.status = "playing"
        self.problem = ""
        self._url, self._token, self._registry = url, token, registry
        self._options = self._checked(options)
        self._history = History(results=history)
        self._pace = Pace()
        self._before = Counts()  # of earlier passes
        self._pass: Any = None
        self._last_error: dict[str, Any] | None = None
        self._back: int | None = None
        self._heard: tuple[Heard, ...] = ()
        self._changed = threading.Condition()
        self._active = self._again = False
        self.feed: Feed = feed_book().open("stream", f"{playback.name} → {plugin}", _controls_of(self))
        self.feed.on_watched = self._tell
        _streams.add(self)
        self._thread: threading.Thread
        self._begin()

    # The pass: source → client → results, on a thread of its own

    def _begin(self, *, paused: bool = False) -> None:
        self.playback.rewind(paused=paused)
        self.status, self.problem = "paused" if paused else "playing", ""
        self._active, self._again = True, False
        self._thread = threading.Thread(target=self._run, name=f"forgesyte-{self.feed.feed_id}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        problem = ""
        try:
            problem = asyncio.run(self._one_pass())
        except ForgeSyteError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 -- what the source raised is the stream's problem, told to its owner
            problem = f"{type(error).__name__}: {error}"
        with self._changed:
            self._before, self._pass = self._counts(), None
            self.problem = problem
            self.status = "failed" if problem else "stopped" if self.status == "stopped" else "ended"
            self._active = False
            if self._again:
                self._begin()
            self._changed.notify_all()
        self._tell()

    async def _one_pass(self) -> str:
        """Send everything and take everything; what ended it early, if anything did."""
        async with Client(self._url, token=self._token, window=max(IN_FLIGHT.values())) as client:
            self._pass = client.stream(
                self.playback,
                self.plugin,
                self._options,
                intent=self.intent,
                ordered=True,
                in_flight=IN_FLIGHT[self.intent],
            )
            telling = asyncio.create_task(self._keep_telling())
            try:
                async for results in self._pass.chunks():
                    for result in results:
                        self._take(result)
            finally:
                telling.cancel()
            return "" if self._pass.problem is None else str(self._pass.problem)

    async def _keep_telling(self) -> None:
        while True:
            if self.feed.watchers:
                self._tell()
            await asyncio.sleep(STATE_INTERVAL_S)

    def _take(self, result: Result) -> None:
        at_s = time.monotonic()
        with self._changed:
            shown = self._history.add(result, at_s)
            self._pace.add(result)
            if result.error is not None:
                code = result.error_code
                self._last_error = {"code": code, "message": str(result.error), "frame_id": result.name}
            self._changed.notify_all()
        for heard in self._heard:
            heard(result, at_s)
        if shown is not None and self._back is None:
            self._show(shown)

    def _show(self, shown: Shown) -> None:
        self.feed.show(shown.payload, shown.content_type, **shown.about)

    def on_result(self, heard: Heard) -> Callable[[], None]:
        """Call `heard(result, at_s)` with each result to come, on the stream's thread; returns how to end that."""
        self._heard = (*self._heard, heard)

        def end() -> None:
            self._heard = tuple(other for other in self._heard if other is not heard)

        return end

    # Controls

    @property
    def running(self) -> bool:
        """Whether its pass has not ended."""
        return self.status in ("playing", "paused")

    def play(self) -> Self:
        """Go on after a pause; after its end, begin another pass."""
        with self._changed:
            if self.running:
                self.playback.play()
                self.status = "playing"
            elif self._active:
                self._again = True  # it is stopping: its last answers are still to come
            elif not self.feed.ended:
                self._begin()
        self._tell()
        return self

    def pause(self) -> Self:
        """Wait before the next picture; what is under way still comes."""
        with self._changed:
            if self.running:
                self.playback.pause()
                self.status = "paused"
        self._tell()
        return self

    def step(self, count: int = 1) -> Self:
        """Take so many pictures more, and wait.

        Raises:
            ValueError: If `count` is less than 1.
        """
        with self._changed:
            if not self._active and not self.feed.ended:
                self._begin(paused=True)
            self.playback.step(count)
            if self.running:
                self.status = "paused"
        self._tell()
        return self

    def stop(self) -> Self:
        """End the pass; what was read is still answered."""
        with self._changed:
            self._again = False
            if self.running:
                self.status = "stopped"
                self.playback.close()
        self._tell()
        return self

    def close(self) -> None:
        """Stop, wait for the last answers, and end the feed: viewers keep the last picture. Twice is once."""
        self.stop()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.feed.close("the stream was closed: run its cell again, or fs.stream(…)")

    @property
    def speed(self) -> float | None:
        """Multiple of the source's own rate; None is as fast as it goes. Can be set."""
        return self.playback.speed

    @speed.setter
    def speed(self, speed: float | None) -> None:
        self.playback.set_speed(speed)
        self._tell()

    @property
    def options(self) -> dict[str, Any]:
        """The plugin's options that were chosen. Can be set: they are checked, and hold from the next picture on."""
        return dict(self._options)

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        self._options = self._checked(options)
        if self._pass is not None:
            self._pass.retune(encode_options(self._options))
        self._tell()

    def tune(self, **options: Any) -> Self:
        """Change some options and keep the others.

        Raises:
            InvalidOptions: If the plugin's schema refuses them; nothing has changed then.
        """
        self.options = {**self._options, **options}
        return self

    def set_intent(self, intent: Intent) -> Self:
        """Go on with another intent: "every_frame" or "freshest".

        Raises:
            ValueError: If it is neither.
        """
        if intent not in IN_FLIGHT:
            raise ValueError(f"intent={intent!r}: choose 'every_frame' (nothing is skipped) or 'freshest'")
        self.intent = intent
        if self._pass is not None:
            self._pass.switch(intent, IN_FLIGHT[intent])
        self._tell()
        return self

    def show(self, back: int | None) -> Self:
        """Let viewers look back: at the picture so many before the newest; None is live again.

        Raises:
            ValueError: If there is no such picture any more.
        """
        with self._changed:
            pictures = self._history.pictures
            if back is not None and not 0 <= back < len(pictures):
                raise ValueError(f"show({back}): the last {len(pictures)} pictures are kept, 0 is the newest")
            shown = pictures[-1 - (back or 0)] if pictures else None
            self._back = back
        if shown is not None:
            self._show(shown)
        self._tell()
        return self

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options, if the plugin takes them; a server elsewhere checks them itself."""
        encoded = encode_options(options)
        if self._registry is not None:
            self._registry.entry(self.plugin).plugin.schema.keywords(encoded)
        return dict(options)

    def _plugin_in_force(self) -> Plugin | None:
        """The plugin, if its server is in this process."""
        if self._registry is None:
            return None
        try:
            return self._registry.entry(self.plugin).plugin
        except PluginNotFound:
            return None

    # What came of it

    def _counts(self) -> Counts:
        before, running = self._before, self._pass
        if running is None:
            return before
        answered, failed = running.answered, running.failed
        return Counts(
            sent=before.sent + max(running.read, answered + running.skipped),
            results=before.results + answered - failed,
            errors=before.errors + failed,
            skipped=before.skipped + running.skipped,
        )

    @property
    def ledger(self) -> dict[str, int]:
        """`sent`, `results`, `errors`, `skipped`, `pending`; the first is the sum of the others."""
        return self._counts().as_dict()

    @property
    def last_error(self) -> dict[str, Any] | None:
        """`code`, `message` and `frame_id` of the last frame that failed; None if none did."""
        return self._last_error

    @property
    def code(self) -> str:
        """A call that makes such a stream with the options of now, to be copied into a cell."""
        told = "".join(f", {name}={value!r}" for name, value in self._options.items())
        return f'fs.stream("{self.playback.name}", "{self.plugin}"{told})'

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
        """Results so far, oldest first, without their pictures; the newest `history` of them."""
        with self._changed:
            return list(self._history.results)

    def timed_results(self) -> list[tuple[Result, float]]:
        """The same, each with the time it came, as `time.monotonic()` tells it."""
        with self._changed:
            return list(zip(self._history.results, self._history.times_s, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """The results so far as a table, one row each; columns as in `fs.batch`."""
        from forgesyte_nb.client.batch import to_frame

        return to_frame(self.results)

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait in this thread until the pass has ended.

        Raises:
            TimeoutError: If that takes longer than `timeout_s`; the stream goes on.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._active, timeout_s):
                raise TimeoutError(f"{self!r} has not ended within {timeout_s:g} s; stop() ends it")
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Wait in a cell, `await stream`, while other tasks of the kernel go on."""
        return asyncio.to_thread(self.wait).__await__()

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
            ValueError: If there is none yet, or no longer.
        """
        from PIL import Image

        from forgesyte_nb.drawing import draw_result
        from forgesyte_nb.frame import Frame

        with self._changed:
            pictures = list(self._history.pictures)
        if not 0 <= back < len(pictures):
            raise ValueError(f"snapshot({back}): {len(pictures)} pictures are kept, 0 is the newest")
        shown = pictures[-1 - back]
        return Image.fromarray(draw_result(Frame(shown.payload).rgb, shown.about.get("result", {})))

    # Looking at it: by the public names of the widgets, which are loaded now at the earliest

    def view(self) -> StreamView:
        """A live view for a cell: the pictures with their results, and the controls."""
        import forgesyte_nb as fs

        return fs.StreamView(self)

    def plot(self, *fields: str, **settings: Any) -> LivePlot:
        """A live plot for a cell, of numeric fields such as "result.confidence"; settings as in `fs.LivePlot`."""
        import forgesyte_nb as fs

        return fs.LivePlot(self, *fields, **settings)

    def panel(self) -> PluginPanel:
        """Controls for a cell, for the plugin's options; they act on this stream at once."""
        import forgesyte_nb as fs

        return fs.PluginPanel(self)

    def _tell(self) -> None:
        self.feed.tell(self.state())

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        playback = self.playback
        plugin = self._plugin_in_force()
        with self._changed:
            back = self._back
            return {
                "title": self.feed.title,
                "source": playback.name,
                "plugin": self.plugin,
                "plugin_revision": None if plugin is None else plugin.revision,
                "intent": self.intent,
                "status": self.status,
                "problem": self.problem,
                "speed": playback.speed,
                "source_fps": playback.fps,
                "live": playback.live,
                "length": playback.length,
                "options": self._options,
                "schema": None if plugin is None else plugin.schema.json_schema,
                "ledger": self._counts().as_dict(),
                "rate_fps": round(self._pace.rate_fps, 1),
                "latency_ms": self._pace.latency_ms(),
                "history": {"length": len(self._history.pictures), "back": back},
                "last_error": self._last_error,
                "about": "" if plugin is None else plugin.description,
                "code": self.code,
            }

    def __repr__(self) -> str:
        counts = self._counts()
        told = ", ".join(
            f"{number} {name}"
            for name, number in (
                ("results", counts.results),
                ("errors", counts.errors),
                ("skipped", counts.skipped),
                ("pending", counts.pending),
            )
            if number or name == "results"
        )
        problem = f": {self.problem}" if self.problem else ""
        return f"<Stream {self.playback.name} → {self.plugin}, {self.status}{problem}, {told}>"


_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A daemon thread caught inside compiled code when the interpreter ends would abort the process."""
    for running in list(_streams):
        running.close()


def streams_of(plugin: str) -> list[Stream]:
    """The streams of this kernel that are going through a plugin."""
    return [stream for stream in list(_streams) if stream.plugin == plugin and stream.running]


def _controls_of(stream: Stream) -> Callable[[str, Any], Any]:
    """What viewers may ask for; holds the stream weakly, since its feed must not keep it alive."""
    held = weakref.ref(stream)

    def control(action: str, value: Any) -> Any:
        found = held()
        if found is None:
            raise ValueError("the stream is gone")
        if action == "options":
            found.options = value
            return found.options
        if action == "speed":
            found.speed = value
        elif action == "intent":
            found.set_intent(value)
        elif action == "step":
            found.step(1 if value is None else int(value))
        elif action == "show":
            found.show(value)
        elif action in ("play", "pause", "stop"):
            getattr(found, action)()
        else:
            raise ValueError(f"a stream has no action {action!r}")
        return None

    return control


def stream(
    source: Any,
    plugin: str | Callable[..., Any],
    options: dict[str, Any] | None = None,
    *,
    server: Any = None,
    intent: Intent | None = None,
    speed: float | None = None,
    every: int = 1,
    loop: bool = False,
    token: str | None = None,
    history: int = 50_000,
    **more_options: Any,
) -> Stream:
    """Send a source through a plugin in the background, and return at once.

    Args:
        source: Whatever `fs.open_source` takes: a clip, a folder, a camera ("camera:0"), arrays, a generator, …
        plugin: Name of the plugin, or the function or class itself.
        options: The plugin's options; they can be given as keywords as well, and changed later.
        server: A `Server` or the URL of one; by default this kernel's, which is started if need be.
        intent: "every_frame": nothing is skipped; "freshest": the newest picture when there is room. By default what
            suits the source.
        speed: Multiple of the source's own rate; None is as fast as it goes.
        every: Take every n-th picture.
        loop: Begin the source again at its end.
        token: Secret of a server elsewhere, if it has one.
        history: Results that are kept.
        **more_options: Options.

    Raises:
        SourceError: If the source cannot be opened.
        PluginNotFound: If this kernel's server has no such plugin.
        InvalidOptions: If the plugin's schema refuses the options.
        ServerError: If the server is to be started and cannot be.
    """
    from forgesyte_nb.server.server import Server, running_server, serve

    if server is None:
        server = running_server() or serve()
    local = server if isinstance(server, Server) else None
    opened = open_source(source, every=every, loop=loop)
    made = Stream(
        Playback(opened, speed=speed),
        plugin if isinstance(plugin, str) else plugin_name(plugin, server.registry if local else Registry()),
        {**(options or {}), **more_options},
        url=str(getattr(server, "url", server)),
        token=token if local is None else local.settings.token,
        registry=None if local is None else local.registry,
        intent=intent or ("freshest" if opened.live else "every_frame"),
        history=history,
    )
    return own(made)


def plugin_name(target: Callable[..., Any], registry: Registry) -> str:
    """The name under which a function or class is registered."""
    found = [plugin.name for plugin in registry.plugins() if plugin.target is target]
    return found[0] if found else str(getattr(target, "__name__", target))
