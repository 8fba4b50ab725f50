"""`LivePlotter` as its viewers see it: pictures while somebody watches, controls, and a thread that knows its place."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import PluginError
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.workbench.plot import LivePlotter
from forgesyte_nb.workbench.plot_points import Window
from forgesyte_nb.workbench.plot_settings import KINDS
from forgesyte_nb.workbench.plot_thread import Allowance, DrawingThread
from tests.conftest import PATIENCE_S, wait_for


def result(index: int) -> Result:
    return Result(str(index), "p", {"share": index % 10 / 10, "found": index % 2 == 0}, latency_ms=20.0 + index % 7)


@pytest.fixture
def thread() -> Iterator[DrawingThread]:
    """A drawing thread that takes what it needs, and has ended after the test."""
    drawing = DrawingThread(share=1.0, rest_s=3600)
    yield drawing
    wait_for(lambda: not drawing.alive, "the drawing thread to end")


@pytest.fixture
def plot(thread: DrawingThread) -> Iterator[LivePlotter]:
    plot = LivePlotter(["result.share", "latency_ms"], thread=thread)
    for index in range(100):
        plot.add(result(index), index / 30)
    yield plot
    plot.close()


def state(plot: LivePlotter) -> dict[str, Any]:
    """As viewers hear it."""
    said: dict[str, Any] = json.loads(plot.feed.state)
    return said


def picture(plot: LivePlotter) -> NDArray[np.uint8]:
    """As viewers see it."""
    shown = plot.feed.picture
    assert shown is not None
    assert shown.content_type == "image/jpeg"
    pixels = np.asarray(Image.open(io.BytesIO(shown.payload)))
    assert pixels.shape == (shown.about["height"], shown.about["width"], 3)
    return pixels


def seq(plot: LivePlotter) -> int:
    return plot.feed.picture.seq if plot.feed.picture else 0


def next_picture(plot: LivePlotter, after: int) -> NDArray[np.uint8]:
    wait_for(lambda: seq(plot) > after, f"a picture after {after}")
    return picture(plot)


def test_nothing_is_drawn_while_nobody_watches(plot: LivePlotter, thread: DrawingThread) -> None:
    assert not thread.alive
    assert plot.feed.picture is None
    assert (state(plot)["fields"], state(plot)["kind"]) == (["result.share", "latency_ms"], "lines")
    plot.feed.watched(+1)
    first = next_picture(plot, 0)
    assert first.shape == (300, 600, 3)
    plot.add(result(100))
    next_picture(plot, 1)
    plot.feed.watched(-1)
    wait_for(lambda: not thread._waiting, "the last picture")
    before = seq(plot)
    for index in range(50):
        plot.add(result(index))
    assert not thread._waiting
    assert seq(plot) <= before + 1
    plot.feed.watched(+1)
    next_picture(plot, before)
    wait_for(lambda: state(plot)["points"] == 151, "the state of all points")


def test_the_state_says_what_is_seen(plot: LivePlotter) -> None:
    plot.feed.watched(+1)
    next_picture(plot, 0)
    wait_for(lambda: state(plot)["points"], "a state")
    assert state(plot) == {
        "fields": ["result.share", "latency_ms"],
        "kind": "lines",
        "window": None,
        "points": 100,
        "paused": False,
        "values": {"result.share": 0.9, "latency_ms": 21.0},
        "problem": "",
        "theme": "light",
        "size": {"width": 600, "height": 300, "scale": 1.0},
    }
    plot.add(Result("x", "p", error=PluginError("no"), latency_ms=5.0))
    assert plot.state()["values"] == {"result.share": None, "latency_ms": 5.0}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_shown(plot: LivePlotter, kind: str) -> None:
    plot.feed.watched(+1)
    first = next_picture(plot, 0)
    if kind == "lines":
        plot.feed.control("kind", "histogram")
        wait_for(lambda: (picture(plot) != first).any(), "a histogram")
    plot.feed.control("kind", kind)
    assert state(plot)["kind"] == kind
    wait_for(
        lambda: (picture(plot) == first).mean() > 0.999 if kind == "lines" else (picture(plot) != first).any(), kind
    )


def test_theme_and_size_are_the_viewers(plot: LivePlotter) -> None:
    plot.feed.watched(+1)
    assert next_picture(plot, 0)[0, 0].min() > 250
    plot.feed.control("theme", "dark")
    wait_for(lambda: picture(plot)[0, 0].max() < 30, "the dark theme")
    plot.feed.control("size", {"width": 900, "height": 250, "scale": 2})
    wait_for(lambda: picture(plot).shape == (500, 1800, 3), "the size")
    plot.feed.control("size", {"width": 10**9, "height": -5})
    wait_for(lambda: picture(plot).shape == (120, 2400, 3), "the largest size")


def test_a_paused_plot_stands_still_and_misses_nothing(plot: LivePlotter) -> None:
    plot.feed.watched(+1)
    before = next_picture(plot, 0)
    plot.feed.control("pause", None)
    assert state(plot)["paused"]
    plot.add(Result("x", "p", {"share": 50.0}, latency_ms=1.0))
    plot.feed.control("theme", "dark")
    wait_for(lambda: picture(plot)[0, 0].max() < 30, "the dark theme")
    plot.feed.control("theme", "light")
    wait_for(lambda: picture(plot)[0, 0].min() > 250, "the light theme")
    assert (picture(plot) == before).all()
    assert state(plot)["values"]["result.share"] == 0.9
    plot.feed.control("play", None)
    wait_for(lambda: (picture(plot) != before).any(), "what came meanwhile")
    assert state(plot)["values"]["result.share"] == 50.0


def test_fields_window_and_clear(plot: LivePlotter) -> None:
    plot.feed.control("fields", ["result.found", "latency_ms"])
    plot.add(result(101))
    said = plot.state()
    assert said["values"] == {"result.found": 0.0, "latency_ms": 23.0}
    assert said["points"] == 101
    plot.feed.control("window", {"count": 20})
    assert state(plot)["window"] == {"count": 20}
    plot.feed.control("window", {"seconds": 2})
    assert state(plot)["window"] == {"seconds": 2.0}
    plot.feed.control("clear", None)
    assert (state(plot)["points"], state(plot)["values"]["latency_ms"]) == (0, None)
    plot.feed.watched(+1)
    next_picture(plot, 0)


@pytest.mark.parametrize(
    ("action", "value", "remedy"),
    [
        ("kind", "pie", "lines, histogram, cumulative"),
        ("window", {"count": 0}, "'seconds': 30"),
        ("fields", ["bright"], "'result.bright'"),
        ("fields", [], "list of paths"),
        ("fields", [["ok"]], "name one by its path"),
        ("theme", "pink", "light, dark"),
        ("size", "big", "'width': 600"),
        ("size", {"width": 600, "height": 300, "scale": "x"}, "scale"),
        ("zoom", 2, "kind, window, pause"),
    ],
)
def test_what_cannot_be_done_says_what_can(plot: LivePlotter, action: str, value: Any, remedy: str) -> None:
    before = plot.state()
    with pytest.raises(ValueError, match=remedy):
        plot.feed.control(action, value)
    assert plot.state() == before


def test_a_field_that_finds_nothing_is_told_with_what_there_is(thread: DrawingThread) -> None:
    plot = LivePlotter(["result.shar", "latency_ms"], thread=thread)
    assert plot.state()["problem"] == ""
    plot.add(result(1))
    problem = plot.state()["problem"]
    assert "no result has 'result.shar'" in problem
    assert "There are: result.share, " in problem
    assert "latency_ms'" not in problem
    plot.feed.control("fields", ["result.share"])
    plot.add(result(2))
    assert plot.state()["problem"] == ""
    plot.close()


def test_only_the_newest_fifty_thousand_are_kept(thread: DrawingThread) -> None:
    plot = LivePlotter(["seq"], thread=thread)
    for index in range(50_010):
        plot.add(Result("f", "p", seq=index), index / 30)
    assert plot.state()["points"] == 50_000
    figure = plot.figure()
    assert sum(len(line.get_xdata()) for axes in figure.axes for line in axes.lines) < 2_500
    plot.feed.watched(+1)
    next_picture(plot, 0)
    plot.close()


def test_all_plots_are_drawn_by_one_thread_that_ends_with_them(thread: DrawingThread) -> None:
    plots = [LivePlotter(["latency_ms"], thread=thread, window=Window(seconds=5)) for _ in range(4)]
    for plot in plots:
        plot.feed.watched(+1)
        plot.add(result(1))
    for plot in plots:
        next_picture(plot, 0)
    assert sum(thread.name == "forgesyte-plots" for thread in threading.enumerate()) == 1
    for plot in plots:
        plot.close()
        plot.close()
        assert feed_book().get(plot.feed.feed_id) is None
        plot.add(result(2))
    wait_for(lambda: not thread.alive, "the thread to end")


def test_the_thread_ends_when_there_is_nothing_to_draw_and_comes_back() -> None:
    thread = DrawingThread(share=1.0, rest_s=0.05)
    plot = LivePlotter(["latency_ms"], thread=thread)
    plot.feed.watched(+1)
    for index in range(3):
        before = seq(plot)
        plot.add(result(index))
        next_picture(plot, before)
        wait_for(lambda: not thread.alive, "the thread to rest")
    plot.close()


def test_results_come_from_many_threads_while_plots_are_steered_and_drawn(plot: LivePlotter) -> None:
    plot.feed.watched(+1)

    def send() -> None:
        for index in range(500):
            plot.add(result(index))

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for index in range(30):
        plot.feed.control("fields", ["latency_ms", "result.share", "result.found"][: 1 + index % 3])
        plot.feed.control("kind", KINDS[index % 3])
    for sender in senders:
        sender.join()
    before = seq(plot)
    plot.feed.control("window", {"count": 100})
    next_picture(plot, before)
    assert (state(plot)["points"], state(plot)["problem"]) == (2100, "")


def test_a_plot_that_cannot_be_drawn_says_so_and_stops_no_other(
    plot: LivePlotter, thread: DrawingThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LivePlotter(["ok"], thread=thread)
    for each in (plot, other):
        each.feed.watched(+1)
        next_picture(each, 0)

    def broken(*_: Any) -> None:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(plot._drawn, "draw", broken)
    plot.add(result(1))
    wait_for(lambda: "out of ink" in state(plot)["problem"], "the problem")
    other.add(result(1))
    next_picture(other, 1)
    plot.add(result(2))
    next_picture(plot, 1)
    wait_for(lambda: state(plot)["problem"] == "", "the end of the problem")
    other.close()


def test_the_thread_ends_before_the_interpreter() -> None:
    code = """
import atexit, os, threading
from forgesyte_nb.client.results import Result
from forgesyte_nb.workbench.plot import LivePlotter

def look():
    if any(thread.name == "forgesyte-plots" for thread in threading.enumerate()):
        os._exit(3)

atexit.register(look)
plot = LivePlotter(["latency_ms"])
plot.feed.watched(+1)
plot.add(Result("1", "p", latency_ms=3.0))
while plot.feed.picture is None:
    pass
plot.add(Result("2", "p", latency_ms=4.0))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S, check=False)
    assert done.returncode == 0


def test_the_share_of_a_processor_is_kept() -> None:
    allowance = Allowance(0.05, 0.04, 0.0, 0.0)
    now, spent, draws = 0.0, 0.0, []
    while now < 60:
        wait = allowance.wait_s(now, spent)
        if wait:
            now += wait
            continue
        cost = 0.03 if len(draws) % 7 else 0.2
        draws.append((now, cost))
        now, spent = now + cost, spent + cost
    total = sum(cost for _, cost in draws)
    assert 0.04 * 60 <= total <= 0.05 * 60 + 0.24
    cheap = [cost for at, cost in draws if 10 <= at < 11 and cost < 0.1]
    assert math.fsum(cheap) <= 0.1
