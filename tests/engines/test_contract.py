"""What every engine promises, whichever way it runs plugins."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.errors import InvalidImage, InvalidOptions, PluginError, ProcessingTimeout
from tests.engines.conftest import Bench, Open

BASICS = """
import os, sys, threading, time

@fs.plugin
def shade(frame, *, add: int = 0):
    shade = int(frame.gray[0, 0]) + add
    return {"shade": shade, "size": list(frame.size_wh), "frame": frame.frame_id, "seq": frame.seq}

@fs.plugin
def steps(frame, *, ctx, count: int = 3):
    for step in range(count):
        ctx.progress(step + 1, count)
        time.sleep(0.06)
    ctx.log("all steps done")
    return {"revision": ctx.revision, "plugin": ctx.plugin}

@fs.plugin
def divides(frame, *, by: int = 0):
    numerator = 7
    return {"value": numerator / by}  # where it goes wrong

@fs.plugin
def inverts(frame):
    import numpy as np
    return {"value": np.linalg.inv(np.zeros((2, 2)))}

@fs.plugin
def counts(frame, *, state):
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"], "seq": frame.seq, "pid": os.getpid(), "thread": threading.get_ident()}
"""


@pytest.fixture
def basics(bench: Bench) -> Bench:
    bench.cell(BASICS)
    return bench


async def test_a_result(basics: Bench) -> None:
    job = basics.submit("shade", {"add": 2}, frame_id="f")
    outcome = await basics.outcome(job)
    assert await basics.result(job) == {"shade": 130, "size": [8, 8], "frame": "f", "seq": 0}
    assert basics.of(job) == [("started",), ("ended",)]
    assert outcome.decode_ms > 0
    assert outcome.plugin_ms >= 0
    assert outcome.output == ""
    assert job.started_at > 0


async def test_an_exception_is_an_error_with_the_plugins_own_traceback(basics: Bench) -> None:
    error = await basics.error(basics.submit("divides"))
    assert type(error) is PluginError
    assert str(error) == "ZeroDivisionError: division by zero (line 20 in divides)"
    assert 'return {"value": numerator / by}  # where it goes wrong' in error.detail
    assert "forgesyte_nb" not in error.detail
    assert await basics.run("divides", {"by": 7}) == {"value": 1}


async def test_the_line_that_is_named_is_the_plugins_not_a_librarys(basics: Bench) -> None:
    error = await basics.error(basics.submit("inverts"))
    assert str(error) == "LinAlgError: Singular matrix (line 25 in inverts)"
    assert "_linalg.py" in error.detail


async def test_progress_is_heard_in_order_between_start_and_end(basics: Bench) -> None:
    job = basics.submit("steps")
    assert await basics.result(job) == {"revision": 1, "plugin": "steps"}
    assert basics.of(job) == [
        ("started",),
        ("progressed", 33.3),
        ("progressed", 66.7),
        ("progressed", 100.0),
        ("ended",),
    ]
    await basics.until(lambda: "steps all steps done" in basics.logs, "the log line")


async def test_a_stream_is_worked_on_in_order_by_one_lane(basics: Bench) -> None:
    jobs = [basics.submit("counts", stream=stream) for _ in range(40) for stream in ("left", "right")]
    results = [await basics.result(job) for job in jobs]
    for offset in (0, 1):
        of_stream = results[offset::2]
        assert [result["n"] for result in of_stream] == list(range(1, 41))
        assert [result["seq"] for result in of_stream] == list(range(40))
        assert len({(result["pid"], result["thread"]) for result in of_stream}) == 1


async def test_streams_of_different_clients_have_states_of_their_own(basics: Bench) -> None:
    for owner in ("a", "b", "a"):
        await basics.run("counts", owner=owner)
    assert (await basics.run("counts", owner="a"))["n"] == 3
    assert (await basics.run("counts", owner="b"))["n"] == 2


async def test_a_forgotten_stream_begins_anew(basics: Bench) -> None:
    await basics.run("counts", owner="gone")
    await basics.run("counts", owner="stays")
    basics.engine.forget_streams("gone/")
    assert (await basics.run("counts", owner="gone"))["n"] == 1
    assert (await basics.run("counts", owner="stays"))["n"] == 2


async def test_of_too_many_streams_the_least_recently_used_is_forgotten(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1, stream_states=2)
    bench.cell(BASICS)
    seen = [(owner, (await bench.run("counts", owner=owner))["n"]) for owner in "abacabb"]
    assert seen == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3), ("b", 1), ("b", 2)]


async def test_starts_are_announced_in_the_order_sent(basics: Bench) -> None:
    jobs = [basics.submit("shade") for _ in range(200)]
    await asyncio.gather(*(basics.outcome(job) for job in jobs))
    started = [frame_id for kind, frame_id, *_ in basics.heard if kind == "started"]
    assert started == [job.frame_id for job in jobs]


async def test_one_client_does_not_keep_another_waiting(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    bench.cell("import time\n@fs.plugin\ndef slow(frame):\n    time.sleep(0.06)\n    return {}")
    await bench.run("slow")
    many = [bench.submit("slow", owner="greedy") for _ in range(12)]
    await bench.outcome(bench.submit("slow", owner="modest"))
    assert sum(job.ended for job in many) <= 4
    await bench.outcome(many[-1])


SLOW_AND_SHORT = """
import os, time

