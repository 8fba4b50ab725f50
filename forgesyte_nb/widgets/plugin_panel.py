"""`PluginPanel`: controls for a plugin's options, made of their schema; the page's part is `front/plugin_panel.js`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forgesyte_nb.client.options import merge_options
from forgesyte_nb.keywords import own_keywords
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.widgets.static import options_table
from forgesyte_nb.workbench.failures import Failure
from forgesyte_nb.workbench.kernel_server import kernel_server
from forgesyte_nb.workbench.options import plugin_name
from forgesyte_nb.workbench.panel import OptionsBoard
from forgesyte_nb.workbench.stream import Stream


class PluginPanel(LiveWidget):
    """Sliders, choices and fields that retune running streams at once.

        panel = fs.PluginPanel("motion_detector")      # all streams of this kernel that use it
        stream.panel()                                 # this one

    Attributes:
        target: The stream it tunes, or the `OptionsBoard` of a plugin.
    """

    def __init__(
        self,
        target: Stream | str | Callable[..., Any],
        options: dict[str, Any] | None = None,
        *,
        server: Server | None = None,
        **more_options: Any,
    ) -> None:
        """Offer the options of a stream's plugin, or of a plugin.

        Args:
            target: A stream, the name of a plugin, or its function or class.
            options: To begin with; they can be given as keywords as well.
            server: Where the plugin is; by default this kernel's server, which is started if need be.
            **more_options: Options.

        Raises:
            PluginNotFound: If there is no such plugin.
            InvalidOptions: If its schema refuses the options.
        """
        chosen = merge_options(options, more_options)
        with own_keywords(PluginPanel, more_options):
            if isinstance(target, Stream):
                self.target: Stream | OptionsBoard = target.tune(**chosen) if chosen else target
            else:
                owner = kernel_server(server)
                self.target = OptionsBoard(plugin_name(target, owner.registry), owner, chosen)
        super().__init__(self.target.feed, server=server, _front="plugin_panel")

    @property
    def options(self) -> dict[str, Any]:
        """The options that were chosen. Can be set."""
        return self.target.options

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        self.target.options = options

    @property
    def failures(self) -> list[Failure]:
        """The last frames that failed, oldest first: of the stream, or of the plugin, whoever sent them."""
        return self.target.failures

    @property
    def code(self) -> str:
        """A call with these options, to be copied into a cell."""
        return self.target.code

    def close(self) -> None:
        """Take its views from the pages; a stream goes on. Twice is once."""
        if isinstance(self.target, OptionsBoard):
            self.target.close()
        super().close()

    def _static_html(self) -> str | None:
        state = self.target.state()
        if state["schema"] is None:
            return None
        return options_table(
            f"{self.target.plugin}, revision {state['plugin_revision']}", state["schema"], self.options
        )

    def _static_text(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.options.items()) or "all defaults"
        return f"<PluginPanel {self.target.plugin}: {told}>"
