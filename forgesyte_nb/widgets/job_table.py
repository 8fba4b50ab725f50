"""`JobTable`: the jobs of the server, live; the page's part is `front/job_table.js`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import BoardWidget
from forgesyte_nb.workbench.job_board import JobBoard

if TYPE_CHECKING:
    import pandas as pd


class JobTable(BoardWidget):
    """One row for each job that the server still knows or gets, newest first, with state, progress and error.

    Attributes:
        board: What it shows: `.counts`, `.to_frame()`.
    """

    @known_keywords()
    def __init__(self, *, server: Server | None = None) -> None:
        """Begin with the jobs of the past, and listen; by default to this kernel's server."""
        self.board = JobBoard(server=server)
        super().__init__(self.board, front="job_table", server=server)

    def to_frame(self) -> pd.DataFrame:
        """The jobs that are kept as a table, oldest first."""
        return self.board.to_frame()