@fs.plugin
def slow(frame, *, ms: int = 250):
    time.sleep(ms / 1000)
    return {}

@fs.plugin
def short(frame): return {}

@fs.plugin
def waits(frame, *, state, path: str):
    while not os.path.exists(path):
        time.sleep(0.005)
    return {}
"""


async def test_short_frames_beside_a_stream_of_a_slow_plugin_wait_for_one_of_its_frames(
    open_bench: Open, engine_name: str
) -> None:
    bench = open_bench(engine_name)
    bench.cell(SLOW_AND_SHORT)
    for _ in range(2):
        await bench.run("slow", {"ms": 250}, owner="slow")
    slow = [bench.submit("slow", owner="slow") for _ in range(12)]
    await bench.until(bench.hears("started", slow[engine_name != "inline"].frame_id), "all lanes to be busy")
    heard = len(bench.heard)
    short = [bench.submit("short", owner="short") for _ in range(10)]
    await asyncio.gather(*(bench.outcome(job) for job in short))
    last = bench.heard.index(("ended", short[-1].frame_id))
    of_slow = {job.frame_id for job in slow}
    waited_for = [news for news in bench.heard[heard:last] if news[0] == "ended" and news[1] in of_slow]
    assert len(waited_for) <= 2, "one in each lane"
    await bench.outcome(slow[-1])


async def test_a_stream_that_is_stuck_does_not_block_its_clients_other_streams(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("there is one lane inline")
    bench = open_bench(engine_name)
    bench.cell(SLOW_AND_SHORT)
    stuck = [bench.submit("waits", {"path": str(tmp_path / "open")}, stream="stuck") for _ in range(5)]
    for stream in ("other", "third", ""):
        await bench.run("short", stream=stream)
    assert not any(job.ended for job in stuck)
    (tmp_path / "open").touch()
    await bench.result(stuck[-1])


CLASS = """
import os, time

class Loader:
    def __init__(self):
        self.made = 1
    def setup(self, ctx):
        ctx.log(f"setup of revision {ctx.revision}")
        self.weights = [1, 2, 3]

@fs.plugin("model")
class Model(Loader):
    def new_stream(self):
        return [100]
    def process(self, frame, *, state, scale: int = 1):
        state[0] += 1
        return {"value": sum(self.weights) * scale, "state": state[0], "made": self.made}
    def teardown(self):
        time.sleep(0.1)  # it is given the time
        with open(os.environ["TEARDOWN"], "a") as file:
            file.write("down ")
