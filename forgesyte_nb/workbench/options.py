"""The options of a plugin as the notebook holds them: a dict that the plugin's own schema has checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forgesyte_nb.client.wire_format import encode_options
from forgesyte_nb.plugins.registry import Registry


def checked_options(registry: Registry, plugin: str, options: dict[str, Any]) -> dict[str, Any]:
    """A copy of options that a plugin takes.

    Raises:
        PluginNotFound: If there is no such plugin.
        InvalidOptions: If its schema refuses them.
    """
    registry.entry(plugin).plugin.schema.keywords(encode_options(options))
    return dict(options)


def plugin_name(target: str | Callable[..., Any], registry: Registry) -> str:
    """The name of a plugin, given that or the function or class itself."""
    if isinstance(target, str):
        return target
    found = [plugin.name for plugin in registry.plugins() if plugin.target is target]
    return found[0] if found else str(getattr(target, "__name__", target))


def stream_code(source: str, plugin: str, options: dict[str, Any]) -> str:
    """A call of `fs.stream` with these options, to be copied into a cell."""
    told = "".join(f", {name}={value!r}" for name, value in options.items())
    return f'fs.stream("{source}", "{plugin}"{told})'
