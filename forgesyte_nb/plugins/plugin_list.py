"""The plugins of a registry, as a list that a notebook shows a line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forgesyte_nb.plugins.contract import Plugin


class PluginList(list[Plugin]):
    """Plugins in force, by name; its repr has a line for each: revision, health, options."""

    def __init__(self, plugins: Iterable[Plugin], troubles: Mapping[str, str]) -> None:
        """List these; `troubles` has what is wrong, by the name of the plugin."""
        super().__init__(plugins)
        self._troubles = troubles

    def __repr__(self) -> str:
        told = [
            f"{plugin.name}, revision {plugin.revision}, {self._health(plugin.name)}; options: {plugin.schema.summary}"
            for plugin in self
        ]
        return "[" + ",\n ".join(told) + "]"

    def _health(self, name: str) -> str:
        return f"failed ({self._troubles[name]})" if self._troubles.get(name) else "ok"
