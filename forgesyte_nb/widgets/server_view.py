"""`ServerView`: how a `Server` shows itself in a cell; the page's part is `front/server_view.js`."""

from __future__ import annotations

from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.workbench.server_board import ServerBoard


class ServerView(LiveWidget):
    """Address, plugins, clients, rates and the end of the log of a server."""

    def __init__(self, server: Server) -> None:
        """Show a server."""
        self.board = ServerBoard(server)
        super().__init__(self.board.feed, _front="server_view")

    def close(self) -> None:
        """Take its views from the pages; twice is once."""
        self.board.close()
        super().close()

    def _static_text(self) -> str:
        return repr(self.board.server)