"""


async def test_a_class_is_set_up_once_and_torn_down_at_the_end(
    open_bench: Open, engine_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEARDOWN", str(tmp_path / "down"))
    bench = open_bench(engine_name, workers=1)
    bench.cell(CLASS)
    for number in range(1, 4):
        assert await bench.run("model", {"scale": 2}) == {"value": 12, "state": 100 + number, "made": 1}
    await bench.until(lambda: "model setup of revision 1" in bench.logs, "the log line")
    await bench.engine.close()
    assert (tmp_path / "down").read_text() == "down "
    assert bench.logs.count("model setup of revision 1") == 1


RAISES = """
import asyncio
class Odd(Exception):
    def __str__(self): raise RuntimeError("no text")
class Mine(fs.PluginError):
    code = "MY_OWN"
    def __init__(self, a, b): super().__init__(f"{a} and {b}")
class Base(BaseException): pass

@fs.plugin
def raises(frame, *, what: str):
    if what == "surrogate": raise ValueError("file \\udcff.png")
    if what == "huge": raise ValueError("x" * 20_000_000)
    if what == "odd": raise Odd()
    if what == "mine": raise Mine(1, 2)
    if what == "plugin error": raise fs.PluginError("no face found")
    if what == "options": raise fs.InvalidOptions("threshold: odd numbers only")
    if what == "image": raise fs.InvalidImage("too dark")
    if what == "timeout": raise fs.ProcessingTimeout("the camera took too long")
    if what == "exit": raise SystemExit(3)
    if what == "interrupt": raise KeyboardInterrupt
    if what == "cancelled": raise asyncio.CancelledError
    if what == "base": raise Base("below all")
    if what == "group": raise ExceptionGroup("several", [ValueError(1), KeyError("a")])
    if what == "stop": raise StopIteration(7)
    if what == "memory": raise MemoryError
    if what == "recursion":
        def again(): again()
        again()
    return {}
"""


ANSWERS: list[tuple[str, Any, str]] = [
    ("surrogate", PluginError, "ValueError: file \\udcff.png (line "),
    ("huge", PluginError, "ValueError: xxx"),
    ("odd", PluginError, "Odd: its text cannot be shown"),
    ("mine", PluginError, "1 and 2"),
    ("plugin error", PluginError, "no face found"),
    ("options", InvalidOptions, "threshold: odd numbers only"),
    ("image", InvalidImage, "too dark"),
    ("timeout", ProcessingTimeout, "the camera took too long"),
    ("exit", PluginError, "called sys.exit(3)"),
    ("interrupt", PluginError, "KeyboardInterrupt (line "),
    ("cancelled", PluginError, "CancelledError (line "),
    ("base", PluginError, "Base: below all (line "),
    ("group", PluginError, "ExceptionGroup: several"),
    ("stop", PluginError, "StopIteration: 7"),
    ("memory", PluginError, "MemoryError (line "),
    ("recursion", PluginError, "RecursionError: maximum recursion depth exceeded"),
]


async def test_whatever_is_raised_is_answered_and_costs_that_frame_alone(bench: Bench) -> None:
    bench.cell(RAISES)
    for what, kind, text in ANSWERS * 2:
        error = await bench.error(bench.submit("raises", {"what": what}))
        assert type(error) is kind, what
        assert str(error).startswith(text)
        assert len(str(error)) < 2200
        assert len(error.detail) <= 64 * 1024
        str(error).encode()
        error.detail.encode()
    assert await bench.run("raises", {"what": "nothing"}) == {}
    assert bench.engine.stats()["replaced"] == 0


WRONG_RESULTS = ["None", "[1]", "{'a': float('nan')}", "{'a': {1}}", "{'a': 'x' * 50_000_000}"]


async def test_results_that_cannot_be_said(bench: Bench) -> None:
    bench.cell("@fs.plugin\ndef wrong(frame, *, result: str): return eval(result)")
    for result in WRONG_RESULTS:
        error = await bench.error(bench.submit("wrong", {"result": result}))
        assert str(error).startswith(("returned ", "result['a'] is "))
        assert str(error).endswith(" (line 2 in wrong)")
        assert "def wrong(frame, *, result: str)" in error.detail
        assert "forgesyte_nb/" not in error.detail
    assert await bench.run("wrong", {"result": "{}"}) == {}


async def test_a_large_result(bench: Bench) -> None:
    bench.cell("@fs.plugin\ndef large(frame): return {'a': 'x' * 15_000_000}")
    results = await asyncio.gather(*(bench.run("large") for _ in range(3)))
    assert [len(result["a"]) for result in results] == [15_000_000] * 3


FAILS_HOLDING = """
import gc, weakref
class Large: pass
alive = weakref.WeakSet()

