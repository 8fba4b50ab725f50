"""In a notebook's kernel: one stream at 30 frames/s, and its pictures in the page by three ways.

    from tests.benchmarks import shown
    stream = shown.begin()
    look = shown.view(stream, 1)          # or shown.image(stream), shown.remote_frame_buffer(stream)
    look.show()
    look.close()

All ways get the same pictures, each at the moment when its result has come; what is decoded for jupyter_rfb, which
takes arrays alone, was decoded before. The view's pictures say themselves when they were published. Those of the other
ways carry that time after the end of the JPEG (seconds since the epoch, a float64), where no decoder looks; `probe.js`
reads both.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import ipywidgets
import numpy as np
from IPython.display import display
from jupyter_rfb import RemoteFrameBuffer

import forgesyte_nb as fs
from forgesyte_nb.client.results import Result
from forgesyte_nb.workbench.playback import NOMINAL_FPS
from tests.benchmarks import pictures

FPS = 30.0


def begin(*, history: int = 1000, **settings: Any) -> fs.Stream:
    """A server, and pictures of a scene with two moving things, for ever."""
    fs.serve(port=0, **settings)
    return fs.stream(pictures.walk(), "motion_detector", speed=FPS / NOMINAL_FPS, loop=True, history=history)


@dataclass(frozen=True)
class Look:
    """One way of looking at the stream.

    Attributes:
        widgets: What shows it.
        end: Gives it no more pictures.
    """

    widgets: Sequence[Any]
    end: Callable[[], object]

    def show(self) -> None:
        """Put it in the cell's output."""
        display(*self.widgets)

    def close(self) -> None:
        """Take it away."""
        self.end()
        for widget in self.widgets:
            widget.close()


def nothing(_stream: fs.Stream) -> Look:
    """The same stream, unseen."""
    return Look([], lambda: None)


def view(stream: fs.Stream, count: int = 1) -> Look:
    """`stream.view()`, once or several times."""
    return Look([stream.view() for _ in range(count)], lambda: None)


def image(stream: fs.Stream) -> Look:
    """`ipywidgets.Image`, its value set to each picture."""
    width, height = pictures.BASE_WH
    widget = ipywidgets.Image(format="jpeg", width=width, height=height)

    def give(result: Result, _at_s: float) -> None:
        if result.frame is not None:
            widget.value = result.frame.bytes + _now()

    return Look([widget], stream.on_result(give))


class _Pictures(RemoteFrameBuffer):
    """The newest picture; it is drawn on the kernel's loop, where jupyter_rfb draws."""

    def __init__(self) -> None:
        width, height = pictures.BASE_WH
        super().__init__(css_width=f"{width}px", css_height=f"{height}px", resizable=False)
        self._arrays = [_decoded(jpeg) for jpeg in pictures.walk()]
        self._newest, self._stamp = self._arrays[0], _now()
        self._loop = asyncio.get_running_loop()

    def give(self, result: Result, _at_s: float) -> None:
        self._newest, self._stamp = self._arrays[result.seq % len(self._arrays)], _now()
        self._loop.call_soon_threadsafe(self.request_draw)

    def get_frame(self) -> Any:
        return self._newest

    def send(self, content: Any, buffers: Any = None) -> None:
        """As it is, with the time after the picture."""
        super().send(content, [bytes(buffer) + self._stamp for buffer in buffers or ()])


def remote_frame_buffer(stream: fs.Stream) -> Look:
    """jupyter_rfb, which encodes each picture itself."""
    widget = _Pictures()
    return Look([widget], stream.on_result(widget.give))


def _now() -> bytes:
    return struct.pack("<d", time.time())


def _decoded(jpeg: bytes) -> Any:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
