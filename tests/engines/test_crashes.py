"""Worker processes that die, in every way: it costs the frame that had started, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import psutil
import pytest

from forgesyte_nb.errors import PluginError
from tests.conftest import PATIENCE_S
from tests.engines.conftest import Bench, Open

CRASHES = """
import ctypes, os, resource, signal, sys

@fs.plugin
def crashes(frame, *, how: str = ""):
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
        try:
            return {"size": len(bytearray(8 << 30))}
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {"pid": os.getpid()}

@fs.plugin
def counts(frame, *, state):
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"], "seq": frame.seq, "pid": os.getpid()}

@fs.plugin
def gate(frame, *, path: str = ""):
    import time
    while path and not os.path.exists(path):
        time.sleep(0.005)
    return {"pid": os.getpid()}
"""


@pytest.fixture
async def crashing(open_bench: Open) -> Bench:
    bench = open_bench("processes")
    bench.cell(CRASHES)
    return bench


HOW = {
    "segfault": "its worker process died of SIGSEGV (a crash in native code); a new one has taken its place",
    "exit": "its worker process ended itself with exit code 7; a new one has taken its place",
    "abort": "its worker process died of SIGABRT (native code gave up); a new one has taken its place",
    "kill": "its worker process died of SIGKILL (killed from outside, often for want of memory); a new one",
}


@pytest.mark.parametrize("how", HOW)
async def test_a_crash_costs_that_frame_alone_and_says_what_happened(crashing: Bench, how: str) -> None:
    jobs = [crashing.submit("crashes", {"how": how if number % 10 == 5 else ""}) for number in range(30)]
    outcomes = [await crashing.outcome(job) for job in jobs]
    failed = [number for number, outcome in enumerate(outcomes) if outcome.error is not None]
    assert failed == [5, 15, 25]
    for number in failed:
        error = outcomes[number].error
        assert type(error) is PluginError
        assert str(error).startswith(f"crashes: {HOW[how]}")
    started = [frame_id for kind, frame_id, *_ in crashing.heard if kind == "started"]
    assert sorted(started) == sorted(job.frame_id for job in jobs), "each once"
    assert crashing.engine.stats()["replaced"] == 3


async def test_a_plugin_that_wants_too_much_memory_fails_alone(crashing: Bench) -> None:
    pid = (await crashing.run("crashes"))["pid"]
    jobs = [crashing.submit("crashes", {"how": how}) for how in ("memory", "", "memory", "")]
    outcomes = [await crashing.outcome(job) for job in jobs]
    assert [str(outcome.error)[:11] for outcome in outcomes] == ["MemoryError", "None", "MemoryError", "None"]
    assert psutil.pid_exists(pid), "the worker survives it"


async def test_frames_that_wait_behind_crash_after_crash_are_innocent(open_bench: Open) -> None:
    """One client's frames crash every worker they touch; another's, handed over behind them, all succeed."""
    bench = open_bench("processes", workers=1)
    bench.cell(CRASHES)
    for _ in range(3):
        await bench.run("crashes")  # known to be short: one is handed over ahead
    bad = [bench.submit("crashes", {"how": "exit"}, owner="bad") for _ in range(8)]
    good = [bench.submit("crashes", owner="good") for _ in range(8)]
    for job in bad:
        assert "exit code 7" in str(await bench.error(job))
    for job in good:
        assert "pid" in await bench.result(job)


async def test_a_worker_killed_while_idle_is_replaced_before_it_is_missed(crashing: Bench) -> None:
    for round_ in range(3):
        pids = {(await crashing.run("crashes"))["pid"] for _ in range(4)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        results = [await crashing.run("crashes") for _ in range(6)]
        assert not {result["pid"] for result in results} & pids, round_


async def test_all_workers_and_the_spare_killed_at_once(crashing: Bench) -> None:
    await crashing.run("crashes")
    workers = {worker.process.pid for worker in crashing.engine._workers}  # type: ignore[attr-defined]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    jobs = [crashing.submit("crashes") for _ in range(10)]
    for job in jobs:
        assert (await crashing.result(job))["pid"] not in workers


async def test_a_worker_killed_while_busy_costs_the_frame_it_was_busy_with(open_bench: Open, tmp_path: Any) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(CRASHES)
    for _ in range(3):
        pid = (await bench.run("gate"))["pid"]
    busy, ahead, waiting = (
        bench.submit("gate", {"path": str(tmp_path / "x")}),
        bench.submit("gate"),
        bench.submit("gate"),
    )
    await bench.until(bench.hears("started", busy.frame_id), "the start")
    os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in str(await bench.error(busy))
    assert (await bench.result(ahead))["pid"] == (await bench.result(waiting))["pid"] != pid
    assert any(f"worker {pid} its worker process died of SIGKILL" in line for line in bench.logs)


async def test_a_stream_whose_worker_died_goes_on_in_order_from_an_empty_state(crashing: Bench) -> None:
    before = [await crashing.run("counts", owner="a") for _ in range(3)]
    os.kill(before[0]["pid"], signal.SIGKILL)
    jobs = [crashing.submit("counts", owner="a") for _ in range(20)]
    after = [await crashing.result(job) for job in jobs]
    assert [one["seq"] for one in after] == list(range(3, 23))
    assert [one["n"] for one in after] == list(range(1, 21))
    assert len({one["pid"] for one in after}) == 1


@pytest.mark.parametrize("place", ["module", "setup"])
async def test_a_plugin_whose_loading_kills_the_worker_is_answered_and_others_work(crashing: Bench, place: str) -> None:
    died = "os._exit(9)"
    crashing.cell(
        "import os\nclass Dies:\n    def __reduce__(self):\n"
        "        return (eval, ('__import__(\"os\")._exit(9)',))\n"
        + ("dies = Dies()\n" if place == "module" else "dies = None\n")
        + "@fs.plugin\nclass fatal:\n    def setup(self, ctx):\n        "
        + ("pass" if place == "module" else died)
        + "\n    def process(self, frame): return {'d': str(dies)}"
    )
    jobs = [crashing.submit("fatal"), crashing.submit("crashes"), crashing.submit("fatal", owner="other")]
    assert "exit code 9" in str(await crashing.error(jobs[0]))
    assert "pid" in await crashing.result(jobs[1])
    assert "exit code 9" in str(await crashing.error(jobs[2]))


async def test_a_trial_that_kills_the_worker_is_an_error_in_the_cell(crashing: Bench) -> None:
    await crashing.run("crashes")
    crashing.cell(
        "import os\n@fs.plugin\nclass fatal:\n    def setup(self, ctx): os._exit(9)\n"
        "    def process(self, frame): return {}"
    )
    for _ in range(2):
        with pytest.raises(Exception, match="exit code 9"):
            async with asyncio.timeout(PATIENCE_S):
                await crashing.engine.trial(crashing.registry.entry("fatal"))
    assert "pid" in await crashing.run("crashes")


async def test_closing_in_the_middle_of_a_crash(crashing: Bench) -> None:
    jobs = [crashing.submit("crashes", {"how": "exit"}) for _ in range(20)]
    await crashing.outcome(jobs[0])
    await crashing.engine.close()
    for job in jobs:
        assert await crashing.error(job)


async def test_a_worker_ends_with_its_server_even_in_the_middle_of_a_plugin(crashing: Bench, tmp_path: Any) -> None:
    pids = [worker.process.pid for worker in crashing.engine._workers]  # type: ignore[attr-defined]
    job = crashing.submit("gate", {"path": str(tmp_path / "never")})
    await crashing.until(crashing.hears("started", job.frame_id), "the start")
    await crashing.engine.close()
    assert "closed" in str(await crashing.error(job))
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


async def test_a_child_of_a_plugin_that_outlives_its_worker_holds_nothing_up(open_bench: Open) -> None:
    before = len(os.listdir("/proc/self/fd"))
    crashing = open_bench("processes")
    crashing.cell(
        "import os, subprocess\n@fs.plugin\ndef forks(frame):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n    return {'pid': child.pid}"
    )
    pid = (await crashing.run("forks"))["pid"]
    await crashing.engine.close()
    assert psutil.pid_exists(pid)
    assert len(os.listdir("/proc/self/fd")) == before, "the pipe that the child still holds is closed on our side"
    os.kill(pid, signal.SIGKILL)
