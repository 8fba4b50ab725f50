"""`ServerBoard`: what one wants to know of a server at a glance; the kernel's side of how a `Server` is displayed."""

from __future__ import annotations

import re
import time
from typing import Any

from forgesyte_nb.errors import ServerError
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.ticking import ticker

INTERVAL_S = 1.0
LOG_LINES = 12
CLIENTS_SHOWN = 50
_OF_THIS_NOTEBOOK = ("view_", "table_")  # client ids of widgets in pages, and of what they show in the kernel


class ServerBoard:
    """URL, plugins, clients, rates and the end of the log.

    Attributes:
        server: Of which.
        feed: What viewers see.
    """

    def __init__(self, server: Server) -> None:
        """Look at a server."""
        self.server = server
        self._counted = (time.monotonic(), 0)
        self._next_at = 0.0
        self.feed: Feed = feed_book().open("server", repr(server))
        self.feed.tell(self.state())
        self.feed.on_watched = lambda: ticker.start(self._tick)

    def _tick(self) -> bool:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + INTERVAL_S
            self.feed.tell(self.state())
        return self.feed.watchers > 0

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        server = self.server
        try:
            stats, clients = (server.stats(), server.clients()) if server.running else (None, [])
        except (ServerError, RuntimeError):
            stats, clients = None, []  # it was closed at this moment
        programs = [one for one in clients if one["frames"] or not one["client_id"].startswith(_OF_THIS_NOTEBOOK)]
        now = time.monotonic()
        before_at, before = self._counted
        results = before if stats is None else stats["results"]
        self._counted = (now, results)
        return {
            "running": stats is not None,
            "url": server.url,
            "page_url": server.page_url,
            "engine": server.settings.engine,
            "stats": stats,
            "clients": programs[:CLIENTS_SHOWN],
            "displays": len(clients) - len(programs),
            "rate_fps": round(max(0, results - before) / max(now - before_at, 1e-3), 1),
            "plugins": [
                {"name": plugin.name, "revision": plugin.revision, "about": plugin.description}
                for plugin in server.plugins
            ],
            "failures": server.failures,
            "log": _readable(server.log_tail(LOG_LINES)),
        }

    def __repr__(self) -> str:
        return repr(self.server)

    def close(self) -> None:
        """Look no longer; twice is once."""
        self.feed.close("run the cell again to see the server")


def _readable(log: str) -> str:
    """Log lines with their line breaks; what follows one is indented, so that an event still cannot look like two."""
    return re.sub(r"(\\\\)|\\n", lambda found: found[1] or "\n    ", log).replace("\n    \n", "\n").rstrip()
