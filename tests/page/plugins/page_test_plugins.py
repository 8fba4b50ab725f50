"""Plugins with known results, for the browser test."""

import time
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

import forgesyte_nb as fs


@fs.plugin
def boxes(
    frame: fs.Frame,
    *,
    threshold: Annotated[float, Field(ge=0, le=1, description="Least confidence")] = 0.0,
    label: str = "thing",
    kind: Literal["plain", "labelled"] = "labelled",
    fail: bool = False,
) -> dict[str, Any]:
    """Two boxes, of confidence 0.9 and 0.4."""
    if fail:
        raise fs.PluginError("asked to fail: clear the box 'fail'")
    width, height = frame.size_wh
    name = label if kind == "labelled" else None
    found = [
        fs.Box(width / 4, height / 4, width / 4, height / 2, name, 0.9),
        fs.Box(width * 5 / 8, height / 4, width / 4, height / 2, name, 0.4),
    ]
    return {"boxes": [box for box in found if (box.confidence or 0) >= threshold], "note": label}


@fs.plugin
def shapes(frame: fs.Frame) -> dict[str, Any]:
    """One of each shape."""
    width, height = frame.size_wh
    inside = np.zeros((height, width), np.uint8)
    inside[height // 2 :, : width // 2] = 1
    return {
        "words": [fs.Text("hello", fs.Box(4, 40, 60, 20))],
        "mask": fs.Mask(inside, "floor"),
        "points": [fs.Keypoint(width / 2, height / 2, "centre", 0.5)],
        "labels": [fs.Label("indoors", 0.8)],
        "histogram": list(range(12)),
        "size": {"width": width, "height": height},
    }


@fs.plugin
def slow(frame: fs.Frame) -> dict[str, Any]:
    """Slower than any camera."""
    time.sleep(0.25)
    return {"ok": True}
