"""Failed frames back in the kernel: where in which cell, with their picture and options, to be run again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import pretty

import forgesyte_nb as fs
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.workbench.panel import OptionsBoard
from tests.conftest import PATIENCE_S, run_cell

DIVIDES = """
@fs.plugin
def divides(frame, *, by: int = 1):
    whole = 10 // by
    return {"whole": whole, "seq": frame.seq, "mean": float(frame.gray.mean())}
"""
MENDED = DIVIDES.replace("10 // by", "10 // max(1, by)")
OTHERS = """
import os, numpy

@fs.plugin
class counts:
    def setup(self, ctx):
        self.first = 100
    def new_stream(self):
        return {"n": self.first}
    def process(self, frame, *, state, ctx):
        state["n"] += 1
        ctx.log("counted")
        return {"n": state["n"], "unspeakable": numpy.nan if frame.gray.mean() > 50 else 0}

@fs.plugin
def dies(frame):
    os._exit(3)

@fs.plugin("forgets")
class Forgets:
    def process(self, frame):
        "Without a return."
"""


def pictures(count: int) -> list[np.ndarray]:
    return [np.full((24, 32, 3), 20 * index, np.uint8) for index in range(count)]


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    run_cell(DIVIDES, made)
    run_cell(OTHERS, made)
    return made


@pytest.fixture
def server(serve_on: Callable[..., fs.Server], registry: Registry) -> fs.Server:
    return serve_on(registry, engine="processes", workers=1)


@pytest.fixture
def begin(server: fs.Server) -> Iterator[Callable[..., fs.Stream]]:
    streams: list[fs.Stream] = []

    def begin(plugin: str, count: int = 3, **more: Any) -> fs.Stream:
        streams.append(fs.stream(pictures(count), plugin, **{"server": server, **more}).wait(PATIENCE_S))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


Begin = Callable[..., fs.Stream]


def test_a_failed_frame_is_run_again_until_it_is_mended(begin: Begin, registry: Registry) -> None:
    stream = begin("divides", by=0)
    assert len(stream.failures) == 3
    failure = stream.failures[-1]
    assert (failure.plugin, failure.plugin_revision, failure.options) == ("divides", 1, {"by": 0})
    assert failure.message == "ZeroDivisionError: integer division or modulo by zero"
    place = failure.place
    assert place is not None
    assert (place.line, place.function, place.source) == (4, "divides", "whole = 10 // by")
    assert failure.frame is not None
    assert failure.frame.rgb.mean() == pytest.approx(40, abs=2)
    with pytest.raises(ZeroDivisionError) as caught:
        failure.rerun()
    assert caught.traceback[-1].name == "divides"
    assert caught.traceback[-1].locals["frame"].seq == 2
    run_cell(MENDED, registry)
    assert failure.rerun() == {"whole": 10, "seq": 2, "mean": pytest.approx(40, abs=2)}
    failure.options["by"] = 5
    assert failure.rerun()["whole"] == 2


def test_a_class_is_set_up_and_its_stream_begun_anew(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    stream = begin("counts", 4)
    (failure,) = stream.failures
    with pytest.raises(fs.PluginError, match=r"'unspeakable'.*nan"):
        failure.rerun()
    assert capsys.readouterr().out == "counted\n"


def test_what_ended_its_worker_does_not_end_the_kernel_unasked(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    (failure,) = begin("dies", 1).failures
    assert "exit code 3" in failure.message
    assert (failure.traceback, failure.place) == ("", None)
    with pytest.raises(fs.ForgeSyteError, match=r"would end the kernel too; rerun\(anyway=True\)"):
        failure.rerun()
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(fs.PluginError, match="NoneType"):
        failure.rerun(anyway=True)
    assert ended == [3]


def test_a_plugin_that_returns_nothing_is_shown_by_its_own_line(begin: Begin) -> None:
    (failure,) = begin("forgets", 1).failures
    assert failure.message.startswith("returned a NoneType, not a dict")
    assert failure.place is not None
    assert (failure.place.function, failure.place.source) == ("process", "def process(self, frame):")
    assert failure.traceback.splitlines()[1:3] == [
        f'  File "{failure.place.where}", line {failure.place.line}, in process',
        "    def process(self, frame):",
    ]


def test_a_frame_that_reached_no_plugin_says_so(begin: Begin, server: fs.Server, registry: Registry) -> None:
    (failure,) = begin("divides", 1, server=server.url, nonsense=1).failures  # by a URL, options are checked there
    assert failure.code == "INVALID_OPTIONS"
    with pytest.raises(fs.ForgeSyteError, match="never reached it"):
        failure.rerun()
    stream = fs.stream([b"no picture"], "divides", server=server).wait(PATIENCE_S)
    assert stream.failures[0].frame is None
    stream.close()


def test_a_panel_has_the_failures_of_its_plugin_whoever_sent_them(begin: Begin, server: fs.Server) -> None:
    board = OptionsBoard("divides", server, {})
    begin("divides", by=0)
    with fs.BlockingClient(server) as client, pytest.raises(fs.PluginError):
        client.analyze(pictures(1)[0], "divides", by=0)
    assert len(board.failures) == 4
    (told,) = board.state()["failures"]
    assert (told["count"], told["source"], told["revision"]) == (4, "whole = 10 // by", 1)
    assert told["message"] == "ZeroDivisionError: integer division or modulo by zero"
    assert "whole = 10 // by" in board.feed.control("traceback", told["key"])
    with pytest.raises(ValueError, match="kept no longer"):
        board.feed.control("traceback", "job_0")
    with pytest.raises(ZeroDivisionError):
        board.failures[-1].rerun()
    board.close()


def test_in_ipython_cells_have_the_numbers_that_one_sees(
    begin: Begin, registry: Registry, shell: InteractiveShell
) -> None:
    cells = [
        "import forgesyte_nb as fs",
        "def helps(by):\n    return 10 // by",
        "def calls(frame, *, by: int = 1):\n    return {'whole': helps(by)}",
    ]
    for cell in cells:
        shell.run_cell(cell, store_history=True)
    registry.register(define(shell.user_ns["calls"], "calls"))
    (failure,) = begin("calls", 1, by=0).failures
    assert str(failure.place) == "Cell In[2], line 2 in helps"
    assert failure.place is not None
    assert failure.place.source == "return 10 // by"
    said = "ZeroDivisionError: integer division or modulo by zero"
    assert pretty(failure).splitlines()[:4] == [
        f"<Failure of calls revision 1 on pictures#0: {said} (line 2 in helps)>",
        "Traceback (most recent call last):",
        "  Cell In[3], line 2, in calls",
        "    return {'whole': helps(by)}",
    ]
