"""What every engine promises when code changes under it, and when frames are taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.errors import PluginDefinitionError, PluginError, ProcessingTimeout
from forgesyte_nb.jobs import Job
from tests.conftest import PATIENCE_S
from tests.engines.conftest import Bench, Open

GATES = """
import os, time

def wait_for(path):
    while path and not os.path.exists(path):
        time.sleep(0.005)

@fs.plugin
def gate(frame, *, ctx, path: str = ""):
    wait_for(path)
    return {"cancelled": ctx.cancelled}

@fs.plugin
def gate_of_a_stream(frame, *, state, path: str = ""):
    wait_for(path)
    state["seen"] = [*state.get("seen", []), frame.seq]
    return state
"""


async def open_gate_plugin(bench: Bench) -> None:
    """Plugins that wait for a file if they are told to, and are known to be short: they are handed over ahead."""
    bench.cell(GATES)
    for _ in range(3):
        await bench.run("gate")
        await bench.run("gate_of_a_stream", stream="x")


async def test_frames_in_flight_finish_on_the_old_revision(bench: Bench) -> None:
    cell = (
        "import time\n@fs.plugin\ndef swap(frame, *, ctx, wait: float = 0.0):\n    time.sleep(wait)\n"
        "    return {'value': %d, 'revision': ctx.revision}"
    )
    bench.cell(cell % 1)
    old = [bench.submit("swap", {"wait": 0.1}) for _ in range(3)]
    bench.cell(cell % 2)
    new = [bench.submit("swap") for _ in range(3)]
    assert [await bench.result(job) for job in old] == [{"value": 1, "revision": 1}] * 3
    assert [await bench.result(job) for job in new] == [{"value": 2, "revision": 2}] * 3


async def test_frames_that_waited_while_several_revisions_passed(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    cell = (
        "import time\n@fs.plugin\ndef swap(frame, *, wait: float = 0.0):\n    time.sleep(wait)\n"
        "    return {'value': %d}"
    )
    bench.cell(cell % 1)
    patient = [bench.submit("swap", {"wait": 0.05}, owner="patient") for _ in range(16)]
    for value in (2, 3, 4):
        bench.cell(cell % value)
        assert await bench.run("swap", owner="quick") == {"value": value}
    assert not patient[-1].ended
    assert [await bench.result(job) for job in patient] == [{"value": 1}] * 16


LOOPS = "@fs.plugin(timeout_s={limit_s})\ndef loops(frame):\n    while True: pass"


async def hold_the_lane(bench: Bench, limit_s: float) -> Job:
    """A frame that runs for its whole limit; `well` is defined after it has begun."""
    bench.cell("@fs.plugin\ndef first(frame): return {}")
    await bench.run("first")
    bench.cell(LOOPS.format(limit_s=limit_s))
    holding = bench.submit("loops")
    await bench.until(lambda: holding.started_at > 0, "the loop to begin")
    bench.cell("@fs.plugin\nclass well:\n    def process(self, frame): return {}")
    return holding


async def test_a_plugin_is_tried_at_once_while_frames_hold_all_lanes(open_bench: Open) -> None:
    bench = open_bench("processes", workers=1)
    holding = await hold_the_lane(bench, 1000)
    await bench.engine.trial(bench.registry.entry("well"))
    assert not holding.ended
    bench.cell("@fs.plugin\nclass broken:\n    def setup(self, ctx): 1 / 0\n    def process(self, frame): return {}")
    with pytest.raises(PluginDefinitionError, match="ZeroDivisionError"):
        await bench.engine.trial(bench.registry.entry("broken"))


@pytest.mark.parametrize("engine_name", ["threads", "processes"])
async def test_a_plugin_that_waits_behind_a_loop_is_not_blamed_for_it(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    holding = await hold_the_lane(bench, 1)
    await bench.engine.trial(bench.registry.entry("well"))
    assert type(await bench.error(holding)) is ProcessingTimeout
    assert await bench.run("well") == {}
    assert not [line for line in bench.logs if line.startswith("well")]


async def test_a_trial_raises_what_setting_up_raises_and_leaves_the_engine_well(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    bench.cell("@fs.plugin\ndef shade(frame): return {'shade': int(frame.gray[0, 0])}")
    cells = {
        "raises": (
            "@fs.plugin\nclass shade:\n    def setup(self, ctx): raise OSError('no weights')\n"
            "    def process(self, frame): return {}"
        ),
        "exits": (
            "import sys\n@fs.plugin\nclass shade:\n    def __init__(self): sys.exit(3)\n"
            "    def process(self, frame): return {}"
        ),
    }

    def trial(entry: Any) -> None:  # as the server does it, from the cell's thread
        asyncio.run_coroutine_threadsafe(bench.engine.trial(entry), loop).result(PATIENCE_S)

    bench.registry.add_trial(trial)
    for name, text in (("raises", "OSError: no weights"), ("exits", "SystemExit: 3")):
        with pytest.raises(PluginDefinitionError, match=f"shade .*{text}") as caught:
            await asyncio.to_thread(bench.cell, cells[name])
        assert 'File "<cell ' in str(caught.value)
        assert (await bench.run("shade"))["shade"] == 128
    await asyncio.to_thread(bench.cell, "@fs.plugin\ndef shade(frame): return {'new': 1}")
    assert await bench.run("shade") == {"new": 1}


async def test_cancelling_what_waits_and_what_runs(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    bench.cell(
        "import time\n@fs.plugin\ndef patient(frame, *, ctx, turns: int = 0):\n"
        "    for _ in range(turns):\n        if ctx.cancelled: return {'cancelled': True}\n"
        "        time.sleep(0.01)\n"
        "    return {'cancelled': ctx.cancelled}"
    )
    await bench.run("patient")
    running = bench.submit("patient", {"turns": 50 if engine_name == "inline" else 3000})
    second, handed, third, last = (bench.submit("patient", {"turns": 1}) for _ in range(4))
    assert bench.engine.cancel(third) is True
    assert bench.engine.cancel(third) is False
    if engine_name != "inline":  # inline, nothing can be cancelled while a plugin runs
        await bench.until(bench.hears("started", running.frame_id), "the start")
        assert bench.engine.cancel(running) is False
        assert await bench.result(running) == {"cancelled": True}
    assert await bench.result(second) == {"cancelled": False}
    assert await bench.result(handed) == {"cancelled": False}
    assert await bench.result(last) == {"cancelled": False}
    assert not third.ended, "who cancels it answers it"
    bench.ended(third, type(await bench.outcome(second))(error=PluginError("cancelled")))
    assert await bench.run("patient") == {"cancelled": False}


async def test_a_frame_handed_over_ahead_can_be_cancelled_and_its_neighbours_are_not(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("nothing is handed over ahead inline")
    bench = open_bench(engine_name, workers=1)
    await open_gate_plugin(bench)
    first = bench.submit("gate", {"path": str(tmp_path / "open")})
    ahead, after = bench.submit("gate"), bench.submit("gate")
    await bench.until(bench.hears("started", first.frame_id), "the start")
    assert bench.engine.cancel(ahead) is True, "it has not started"
    (tmp_path / "open").touch()
    assert [(await bench.result(job))["cancelled"] for job in (first, after)] == [False, False]
    bench.ended(ahead, type(await bench.outcome(first))(error=PluginError("cancelled")))
    assert ("started", ahead.frame_id) not in bench.heard


async def test_what_waits_behind_a_frame_that_takes_long_goes_to_another_lane(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("there is one lane inline")
    bench = open_bench(engine_name)
    await open_gate_plugin(bench)
    hangs = bench.submit("gate", {"path": str(tmp_path / "open")})
    others = [bench.submit("gate") for _ in range(12)]
    for job in others:
        await bench.result(job)
    assert not hangs.ended
    starts = [frame_id for kind, frame_id, *_ in bench.heard if kind == "started"][6:]
    assert starts == [job.frame_id for job in (hangs, *others)], "in the order sent"
    (tmp_path / "open").touch()
    assert await bench.result(hangs) == {"cancelled": False}


async def test_a_stream_waits_for_its_frame_that_takes_long(open_bench: Open, engine_name: str, tmp_path: Path) -> None:
    if engine_name == "inline":
        pytest.skip("nothing is handed over ahead inline")
    bench = open_bench(engine_name)
    await open_gate_plugin(bench)
    hangs = bench.submit("gate_of_a_stream", {"path": str(tmp_path / "open")}, stream="x")
    behind = [bench.submit("gate_of_a_stream", stream="x") for _ in range(9)]
    await bench.run("gate", owner="another")
    await bench.until(lambda: bench.engine.stats()["waiting"] == len(behind), "those behind it to be taken back")
    (tmp_path / "open").touch()
    await bench.result(hangs)
    assert await bench.result(behind[-1]) == {"seen": list(range(13))}


async def test_a_result_that_json_cannot_say_brings_no_traceback_of_this_package(bench: Bench) -> None:
    bench.cell("@fs.plugin\ndef big(frame): return {'v': [0, 2**70]}")
    error = await bench.error(bench.submit("big"))
    assert "result['v'][1] is 1180591620717411303424: whole numbers have 64 bits" in str(error)
    assert error.detail.count("  File ") == 1
    assert "in big" in error.detail
