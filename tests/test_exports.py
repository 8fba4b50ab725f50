"""The public names: all there, all loadable, and none that nobody decided on."""

from __future__ import annotations

import subprocess
import sys

import forgesyte_nb as fs

PUBLIC = {
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
}


def test_public_names_are_the_decided_ones() -> None:
    assert set(fs.__all__) == PUBLIC


def test_every_public_name_loads() -> None:
    for name in PUBLIC:
        assert getattr(fs, name) is not None


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, forgesyte_nb; "
        "print([m for m in ('numpy', 'cv2', 'pydantic', 'websockets', 'asyncio', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_a_room_does_not_hide_a_public_name() -> None:
    code = "import forgesyte_nb.plugins.registry, forgesyte_nb as fs; assert callable(fs.plugin)"
    subprocess.run([sys.executable, "-c", code], check=True)
