"""A plugin called in this kernel as a lane would call it, with nothing in between: for `%debug`, `%prun` and the like.

What it raises is raised as it is. A class is made and set up anew, and a stream's state is a fresh one: the state that
it had when it failed is in the worker.
"""

from __future__ import annotations

from typing import Any

from forgesyte_nb.image.frame import Frame
from forgesyte_nb.plugins.context import Context
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.results import encode_result
from forgesyte_nb.settings import Settings


def call_plugin(plugin: Plugin, frame: Frame, options: bytes) -> Any:
    """What a plugin returns for a frame.

    Args:
        plugin: The plugin.
        frame: The picture.
        options: JSON, as on the wire.

    Raises:
        InvalidOptions: If the plugin takes them no longer.
        PluginError: If it returns what JSON cannot say.
        Exception: Whatever the plugin raises.
    """
    __tracebackhide__ = True  # IPython then shows the cell and the plugin alone
    context = Context(plugin.name, plugin.revision, frame.frame_id, log=print)
    keywords = dict(plugin.schema.keywords(options))
    call: Any = plugin.target
    new_state: Any = dict
    if plugin.is_class:
        instance = plugin.target()
        if hasattr(instance, "setup"):
            instance.setup(context, **plugin.setup_options)
        call, new_state = instance.process, getattr(instance, "new_stream", dict)
    if "ctx" in plugin.schema.wants:
        keywords["ctx"] = context
    if "state" in plugin.schema.wants:
        keywords["state"] = new_state()
    result = call(frame, **keywords)
    encode_result(result, max_bytes=Settings.max_result_bytes)
    return result
