"""Counts the jobs under way of each revision of a plugin, to unload a revision with its last frame. Sans-I/O."""

from __future__ import annotations

from collections import Counter

from forgesyte_nb.plugins.contract import Plugin


class Revisions:
    """Revisions that an engine's lanes may have loaded."""

    def __init__(self) -> None:
        """Start without any."""
        self._newest: dict[str, int] = {}
        self._under_way: dict[str, Counter[int]] = {}

    def supersede(self, plugin: Plugin) -> bool:
        """Note that a revision is in force; True if older ones may have to be unloaded."""
        if self._newest.get(plugin.name, 0) >= plugin.revision:
            return False
        self._newest[plugin.name] = plugin.revision
        return plugin.revision > 1

    def submitted(self, plugin: Plugin) -> bool:
        """Count a job of a revision; True if older revisions may have to be unloaded."""
        self._under_way.setdefault(plugin.name, Counter())[plugin.revision] += 1
        return self.supersede(plugin)

    def ended(self, plugin: Plugin) -> bool:
        """Discount a job; True if it was the last of a revision that is no longer in force."""
        under_way = self._under_way[plugin.name]
        under_way[plugin.revision] -= 1
        if under_way[plugin.revision]:
            return False
        del under_way[plugin.revision]
        if not under_way:
            del self._under_way[plugin.name]
        return plugin.revision < self._newest[plugin.name]

    def needed(self, name: str) -> list[int]:
        """Revisions of a plugin to keep: the newest, and those with jobs under way."""
        return sorted({self._newest.get(name, 0), *self._under_way.get(name, ())})
