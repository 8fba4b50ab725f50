"""`LivePlot`: numeric fields of a stream's results, drawn as they come; the page's part is `front/live_plot.js`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.workbench.plot import Plot
from forgesyte_nb.workbench.stream import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LivePlot(LiveWidget):
    """Lines, histograms or cumulative counts of fields such as "result.confidence" or "processing_time_ms".

    Attributes:
        stream: Whose results.
        plot: What draws them: `.kind`, `.window`, `.figure()`.
    """

    def __init__(self, stream: Stream, *fields: str, server: Server | None = None, **settings: Any) -> None:
        """Plot fields of the results so far and of those to come.

        Args:
            stream: From `fs.stream`.
            *fields: Dotted paths into the result.
            server: Through which the page reaches this kernel; by default the kernel's own.
            **settings: As `Plot` takes them: `kind`, `window_s`, `window_count`, `title`, …
        """
        self.stream = stream
        self.plot = Plot(*fields, **settings)
        for result, at_s in stream.timed_results():
            self.plot.add(result, at_s)
        self._end_hearing = stream.on_result(self.plot.add)
        super().__init__(self.plot.feed, server=server, _front="live_plot")

    def figure(self) -> Figure:
        """The same plot as a matplotlib figure, for keeps."""
        return self.plot.figure()

    def close(self) -> None:
        """Stop plotting and take its views from the pages; twice is once."""
        self._end_hearing()
        self.plot.close()
        super().close()

    def _static_text(self) -> str:
        return repr(self.plot)

    def _static_png(self) -> bytes | None:
        return self.plot.png()

    def __repr__(self) -> str:
        return f"<LivePlot {self.plot!r}>"
