"""The options of a plugin as the notebook holds them: a dict that the plugin's own schema has checked.

`ChosenOptions` are those of a stream or a panel, which outlive the revision of the plugin that they were chosen for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from forgesyte_nb.client.options import encode_options
from forgesyte_nb.client.sources import Source
from forgesyte_nb.client.sources.urls import without_secrets
from forgesyte_nb.errors import InvalidOptions, PluginNotFound
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.options import check_size
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server


class ChosenOptions:
    """What was chosen of the options of a plugin, whatever becomes of the plugin.

    Not thread-safe: whoever has them holds a lock, else one thread could put back what another is about to drop
    something from.

    Attributes:
        values: The options; a change makes another dict.
        dropped: Which of them were dropped since they were chosen, and why; else empty.
    """

    def __init__(self, server: Server | None, plugin: str, options: dict[str, Any]) -> None:
        """Choose the first; see `choose`.

        Args:
            server: Where the plugin is; None if that is in another process, whose server then checks them itself.
            plugin: Its name.
            options: The options.
        """
        self._server, self._plugin = server, plugin
        self.choose(options)

    def choose(self, options: dict[str, Any]) -> None:
        """Have these from now on.

        Raises:
            PluginNotFound: If there is no such plugin; nothing has changed then.
            InvalidOptions: If its schema refuses them; nothing has changed then.
        """
        server = self._server
        self.values = plain_options(options) if server is None else checked_options(server, self._plugin, options)
        self.dropped = ""

    @property
    def plugin_in_force(self) -> Plugin | None:
        """The plugin as it is now, if it is in this process."""
        if self._server is None:
            return None
        try:
            return self._server.registry.entry(self._plugin).plugin
        except PluginNotFound:
            return None

    def drop_refused(self, plugin: Plugin | None) -> bool:
        """Go on without those that this revision of the plugin takes no more; whether there were any."""
        before = self.values
        if plugin is not None:
            self.values, said = without_refused(plugin, before)
            if said not in self.dropped:  # what is refused still was told with what was dropped
                self.dropped = said
        return self.values != before


def checked_options(server: Server, plugin: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options that a plugin takes, as the plain values that JSON has for them: a path is text, a set a list.

    Raises:
        PluginNotFound: If there is no such plugin.
        InvalidOptions: If its schema refuses them, or they are over the server's limits.
    """
    encoded, limits = encode_options(options), server.settings
    schema = server.registry.entry(plugin).plugin.schema
    check_size(encoded, max_bytes=limits.max_options_bytes, max_depth=limits.max_options_depth)
    schema.keywords(encoded)
    return plain_options(options)


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of options as the plain values that JSON has for them."""
    values: dict[str, Any] = json.loads(encode_options(options))
    return values


def without_refused(plugin: Plugin, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The options that this revision of a plugin takes, and what there is to say of the others.

    Dropped are those that it has no more, and those whose value it refuses since their type or bounds have changed.
    If it refuses what is left as well, as for one that it now requires, that is said.
    """
    refused = plugin.schema.refused(encode_options(options))
    kept = {name: value for name, value in options.items() if name not in refused}
    revision = f"revision {plugin.revision} of {plugin.name}"
    gone = ", ".join(name for name in options if name in refused and refused[name] is None)
    said = [f"{gone}: dropped, since {revision} has no such option"] if gone else []
    for name in options:
        if why := refused.get(name):
            said.append(f"{name}: dropped, since {revision} refuses its value ({why.removeprefix(f'{name}: ')})")
    try:
        plugin.schema.keywords(encode_options(kept))
    except InvalidOptions as error:
        said.append(f"{revision} refuses what is left of the options ({error}): choose others")
    return kept, "; ".join(said)


def plugin_name(target: str | Callable[..., Any], registry: Registry) -> str:
    """The name of a plugin, given that or the function or class itself."""
    if isinstance(target, str):
        return target
    found = [plugin.name for plugin in registry.plugins() if plugin.target is target]
    return found[0] if found else str(getattr(target, "__name__", target))


def source_code(source: Any) -> str:
    """How a source is written in a call: its path, its URL without secrets, or a name for what has neither."""
    if isinstance(source, (str, int, os.PathLike)):
        written = source if isinstance(source, int) else os.fspath(source)
        return json.dumps(without_secrets(written) if isinstance(written, str) else written, ensure_ascii=False)
    name = str(getattr(source, "__name__", ""))
    return f"{name}()" if name.isidentifier() else "source" if isinstance(source, Source) else "pictures"


def stream_code(source: str, plugin: str, options: dict[str, Any]) -> str:
    """A call of `fs.stream` with these options, to be copied into a cell; `source` as it is written there."""
    told = "".join(f", {name}={value!r}" for name, value in options.items())
    return f'fs.stream({source}, "{plugin}"{told})'
