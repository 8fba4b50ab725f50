"""What a notebook adds to the server that `serve()` starts: the Jupyter Server finds it, it ends well, it shows itself.

`fs.serve` is taken from here: whoever calls it has this module loaded, and whoever only imports the package has not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import forgesyte_nb.jupyter.pages  # noqa: F401 -- from here on the server knows this kernel's pages
from forgesyte_nb.jupyter.kernel_end import close_with_kernel
from forgesyte_nb.jupyter.kernel_file import publish, withdraw
from forgesyte_nb.server.current import on_serve, serve
from forgesyte_nb.server.server import Server, looks

__all__ = ["serve"]

_REACHED_AT: dict[str, Literal["127.0.0.1", "::1"]] = {
    "localhost": "127.0.0.1",
    "127.0.0.1": "127.0.0.1",
    "0.0.0.0": "127.0.0.1",  # noqa: S104 -- recognised, not bound
    "": "127.0.0.1",
    "::1": "::1",
    "::": "::1",
}
"""The loopback address of a server by its host; one that is bound to a single other address has none."""


def _publish(server: Server) -> Callable[[], None] | None:
    address = _REACHED_AT.get(server.host)
    if address is None:
        return None
    path = publish(server_id=server.server_id, port=server.port, address=address, secret=server.settings.token)
    return None if path is None else partial(withdraw, path, server.server_id)


def _look(server: Server) -> object:
    import forgesyte_nb as fs  # widgets are loaded when there is something to show

    return fs.ServerView(server)


on_serve += [_publish, close_with_kernel]
looks.append(_look)
