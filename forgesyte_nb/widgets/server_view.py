"""`ServerView`: how a `Server` shows itself in a cell; the page's part is `front/server_view.js`."""

from __future__ import annotations

from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import BoardWidget
from forgesyte_nb.workbench.server_board import ServerBoard


class ServerView(BoardWidget):
    """Address, plugins, clients, rates and the end of the log of a server."""

    def __init__(self, server: Server) -> None:
        """Show a server."""
        super().__init__(ServerBoard(server), front="server_view")
