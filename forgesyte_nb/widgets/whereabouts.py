"""Where a page finds this kernel's server, and which widgets have to be told when that changes.

`fs.serve()` may start a server after the widgets, or replace the one they know; every open widget then gets the new
address. A secret never goes to a page: behind a token the direct way is not offered.
"""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any

import forgesyte_nb.jupyter.pages  # noqa: F401 -- from here on the server knows this kernel's pages
from forgesyte_nb import __version__
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.jupyter.kernel_file import own_connection_file
from forgesyte_nb.server.current import on_serve
from forgesyte_nb.server.server import Server

if TYPE_CHECKING:
    from forgesyte_nb.widgets.live import LiveWidget

_KERNEL_ID = re.compile(r"kernel-(.+)\.json")

_following: weakref.WeakSet[LiveWidget] = weakref.WeakSet()


def where(server: Server | None) -> dict[str, Any]:
    """What a page is told.

    Returns:
        feeds_id: What the right server's `hello` says.
        direct: URL of its WebSocket, such as "ws://localhost:8000"; None if there is no server or it asks for a token.
        kernel_id: For the Jupyter Server's relay; None outside a kernel of a Jupyter Server.
        version: Of this package.
    """
    open_to_pages = server is not None and server.running and server.settings.token is None
    return {
        "feeds_id": feed_book().book_id,
        "direct": server.url if server is not None and open_to_pages else None,
        "kernel_id": _kernel_id(),
        "version": __version__,
    }


def _kernel_id() -> str | None:
    connection_file = own_connection_file()
    match = None if connection_file is None else _KERNEL_ID.fullmatch(connection_file.name)
    return match[1] if match else None


def follow(widget: LiveWidget) -> None:
    """Tell a widget, until it is closed, of each server that `serve()` starts."""
    _following.add(widget)


def leave(widget: LiveWidget) -> None:
    """Tell it no longer."""
    _following.discard(widget)


def _moved(server: Server) -> None:
    for widget in list(_following):
        widget.server_moved(server)


on_serve.append(_moved)
