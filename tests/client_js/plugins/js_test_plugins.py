"""Plugins that the JavaScript tests talk to."""

import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

import forgesyte_nb as fs


@fs.plugin
def probe(frame: fs.Frame, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5) -> dict[str, Any]:
    """Say what came in."""
    width, height = frame.size_wh
    return {"width": width, "height": height, "threshold": threshold}


@fs.plugin
def gate(frame: fs.Frame, *, file: str) -> dict[str, Any]:
    """Wait until a file exists."""
    while not Path(file).exists():
        time.sleep(0.005)
    return {}


@fs.plugin
def broken(frame: fs.Frame) -> dict[str, Any]:
    """Fail."""
    raise ValueError("broken on purpose")
