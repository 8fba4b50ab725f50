"""`StreamView` without a browser: what stands in a saved notebook, and that it leaves nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S, run_cell, wait_for
from tests.widgets.conftest import Page

BOX = """
from typing import Annotated, Literal
from pydantic import Field

@fs.plugin("box", engine="inline")
def box(frame, *, low: Annotated[int, Field(ge=0, le=9, description="<lowest>")] = 2, kind: Literal["a", "b"] = "a",
        free: float = 1.5):
    return {"boxes": [fs.Box(10, 10, 60, 40, label="it")]}
"""


def test_a_saved_notebook_shows_the_picture_with_what_was_found(serve_on: Callable[..., fs.Server]) -> None:
    registry = Registry()
    run_cell(BOX, registry)
    server = serve_on(registry)
    stream = fs.stream([np.full((96, 128, 3), 40, np.uint8)], "box", server=server).wait(PATIENCE_S)
    view = fs.StreamView(stream, server=server)
    bundle, _ = view._repr_mimebundle_()
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))).convert("RGB"))
    assert picture.shape == (96, 128, 3)
    assert picture[80:, 100:].max() < 60
    assert picture[8:52, 8:72].max() > 120
    assert bundle["text/plain"] == repr(stream)
    view.close()
    stream.close()


def test_what_is_saved_is_small(serve_on: Callable[..., fs.Server], astronaut: np.ndarray) -> None:
    registry = Registry()
    run_cell(BOX, registry)
    server = serve_on(registry)
    large = np.tile(astronaut, (4, 4, 1))  # 2048 × 2048
    stream = fs.stream([large], "box", server=server).wait(PATIENCE_S)
    view, plot = fs.StreamView(stream, server=server), fs.LivePlot(stream, server=server)
    encoded = view._repr_mimebundle_()[0]["image/jpeg"]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (640, 640)
    assert len(encoded) < 200_000
    assert len(plot._repr_mimebundle_()[0]["image/png"]) < 30_000
    for one in (view, plot, stream):
        one.close()


def test_of_a_panel_the_options_are_saved(serve_on: Callable[..., fs.Server]) -> None:
    registry = Registry()
    run_cell(BOX, registry)
    panel = fs.PluginPanel("box", low=7, server=serve_on(registry))
    html = panel._repr_mimebundle_()[0]["text/html"]
    assert "<tr><td>low</td><td>7</td><td>0 … 9</td><td>&lt;lowest&gt;</td></tr>" in html
    assert "<tr><td>kind</td><td>&#x27;a&#x27;</td><td>a, b</td><td></td></tr>" in html
    assert "<tr><td>free</td><td>1.5</td><td></td><td></td></tr>" in html
    panel.close()


def test_a_view_of_a_stream_without_pictures_has_only_text(serve_on: Callable[..., fs.Server]) -> None:
    registry = Registry()
    run_cell(BOX, registry)
    server = serve_on(registry)
    stream = fs.stream([], "box", server=server).wait(PATIENCE_S)
    view = fs.StreamView(stream, server=server)
    bundle, _ = view._repr_mimebundle_()
    assert not [name for name in bundle if name.startswith("image/")]
    page = Page(view)
    page.post("open")
    page.say("watch", feed=stream.feed.feed_id)
    state = page.heard("feed_state")["state"]
    assert (state["status"], state["problem"]) == ("failed", stream.problem)
    assert "has no" in stream.problem
    view.close()
    wait_for(lambda: stream.feed.watchers == 0, "no viewer")
    stream.close()
