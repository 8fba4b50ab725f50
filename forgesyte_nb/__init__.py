"""Stream pictures through vision plugins from a notebook, over a plain WebSocket.

    import forgesyte_nb as fs

    @fs.plugin
    def bright(frame, *, threshold: float = 0.5) -> dict:
        return {"bright": bool(frame.gray.mean() / 255 > threshold)}

    server = fs.serve()

Names are loaded when first used, so that `import forgesyte_nb` costs next to nothing in a kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forgesyte_nb.client.blocking import BlockingClient
    from forgesyte_nb.client.client import Client
    from forgesyte_nb.client.nested import allow_nested_asyncio, load_ipython_extension
    from forgesyte_nb.client.results import Result
    from forgesyte_nb.client.sources import open_source
    from forgesyte_nb.client.sources.synthetic import synthetic
    from forgesyte_nb.errors import (
        ConnectionLost,
        ForgeSyteError,
        InvalidImage,
        InvalidMessage,
        InvalidOptions,
        PluginDefinitionError,
        PluginError,
        PluginNotFound,
        ProcessingTimeout,
        QueueFull,
        ServerError,
        SourceError,
        WireError,
    )
    from forgesyte_nb.image.frame import Frame
    from forgesyte_nb.jupyter.serving import serve
    from forgesyte_nb.plugins.context import Context
    from forgesyte_nb.plugins.contract import plugin
    from forgesyte_nb.plugins.registry import unload
    from forgesyte_nb.plugins.results import Box, Keypoint, Label, Mask, Text
    from forgesyte_nb.server.server import Server
    from forgesyte_nb.settings import Settings
    from forgesyte_nb.transport.fake import FakeTransport
    from forgesyte_nb.widgets.job_table import JobTable
    from forgesyte_nb.widgets.live_plot import LivePlot
    from forgesyte_nb.widgets.plugin_panel import PluginPanel
    from forgesyte_nb.widgets.server_view import ServerView
    from forgesyte_nb.widgets.stream_view import StreamView
    from forgesyte_nb.widgets.topic_monitor import TopicMonitor
    from forgesyte_nb.widgets.webcam import Webcam
    from forgesyte_nb.workbench.batches import batch
    from forgesyte_nb.workbench.doctor import doctor
    from forgesyte_nb.workbench.doctor_report import Diagnosis
    from forgesyte_nb.workbench.stream import Stream
    from forgesyte_nb.workbench.streams import stream

__version__ = "0.1.0"

_HOMES = {
    "forgesyte_nb.workbench.batches": ("batch",),
    "forgesyte_nb.client.blocking": ("BlockingClient",),
    "forgesyte_nb.client.client": ("Client",),
    "forgesyte_nb.client.nested": ("allow_nested_asyncio", "load_ipython_extension"),
    "forgesyte_nb.client.results": ("Result",),
    "forgesyte_nb.client.sources": ("open_source",),
    "forgesyte_nb.client.sources.synthetic": ("synthetic",),
    "forgesyte_nb.errors": (
        "ConnectionLost",
        "ForgeSyteError",
        "InvalidImage",
        "InvalidMessage",
        "InvalidOptions",
        "PluginDefinitionError",
        "PluginError",
        "PluginNotFound",
        "ProcessingTimeout",
        "QueueFull",
        "ServerError",
        "SourceError",
        "WireError",
    ),
    "forgesyte_nb.image.frame": ("Frame",),
    "forgesyte_nb.jupyter.extension": ("_jupyter_server_extension_points",),  # the Jupyter Server asks the package
    "forgesyte_nb.jupyter.serving": ("serve",),
    "forgesyte_nb.plugins.context": ("Context",),
    "forgesyte_nb.plugins.contract": ("plugin",),
    "forgesyte_nb.plugins.registry": ("unload",),
    "forgesyte_nb.plugins.results": ("Box", "Keypoint", "Label", "Mask", "Text"),
    "forgesyte_nb.server.server": ("Server",),
    "forgesyte_nb.settings": ("Settings",),
    "forgesyte_nb.transport.fake": ("FakeTransport",),
    "forgesyte_nb.widgets.server_view": ("ServerView",),
    "forgesyte_nb.widgets.stream_view": ("StreamView",),
    "forgesyte_nb.workbench.doctor": ("doctor",),
    "forgesyte_nb.workbench.doctor_report": ("Diagnosis",),
    "forgesyte_nb.widgets.live_plot": ("LivePlot",),
    "forgesyte_nb.widgets.plugin_panel": ("PluginPanel",),
    "forgesyte_nb.widgets.topic_monitor": ("TopicMonitor",),
    "forgesyte_nb.widgets.job_table": ("JobTable",),
    "forgesyte_nb.widgets.webcam": ("Webcam",),
    "forgesyte_nb.workbench.stream": ("Stream",),
    "forgesyte_nb.workbench.streams": ("stream",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 -- in the order of a dictionary, whatever the case
    "__version__",
    "BlockingClient",
    "Box",
    "Client",
    "ConnectionLost",
    "Context",
    "Diagnosis",
    "FakeTransport",
    "ForgeSyteError",
    "Frame",
    "InvalidImage",
    "InvalidMessage",
    "InvalidOptions",
    "JobTable",
    "Keypoint",
    "Label",
    "LivePlot",
    "Mask",
    "PluginDefinitionError",
    "PluginError",
    "PluginNotFound",
    "PluginPanel",
    "ProcessingTimeout",
    "QueueFull",
    "Result",
    "Server",
    "ServerError",
    "ServerView",
    "Settings",
    "SourceError",
    "Stream",
    "StreamView",
    "Text",
    "TopicMonitor",
    "Webcam",
    "WireError",
    "allow_nested_asyncio",
    "batch",
    "doctor",
    "load_ipython_extension",
    "open_source",
    "plugin",
    "serve",
    "stream",
    "synthetic",
    "unload",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'forgesyte_nb' has no attribute '{name}'")
    thing = getattr(importlib.import_module(home), name)
    globals()[name] = thing  # found at once next time
    return thing


def __dir__() -> list[str]:
    return __all__
