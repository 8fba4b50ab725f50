"""Plugins called directly, as a script would: a function of a file's bytes that returns what the plugin returns."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import registry
from tests.benchmarks.child import ROOT

PLUGIN_FILES = ROOT / "plugins"

Call = Callable[[bytes, dict[str, Any]], dict[str, Any]]
Function = Callable[[fs.Frame, dict[str, Any]], dict[str, Any]]


def noop(frame: fs.Frame) -> dict[str, Any]:
    """The plugin that does nothing: what it costs is the server's cost."""
    return {"ok": True}


def plugin_call(name: str) -> Call:
    """A plugin of `plugins/`, or `noop`, as a function of encoded image and stream state.

    Raises:
        FileNotFoundError: If there is no such plugin.
    """
    function = plugin_function(name)
    return lambda image, state: function(fs.Frame(image), state)


@functools.cache
def plugin_function(name: str) -> Function:
    """The same as a function of frame and stream state.

    Raises:
        FileNotFoundError: If there is no such plugin.
    """
    import cv2

    cv2.setNumThreads(1)
    if name == "noop":
        return lambda frame, _state: noop(frame)
    spec = importlib.util.spec_from_file_location(name, PLUGIN_FILES / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugin = registry().entry(name).plugin
    call: Any = plugin.target
    if inspect.isclass(call):
        instance: Any = call()
        if hasattr(instance, "setup"):
            instance.setup(fs.Context())
        call = instance.process
    if plugin.stateful:
        return lambda frame, state: call(frame, state=state)
    return lambda frame, _state: call(frame)
