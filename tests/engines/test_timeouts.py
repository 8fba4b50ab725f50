"""A plugin that runs too long is answered PROCESSING_TIMEOUT, its work really ends, and the lane works on."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from forgesyte_nb.errors import ProcessingTimeout
from tests.conftest import wait_for
from tests.engines.conftest import Bench, Open

LOOPS = """
import time

@fs.plugin(timeout_s=0.3)
def loops(frame, *, path: str):
    while True:
        try:
            with open(path, "a") as file:
                file.write("x")
        except Exception:
            pass

@fs.plugin
def well(frame):
    return {"well": True}
"""


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def stands_still(path: Path) -> bool:
    """Whether a file no longer grows, looked at over a time in which the loop writes thousands of times."""
    before = size(path)
    time.sleep(0.1)
    return size(path) == before


async def test_a_loop_that_never_ends_is_answered_and_really_stopped(bench: Bench, tmp_path: Path) -> None:
    bench.cell(LOOPS)
    path = tmp_path / "written"
    error = await bench.error(bench.submit("loops", {"path": str(path)}))
    assert type(error) is ProcessingTimeout
    assert str(error).startswith("loops ran longer than its limit of 0.3 s and was stopped; ")
    assert "timeout_s=" in str(error)
    assert size(path) > 0
    await asyncio.to_thread(wait_for, lambda: stands_still(path), "the work to stop")
    assert await bench.run("well") == {"well": True}


async def test_the_servers_limit_holds_for_a_plugin_without_its_own(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, plugin_timeout_s=0.2)
    bench.cell("@fs.plugin\ndef loops(frame):\n    while True: pass\n")
    assert "limit of 0.2 s" in str(await bench.error(bench.submit("loops")))


async def test_frames_behind_a_stuck_one_are_not_lost(open_bench: Open, engine_name: str, tmp_path: Path) -> None:
    bench = open_bench(engine_name, workers=1)
    bench.cell(LOOPS)
    await bench.run("well")
    jobs = [
        bench.submit(*args)
        for number in range(3)
        for args in (("loops", {"path": str(tmp_path / str(number))}), ("well",), ("well",))
    ]
    outcomes = [await bench.outcome(job) for job in jobs]
    assert [type(outcome.error) for outcome in outcomes] == [ProcessingTimeout, type(None), type(None)] * 3


async def test_the_time_of_one_frame_does_not_count_for_the_next(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1)
    bench.cell("import time\n@fs.plugin(timeout_s=1.5)\ndef naps(frame):\n    time.sleep(0.04)\n    return {}")
    jobs = [bench.submit("naps") for _ in range(50)]
    for job in jobs:
        assert await bench.result(job) == {}


async def test_a_state_survives_a_neighbours_timeout_only_where_the_lane_does(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    """A killed worker takes its states along; the stream goes on in order, from an empty state."""
    bench = open_bench(engine_name, workers=1)
    bench.cell(
        LOOPS + "@fs.plugin\ndef counts(frame, *, state):\n    state['n'] = state.get('n', 0) + 1\n"
        "    return {'n': state['n'], 'seq': frame.seq}\n"
    )
    before = [await bench.run("counts") for _ in range(2)]
    await bench.error(bench.submit("loops", {"path": str(tmp_path / "x")}))
    after = [await bench.run("counts") for _ in range(2)]
    assert [one["seq"] for one in before + after] == [0, 1, 2, 3]
    assert [one["n"] for one in after] == ([3, 4] if engine_name == "inline" else [1, 2])


@pytest.mark.parametrize("engine_name", ["threads", "processes"])
async def test_setting_up_has_a_limit_of_its_own(open_bench: Open, engine_name: str) -> None:
    bench = open_bench(engine_name, workers=1, setup_timeout_s=3.0)
    bench.cell(
        "import time\n@fs.plugin\nclass slow:\n    def setup(self, ctx):\n        while True: time.sleep(0.01)\n"
        "    def process(self, frame): return {}\n@fs.plugin\ndef well(frame): return {}"
    )
    error = await bench.error(bench.submit("slow"))
    assert type(error) is ProcessingTimeout
    assert "could not be set up within 3 s" in str(error)
    assert await bench.run("well") == {}


async def test_a_trial_that_hangs_is_ended_when_nobody_waits_for_it_any_more(open_bench: Open) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell("@fs.plugin\ndef well(frame): return {}")
    await bench.run("well")
    bench.cell(
        "import time\n@fs.plugin\nclass slow:\n    def setup(self, ctx): time.sleep(1000)\n"
        "    def process(self, frame): return {}"
    )
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await bench.engine.trial(bench.registry.entry("slow"))
    await bench.until(
        lambda: any("was stopped: a plugin could not be set up in time" in line for line in bench.logs), "the log"
    )
    bench.cell("import os, ctypes\n@fs.plugin\ndef crashes(frame): os.kill(os.getpid(), 9)")
    await bench.error(bench.submit("crashes"))
    assert await bench.run("well") == {}, "the spare that took the lane over must not be the one that hung"


async def test_a_thread_that_cannot_be_stopped_is_put_in_quarantine(open_bench: Open) -> None:
    bench = open_bench("threads", workers=1)
    release = threading.Event()
    bench.cell(
        "@fs.plugin(timeout_s=0.2, engine='threads')\ndef stuck(frame):\n    release.wait(60)\n"
        "    return {'late': True}\n"
        "@fs.plugin\ndef well(frame): return {}",
        release=release,
    )
    job = bench.submit("stuck")
    try:
        assert type(await bench.error(job)) is ProcessingTimeout
        assert await bench.run("well") == {}
        await bench.until(lambda: any("it is in quarantine" in line for line in bench.logs), "the log line")
    finally:
        release.set()
    assert await bench.run("well") == {}
    assert bench.heard.count(("ended", job.frame_id)) == 1


async def test_a_plugin_that_catches_what_stops_it_is_stopped_again(bench: Bench, tmp_path: Path) -> None:
    bench.cell(
        "caught = []\n@fs.plugin(timeout_s=0.2)\ndef deaf(frame, *, path: str):\n"
        "    while True:\n        try:\n            with open(path, 'a') as file: file.write('x')\n"
        "        except BaseException:\n            caught.append(1)\n            if len(caught) > 2: raise\n"
        "@fs.plugin\ndef well(frame): return {}"
    )
    path = tmp_path / "written"
    assert type(await bench.error(bench.submit("deaf", {"path": str(path)}))) is ProcessingTimeout
    await asyncio.to_thread(wait_for, lambda: stands_still(path), "the work to stop")
    assert await bench.run("well") == {}
