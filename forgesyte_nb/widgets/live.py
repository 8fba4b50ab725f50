"""`LiveWidget`: what all widgets with a front end of their own have in common.

The page's part (`front/reach.js`) connects to this kernel's server by the first of three ways that answers: its
WebSocket, the Jupyter Server's relay, or comm messages through the widget itself (`comm_views.py`). So a widget holds
hardly anything: where the server is (`_where`), which feed it shows (`_feed`), which function of the front end draws
it (`_front`); pictures, states and controls go the protocol's way and stay live while a cell runs. A widget made by a
cell is closed when that cell runs again; closing ends its sessions.
"""

from __future__ import annotations

from typing import Any, Protocol

import anywidget
import traitlets

from forgesyte_nb.feeds import Feed
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets import whereabouts
from forgesyte_nb.widgets.bundle import front_end, style_sheet
from forgesyte_nb.widgets.comm_views import CommViews
from forgesyte_nb.widgets.static import StaticPicture
from forgesyte_nb.workbench.cells import own
from forgesyte_nb.workbench.kernel_server import kernel_server


class LiveWidget(anywidget.AnyWidget):
    """Base of the widgets; a subclass says which `_front` draws it and what stands in a saved notebook."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    _where = traitlets.Dict().tag(sync=True)
    _feed = traitlets.Unicode("").tag(sync=True)
    _front = traitlets.Unicode("").tag(sync=True)
    _way = traitlets.Unicode("").tag(sync=True)
    """The way that a page last reported: "direct", "relay", "comm" or "none"."""

    def __init__(self, feed: Feed | None = None, *, server: Server | None = None, **traits: Any) -> None:
        """Make a widget.

        Args:
            feed: What it shows; None if it shows no feed.
            server: Through which; by default this kernel's, which is started if need be.
            **traits: Of the subclass.
        """
        self._server = server
        self._comm_views = CommViews(self._post, self.server)
        self._ended = False
        where = whereabouts.where(self.server())
        super().__init__(_where=where, _feed=feed.feed_id if feed else "", **traits)
        whereabouts.follow(self)
        own(self)

    @traitlets.default("_esm")
    def _front_end(self) -> str:
        return front_end()

    @traitlets.default("_css")
    def _style_sheet(self) -> str:
        return style_sheet()

    def server(self) -> Server:
        """The server through which it is seen."""
        return kernel_server(self._server)

    def server_moved(self, server: Server) -> None:
        """`serve()` has started a server; called on the thread of that call."""
        if self._server is None or not self._server.running:
            self._where = whereabouts.where(server)

    # Comm messages

    def _handle_custom_msg(self, content: Any, buffers: list[Any] | None) -> None:
        """Called by ipywidgets, on whatever thread comm messages come; only posts to the server's loop."""
        if isinstance(content, dict):
            self._comm_views.receive(content, buffers or [])
        super()._handle_custom_msg(content, buffers)

    def _post(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        if not self._ended:
            self.send(content, buffers)

    def close(self) -> None:
        """End its sessions and take its views from the pages; twice is once."""
        if not getattr(self, "_ended", True):
            self._ended = True
            whereabouts.leave(self)
            self._comm_views.close()
        super().close()

    def __del__(self) -> None:
        """Close it, if it came to be: one whose making was refused has nothing to close."""
        if hasattr(self, "_ended"):
            super().__del__()

    # In a saved notebook

    def _static_text(self) -> str:
        """What stands in a saved notebook, as text."""
        return repr(self)

    def _static_html(self) -> str | None:
        """What stands in a saved notebook, as HTML; None if there is none."""
        return None

    def _static_picture(self) -> StaticPicture | None:
        """What stands in a saved notebook, as a picture; None if there is none."""
        return None

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The live view, and what is shown of it where there is no kernel."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None:
            return None
        shown, metadata = bundle
        shown["text/plain"] = self._static_text()
        html = self._static_html()
        if html is not None:
            shown["text/html"] = html
        picture = self._static_picture()
        if picture is not None:
            shown[picture.content_type] = picture.text
        return shown, metadata

    def __repr__(self) -> str:
        state = "closed" if self._ended else "open"
        return f"<{type(self).__name__} {self._feed} {state}>"


class Board(Protocol):
    """Something the kernel keeps and shows on a feed of its own."""

    feed: Feed

    def close(self) -> None:
        """Keep it no longer; twice is once."""


class BoardWidget(LiveWidget):
    """A widget that shows a board of its own, and closes it with itself."""

    def __init__(self, board: Board, *, front: str, server: Server | None = None) -> None:
        """Show a board by the function `front` of the front end."""
        self._board = board
        super().__init__(board.feed, server=server, _front=front)

    def close(self) -> None:
        """Close the board and take its views from the pages; twice is once."""
        self._board.close()
        super().close()

    def _static_text(self) -> str:
        return repr(self._board)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._board!r}>"
