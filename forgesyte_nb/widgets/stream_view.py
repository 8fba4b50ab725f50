"""`StreamView`: a stream as one sees it in a cell, with its controls and its ledger.

The page's part is `front/stream_view.js`; in a saved notebook stand the newest picture with what was found in it, and
the stream's own line.
"""

from __future__ import annotations

import time

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.widgets.static import StaticPicture, photograph
from forgesyte_nb.workbench.stream import Stream

FIRST_PICTURE_S = 0.3
"""So long the cell waits for a first picture, for the static form; the live view does not need it."""


class StreamView(LiveWidget):
    """The frames of a stream with results drawn over them, and everything it can be told.

    Attributes:
        stream: What it shows.
    """

    @known_keywords()
    def __init__(self, stream: Stream, *, server: Server | None = None) -> None:
        """Show a stream; several views of one are fine.

        Args:
            stream: From `fs.stream`.
            server: Through which the page reaches this kernel; by default the kernel's own.
        """
        self.stream = stream
        super().__init__(stream.feed, server=server, _front="stream_view")

    def _static_text(self) -> str:
        return repr(self.stream)

    def _static_picture(self) -> StaticPicture | None:
        end = time.monotonic() + FIRST_PICTURE_S
        while self.stream.feed.picture is None and self.stream.status == "playing" and time.monotonic() < end:
            time.sleep(0.01)
        try:
            return photograph(self.stream.snapshot())
        except ValueError:
            return None
