"""The server of this kernel: the one that runs, or one that is started now, as `fs.serve()` would."""

from __future__ import annotations

from forgesyte_nb.server.current import running_server
from forgesyte_nb.server.server import Server


def kernel_server(chosen: Server | None = None) -> Server:
    """The server that was chosen if it runs, else this kernel's, which is started if need be.

    Raises:
        ServerError: If it is to be started and cannot be.
    """
    import forgesyte_nb as fs  # its `serve` publishes the server to the Jupyter Server as well

    return chosen if chosen is not None and chosen.running else running_server() or fs.serve()
