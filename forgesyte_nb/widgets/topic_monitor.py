"""`TopicMonitor`: the messages of the server as they come; the page's part is `front/topic_monitor.js`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import BoardWidget
from forgesyte_nb.workbench.monitor import HISTORY, Monitor

if TYPE_CHECKING:
    import pandas as pd


class TopicMonitor(BoardWidget):
    """Subscribe and unsubscribe by hand; filter, pause, and look into each message.

    Attributes:
        monitor: What it shows: `.messages`, `.counts`, `.topics`, `.subscribe(topic)`, …
    """

    @known_keywords()
    def __init__(
        self, topics: str | Iterable[str] = "all", *, server: Server | None = None, history: int = HISTORY
    ) -> None:
        """Begin to listen.

        Args:
            topics: One or several of "all", "plugin_<name>", job ids.
            server: Whose messages; by default this kernel's server.
            history: Messages that are kept.

        Raises:
            InvalidMessage: If one is no topic.
        """
        chosen = (topics,) if isinstance(topics, str) else tuple(topics)
        self.monitor = Monitor(chosen, server=server, history=history)
        super().__init__(self.monitor, front="topic_monitor", server=server)

    def to_frame(self) -> pd.DataFrame:
        """The messages that are kept as a table; see `Monitor.to_frame`."""
        return self.monitor.to_frame()
