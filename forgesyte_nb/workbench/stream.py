"""`Stream`: a source going through a plugin in the background, held in a cell.

It reads, sends and receives on threads of its own, so the kernel stays free; the controls (play, pause, step, speed,
options, …) act at once, whether they come from Python or from a viewer of its feed. Results can be iterated, awaited,
tabled, plotted and watched, during and after. One pass ends by itself with its source; `play` then begins another.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from forgesyte_nb.background import disown_when_forked
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import SourceStatus
from forgesyte_nb.client.stream import Intent, check_intent
from forgesyte_nb.feeds import Feed
from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.history import Shown
from forgesyte_nb.workbench.ledger import Counts
from forgesyte_nb.workbench.options import ChosenOptions, stream_code
from forgesyte_nb.workbench.playback import Playback
from forgesyte_nb.workbench.stream_feed import feed_of, state_of
from forgesyte_nb.workbench.stream_pass import Route, StreamPass
from forgesyte_nb.workbench.stream_results import StreamResults

if TYPE_CHECKING:
    from forgesyte_nb import LivePlot, PluginPanel, StreamView


class Stream(StreamResults):
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
        route: Route,
        options: dict[str, Any],
        *,
        intent: Intent,
        concurrency: int | None,
        history: int,
        source_code: str,
    ) -> None:
        """Made, and begun, by `fs.stream`."""
        check_intent(intent)
        if not isinstance(history, int) or history < 1:
            raise ValueError(f"history={history!r}: the number of results that are kept, 1 or more")
        super().__init__(most_results=history)
        self.plugin = route.plugin
        self.playback = playback
        self.intent: Intent = intent
        self._concurrency = concurrency
        self.status = "playing"
        self.problem = ""
        self._waiting_options = False  # whether some were chosen since the last pass ended
        self._route, self._source_code = route, source_code
        self._chosen = ChosenOptions(self._local_server, route.plugin, options)
        self._before = Counts()  # of earlier passes
        self._again = self._closing = self._in_vain = False
        self.feed: Feed = feed_of(self, f"{playback.name} → {self.plugin}", self._tell)
        self._pass: StreamPass
        self._begin()
        disown_when_forked(self, Stream._disown)

    # Passes, and what they bring

    def _begin(self, *, paused: bool = False) -> None:
        with self._changed:  # a pass that ends at once finds itself in its place
            self._drop_refused()
            self.playback.rewind(paused=paused)
            self.status, self.problem = "paused" if paused else "playing", ""
            self._active, self._again, self._waiting_options = True, False, False
            self._pass = StreamPass(
                f"forgesyte-{self.feed.feed_id}",
                self.playback,
                self._route,
                self._chosen.values,
                self.intent,
                self._concurrency,
                heard=self._take,
                refused=self._drop_refused,
                tell=self._tell_watchers,
                ended=self._ended,
            )

    def _ended(self, problem: str) -> None:
        with self._changed:
            self._before, self._active = self._counts(), False
            self.problem = problem
            self.status = "failed" if problem else "stopped" if self.status == "stopped" else "ended"
            if self._again and not self._closing:
                self._begin()
            try:
                self._tell()  # first: who waited for the end finds it in the feed, too
            finally:
                self._notify_all()

    def _take(self, result: Result) -> None:
        shown = self.remember(result, time.monotonic(), self._chosen.values)
        if shown is not None and self._history.back is None:
            self._show(shown)

    def _show(self, shown: Shown) -> None:
        self.feed.show(shown.image, shown.content_type, **shown.about)

    # Controls

    @property
    def _local_server(self) -> Server | None:
        """Its server, if that is in this process."""
        return self._route.server if isinstance(self._route.server, Server) else None

    @property
    def running(self) -> bool:
        """Whether its pass has not ended."""
        return self.status in ("playing", "paused")

    def play(self) -> Self:
        """Go on after a pause, with viewers live again; after its end, begin another pass."""
        with self._changed:
            self._history.back = None
            if self.running:
                self.playback.play()
                self.status = "playing"
            elif self._active:
                self._again = True  # it is stopping: its last answers are still to come
            elif not self._closing:
                self._begin()
            self._in_vain = self._closing
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
        """Take so many pictures more, seen by viewers as they come, and wait.

        Raises:
            ValueError: If `count` is less than 1.
        """
        with self._changed:
            self._history.back = None
            if not self._active and not self._closing:
                self._begin(paused=True)
            self.playback.step(count)
            if self.running:
                self.status = "paused"
            self._in_vain = self._closing
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
        """Stop, and end the feed: viewers keep the last picture. Twice is once.

        The last answers are waited for, two seconds at the most; what is unanswered then ends with `ConnectionLost`,
        and a connection that is still being made is given up.
        """
        self._closing = True  # and stays so: nothing begins another pass
        try:
            self.stop()
        finally:  # closing the source may raise
            self._pass.join()
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
        return dict(self._chosen.values)

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        self._set_options(options)
        self._tell()

    @property
    def notice(self) -> str:
        """Warning about its source, options or controls; empty if there is none.

        A camera that is silent or away; options that were dropped, since a new revision of the plugin takes them no
        more; options that wait for another pass, or that come too late.
        """
        about_source = self.source_status.message if self.running else ""
        return "; ".join(filter(None, (about_source, self._options_notice())))

    def _options_notice(self) -> str:
        if self._closing and (self._in_vain or self._waiting_options):
            what = "the options have" if self._waiting_options else "that has"
            return f"{what} no effect: the stream is closed; run its cell again, or fs.stream(…)"
        if not self._waiting_options:
            return self._chosen.dropped
        return f"the options wait for another pass: this one has {self.status}; play() begins it"

    def _set_options(self, options: dict[str, Any]) -> None:
        with self._changed:
            self._drop_refused()  # what is under way with options of an old revision is not overtaken
            self._chosen.choose(options)
            self._waiting_options = not self.running
            self._pass.retune(self._chosen.values)

    def tune(self, **options: Any) -> Self:
        """Change some options and keep the others. When its pass has ended they wait for the next; see `notice`.

        Raises:
            InvalidOptions: If the plugin's schema refuses them; nothing has changed then.
        """
        with self._changed:
            self._drop_refused()
            self._set_options({**self._chosen.values, **options})
        self._tell()
        return self

    def set_intent(self, intent: Intent) -> Self:
        """Go on with another intent: "every_frame" or "freshest".

        Raises:
            ValueError: If it is neither.
        """
        check_intent(intent)
        self.intent = intent
        self._pass.switch(intent)
        self._tell()
        return self

    def show(self, back: int | None) -> Self:
        """Let viewers look back: at the picture so many before the newest; None is live again.

        Raises:
            ValueError: If there is no such picture any more.
        """
        with self._changed:
            shown = self._history.look(back)
        if shown is not None:
            self._show(shown)
        self._tell()
        return self

    def _disown(self) -> None:
        """In a forked process: it runs in the parent, and has ended here."""
        self._changed = threading.Condition()  # another thread may have held it
        self.playback.disown()
        self._closing, self._active = True, False
        self.status, self.problem = "failed", "the stream belongs to the process that this one was forked from"

    def _drop_refused(self) -> None:
        """Go on without options that a new revision of the plugin takes no more: it would refuse every picture."""
        with self._changed:
            if self._chosen.drop_refused(self._chosen.plugin_in_force) and self._active:
                self._pass.retune(self._chosen.values, after_answers=True)

    # What came of it

    def _counts(self) -> Counts:
        return self._before + self._pass.counts if self._active else self._before

    def _missing(self) -> str:
        if not self._active or self.playback.endless:
            return ""
        counts = self._pass.counts
        try:
            of = f" of {len(self.playback)}"
        except TypeError:
            of = ""
        remedy = "play() goes on" if self.status == "paused" else "stream.wait() or 'await stream' waits for the rest"
        return f"{self.playback.name}: {counts.results + counts.errors}{of} pictures so far; {remedy}"

    @property
    def ledger(self) -> dict[str, int]:
        """`sent`, `results`, `errors`, `skipped`, `pending`; the first is the sum of the others."""
        return self._counts().as_dict()

    @property
    def trouble(self) -> str:
        """Why its server does not answer at the moment, while it is being tried again; else empty."""
        return self._pass.trouble if self._active else ""

    @property
    def source_status(self) -> SourceStatus:
        """Condition of its source: "reading", "silent" or "reconnecting"; outages and damaged pictures so far."""
        return self.playback.status

    @property
    def code(self) -> str:
        """A call that makes such a stream with the options of now, to be copied into a cell.

        The URL of a source stands in it without user name, password and query.
        """
        return stream_code(self._source_code, self.plugin, self._chosen.values)

    # Looking at it: by the public names of the widgets, which are loaded now at the earliest

    @known_keywords({"server": "fs.StreamView(stream, server=…)"})
    def view(self) -> StreamView:
        """A live view for a cell: the pictures with their results, and the controls."""
        import forgesyte_nb as fs

        return fs.StreamView(self)

    def plot(self, *fields: str, **settings: Any) -> LivePlot:
        """A live plot for a cell, of numeric fields such as "result.confidence"; settings as in `fs.LivePlot`."""
        import forgesyte_nb as fs

        return fs.LivePlot(self, *fields, **settings)

    @known_keywords({"server": "fs.PluginPanel(stream, server=…)"})
    def panel(self) -> PluginPanel:
        """Controls for a cell, for the plugin's options; they act on this stream at once."""
        import forgesyte_nb as fs

        return fs.PluginPanel(self)

    def _tell(self) -> None:
        with self._changed:  # what is told last is how things stand
            self.feed.tell(self.state())

    def _tell_watchers(self) -> None:
        self._drop_refused()
        if self.feed.watchers:
            self._tell()

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        with self._changed:
            return state_of(self, self._chosen.plugin_in_force, self._history)

    def __repr__(self) -> str:
        said = self.problem or self.trouble or self.notice
        problem = f": {said}" if said else ""
        return f"<Stream {self.playback.name} → {self.plugin}, {self.status}{problem}, {self._counts()}>"
