"""`LivePlot`: numeric fields of a stream's results, drawn as they come; the page's part is `front/live_plot.js`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.widgets.static import StaticPicture, drawing
from forgesyte_nb.workbench.plot import LivePlotter
from forgesyte_nb.workbench.plot_points import Window
from forgesyte_nb.workbench.stream import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LivePlot(LiveWidget):
    """Lines, histograms or cumulative counts of fields such as "result.confidence" or "processing_time_ms".

    Attributes:
        stream: Whose results.
        plotter: What draws them.
    """

    @known_keywords()
    def __init__(
        self,
        stream: Stream,
        *fields: str,
        kind: str = "lines",
        window_s: float | None = None,
        window_count: int | None = None,
        title: str = "",
        server: Server | None = None,
    ) -> None:
        """Plot fields of the results so far and of those to come.

        Args:
            stream: From `fs.stream`.
            *fields: Dotted paths into a result; "latency_ms" if none is given.
            kind: "lines", "histogram" or "cumulative".
            window_s: Seconds of the past that are drawn; everything that is kept unless given.
            window_count: Results of the past that are drawn.
            title: For people; the fields unless given.
            server: Through which the page reaches this kernel; by default the kernel's own.

        Raises:
            ValueError: If there are no such fields or kinds.
        """
        self.stream = stream
        window = Window(seconds=window_s, count=window_count)
        self.plotter = LivePlotter(fields or ("latency_ms",), kind=kind, window=window, title=title)
        for result, at_s in stream.timed_results():
            self.plotter.add(result, at_s)
        self._end_hearing = stream.on_result(self.plotter.add)
        super().__init__(self.plotter.feed, server=server, _front="live_plot")

    def figure(self) -> Figure:
        """The same plot as a matplotlib figure, for keeps."""
        return self.plotter.figure()

    def close(self) -> None:
        """Stop plotting and take its views from the pages; twice is once."""
        self._end_hearing()
        self.plotter.close()
        super().close()

    def _static_text(self) -> str:
        return repr(self)

    def _static_picture(self) -> StaticPicture | None:
        from PIL import Image

        file = io.BytesIO()
        self.figure().savefig(file, format="png")
        return drawing(Image.open(file))

    def __repr__(self) -> str:
        return f"<LivePlot of {', '.join(self.plotter.state()['fields'])}>"
