"""`Webcam`: the browser's own camera, or a file dropped on it, to a plugin; the page's part is `front/webcam.js`.

The pictures come from the browser, so it works where the kernel is on another machine. Options go the other way: those
set here, or on the page, hold from the next picture on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets

from forgesyte_nb.client.options import merge_options
from forgesyte_nb.server.server import Server
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.workbench.kernel_server import kernel_server
from forgesyte_nb.workbench.options import checked_options, plugin_name


class Webcam(LiveWidget):
    """A camera in the page, and what a plugin finds in its pictures drawn over them."""

    _plugin = traitlets.Unicode().tag(sync=True)
    _options = traitlets.Dict().tag(sync=True)
    _schema = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        plugin: str | Callable[..., Any],
        options: dict[str, Any] | None = None,
        *,
        server: Server | None = None,
        **more_options: Any,
    ) -> None:
        """Make it; the camera starts when its button is pressed.

        Args:
            plugin: Name of the plugin, or its function or class.
            options: The plugin's options; they can be given as keywords as well.
            server: Where the plugin is; by default this kernel's server, which is started if need be.
            **more_options: Options.

        Raises:
            PluginNotFound: If there is no such plugin.
            InvalidOptions: If its schema refuses the options.
        """
        self._owner = kernel_server(server)
        name = plugin_name(plugin, self._owner.registry)
        chosen = checked_options(self._owner, name, merge_options(options, more_options))
        schema = self._owner.registry.entry(name).plugin.schema.json_schema
        super().__init__(server=server, _front="webcam", _plugin=name, _options=chosen, _schema=schema)

    @property
    def plugin(self) -> str:
        """Name of the plugin."""
        return str(self._plugin)

    @property
    def options(self) -> dict[str, Any]:
        """The options that were chosen. Can be set: they hold from the next picture on."""
        return dict(self._options)

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        self._options = checked_options(self._owner, self.plugin, options)

    def _static_text(self) -> str:
        return f"<Webcam → {self.plugin}: a camera in the browser, while a kernel runs>"
