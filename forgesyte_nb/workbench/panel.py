"""`OptionsBoard`: the options of one plugin, and the streams that they retune; the kernel's side of `fs.PluginPanel`.

Values are checked by the plugin's own schema before they hold; all streams of this kernel that use the plugin take them
from the next picture on. An option that a new revision of the plugin takes no more is dropped, as streams do, and told.
"""

from __future__ import annotations

import threading
from typing import Any

from forgesyte_nb.failures import failure_book
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.failures import Failure, told_of, traceback_of
from forgesyte_nb.workbench.options import ChosenOptions, stream_code
from forgesyte_nb.workbench.streams import streams_of
from forgesyte_nb.workbench.ticking import ticker


class OptionsBoard:
    """Options of a plugin, in one place.

    Attributes:
        plugin: Its name.
        feed: What viewers see.
    """

    def __init__(self, plugin: str, server: Server, options: dict[str, Any]) -> None:
        """Begin with these options.

        Raises:
            PluginNotFound: If the server has no such plugin.
            InvalidOptions: If its schema refuses them.
        """
        self.plugin = plugin
        self._server = server
        self._told: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._chosen = ChosenOptions(server, plugin, options)
        self.feed: Feed = feed_book().open("panel", plugin, self._control)
        self.feed.tell(self.state())
        self.feed.on_watched = lambda: ticker.start(self._tick)

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen. Can be set: it is checked, and all running streams of the plugin take it."""
        self._drop_refused()
        return dict(self._chosen.values)

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        with self._lock:
            self._chosen.choose(options)
            chosen = self._chosen.values
        for stream in streams_of(self.plugin):
            stream.options = chosen
        self._tick()

    @property
    def failures(self) -> list[Failure]:
        """The last frames that the plugin failed on, whoever sent them, oldest first."""
        streams = streams_of(self.plugin, ended=True)
        names = {failure.key: failure.name for stream in streams for failure in stream.failures}
        found = failure_book().of_plugin(self.plugin, self._server.registry)
        return [Failure(one, names.get(one.job_id, "")) for one in found]

    @property
    def code(self) -> str:
        """A call with these options, to be copied into a cell."""
        return stream_code('"street.mp4"', self.plugin, self._chosen.values)

    def close(self) -> None:
        """Offer no controls any longer; twice is once."""
        self.feed.close("the panel was closed: run its cell again")

    def _drop_refused(self) -> Plugin | None:
        """Go on without options that the plugin in force takes no more; that plugin."""
        with self._lock:
            plugin = self._chosen.plugin_in_force
            self._chosen.drop_refused(plugin)
            return plugin

    def _control(self, action: str, value: Any) -> Any:
        if action == "traceback":
            return traceback_of(self.failures, value)
        if action != "options":
            raise ValueError(f"a panel has no action {action!r}")
        self.options = value
        return self.options

    def _tick(self) -> bool:
        state = self.state()
        if state != self._told:
            self._told = state
            self.feed.tell(state)
        return self.feed.watchers > 0

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        registry = self._server.registry
        found = self._drop_refused()
        streams = streams_of(self.plugin)
        return {
            "title": self.plugin,
            "plugin": self.plugin,
            "plugin_revision": None if found is None else found.revision,
            "about": "" if found is None else found.description,
            "schema": None if found is None else found.schema.json_schema,
            "options": self._chosen.values,
            "code": self.code,
            "streams": len(streams),
            "problem": registry.failures.get(self.plugin, "") or self._chosen.dropped,
            "failures": told_of(self.failures, failure_book().count),
        }