@fs.plugin
def fails(frame, *, then: str = ""):
    if then:
        gc.enable() if then == "collect" else gc.disable()
        return {"alive": len(alive)}
    kept = Large()
    alive.add(kept)
    try:
        raise OSError("first")
    except OSError as error:
        reason = error  # a circle: it knows this frame
        raise ValueError("second") from error
"""


async def test_what_a_frame_held_that_failed_is_freed_at_once(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    bench.cell(FAILS_HOLDING)
    await bench.run("fails", {"then": "do not collect"})
    try:
        for _ in range(3):
            assert "ValueError: second" in str(await bench.error(bench.submit("fails")))
        assert await bench.run("fails", {"then": "do not collect"}) == {"alive": 0}
    finally:
        await bench.run("fails", {"then": "collect"})


async def test_a_plugin_that_fails_to_set_up_answers_its_frames_so(bench: Bench) -> None:
    bench.cell(
        "@fs.plugin\nclass heavy:\n    def setup(self, ctx): raise OSError('no weights')\n"
        "    def process(self, frame): return {}\n@fs.plugin\ndef light(frame): return {}"
    )
    for _ in range(2):
        error = await bench.error(bench.submit("heavy"))
        assert "OSError: no weights" in str(error)
        assert "raise OSError('no weights')" in error.detail
    assert await bench.run("light") == {}


async def test_closing_answers_everything(bench: Bench) -> None:
    bench.cell("import time\n@fs.plugin\ndef slow(frame):\n    time.sleep(0.2)\n    return {}")
    jobs = [bench.submit("slow", owner=owner) for owner in range(3) for _ in range(4)]
    await bench.until(lambda: any(kind == "started" for kind, *_ in bench.heard), "a start")
    await bench.engine.close()
    outcomes = [await bench.outcome(job) for job in jobs]
    closed = [outcome for outcome in outcomes if outcome.error is not None]
    assert closed
    assert all("the server was closed before this frame was done" in str(outcome.error) for outcome in closed)
    assert bench.engine.stats()["waiting"] == 0


async def test_an_engine_that_did_nothing_closes(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name)
    await bench.engine.close()


async def test_the_plugins_environment_is_the_kernels(bench: Bench) -> None:
    bench.cell("import os\n@fs.plugin\ndef where(frame): return {'cwd': os.getcwd(), 'home': os.environ.get('HOME')}")
    assert await bench.run("where") == {"cwd": os.getcwd(), "home": os.environ.get("HOME")}


async def test_short_frames_of_a_client_without_streams_wait_for_one_of_its_slow_frames_at_most(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("nothing else runs while a plugin runs inline")
    bench = open_bench(engine_name, workers=1)
    bench.cell(
        "import os, time\n@fs.plugin\ndef short(frame): return {}\n@fs.plugin\ndef slow(frame, *, path: str):\n"
        "    while not os.path.exists(path): time.sleep(0.005)\n    time.sleep(0.5)\n    return {}"
    )
    slow = [bench.submit("slow", {"path": str(tmp_path / str(number))}) for number in range(5)]
    await bench.until(bench.hears("started", slow[0].frame_id), "the start")
    short = [bench.submit("short") for _ in range(10)]
    for number in range(2):  # the one that runs, and one more
        (tmp_path / str(number)).touch()
    for job in short:
        await bench.result(job)
    assert [bool(bench.hears("ended", job.frame_id)()) for job in slow[2:]] == [False] * 3
    for number in range(2, 5):
        (tmp_path / str(number)).touch()
    for job in slow:
        await bench.result(job)
