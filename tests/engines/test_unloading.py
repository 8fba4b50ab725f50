"""How often a plugin is set up, and when its instances are freed: old revisions, `unload`, trials that fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forgesyte_nb.errors import PluginDefinitionError, PluginNotFound
from forgesyte_nb.plugins.registry import Entry
from tests.conftest import PATIENCE_S
from tests.engines.conftest import Bench, Open

MODEL = """
import os, threading, time

@fs.plugin
class model:
    def setup(self, ctx):
        self.itself = self  # a reference cycle, as models often have
        ctx.log(f"setup of {VERSION} in {os.getpid()} {threading.get_ident()}")
        if VERSION < 0:
            raise OSError("no weights")
        self.is_model = VERSION
    def process(self, frame, *, path: str = ""):
        while path and not os.path.exists(path):
            time.sleep(0.005)
        return {"version": self.is_model}
    def teardown(self):
        with open(TORN_DOWN, "a") as file:
            file.write(f"{VERSION} ")
"""

ALIVE = """
import gc

@fs.plugin
def alive(frame):
    found = [one for one in gc.get_objects() if type(one).__name__ == "model"]
    ours = [one for one in found if type(one).teardown.__globals__["TORN_DOWN"] == TORN_DOWN]
    return {"versions": sorted(vars(one).get("is_model", 0) for one in ours)}
"""


@pytest.fixture
def torn_down(tmp_path: Path) -> Path:
    return tmp_path / "torn down"


class Cells:
    """Runs the plugin's cell as a notebook with a running server does: each revision is tried."""

    def __init__(self, bench: Bench, torn_down: Path) -> None:
        self.bench, self.torn_down = bench, torn_down
        loop = asyncio.get_running_loop()

        def trial(entry: Entry) -> None:
            asyncio.run_coroutine_threadsafe(bench.engine.trial(entry), loop).result(PATIENCE_S)

        bench.cell(ALIVE, TORN_DOWN=str(torn_down))
        bench.registry.add_trial(trial)

    async def run(self, version: int) -> None:
        source = MODEL.replace("VERSION", str(version))  # other text: a new revision
        await asyncio.to_thread(self.bench.cell, source, TORN_DOWN=str(self.torn_down))

    async def alive(self) -> list[int]:
        """Versions of instances in the only lane."""
        return list((await self.bench.run("alive"))["versions"])

    def setups(self, version: int) -> list[str]:
        """Where a version was set up."""
        return [line.rpartition(" in ")[2] for line in self.bench.logs if f"setup of {version} in" in line]

    def torn(self) -> list[str]:
        return self.torn_down.read_text().split() if self.torn_down.exists() else []


async def test_old_revisions_are_freed_though_no_frame_comes(
    open_bench: Open, engine_name: str, torn_down: Path
) -> None:
    bench = open_bench(engine_name, workers=1)
    cells = Cells(bench, torn_down)
    for version in range(1, 6):
        await cells.run(version)
    assert await cells.alive() == [5]
    assert cells.torn() == ["1", "2", "3", "4"]
    assert await bench.run("model") == {"version": 5}


async def test_an_old_revision_is_freed_with_its_last_frame(
    open_bench: Open, engine_name: str, torn_down: Path, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("nothing changes while a plugin runs inline")
    bench = open_bench(engine_name, workers=1)
    bench.cell(MODEL.replace("VERSION", "1"), TORN_DOWN=str(torn_down))
    running, *waiting = [bench.submit("model", {"path": str(tmp_path / "open")}) for _ in range(4)]
    await bench.until(bench.hears("started", running.frame_id), "the start")
    bench.cell(MODEL.replace("VERSION", "2"), TORN_DOWN=str(torn_down))
    new = bench.submit("model", owner="other")
    (tmp_path / "open").touch()
    assert [await bench.result(job) for job in (running, *waiting)] == [{"version": 1}] * 4
    assert await bench.result(new) == {"version": 2}
    bench.cell(ALIVE, TORN_DOWN=str(torn_down))
    assert await bench.run("alive") == {"versions": [2]}
    assert torn_down.read_text() == "1 "


async def test_a_plugin_is_set_up_once_in_each_lane(open_bench: Open, engine_name: str, torn_down: Path) -> None:
    bench = open_bench(engine_name, workers=2)
    cells = Cells(bench, torn_down)
    await cells.run(1)
    jobs = [bench.submit("model", owner=number % 3) for number in range(20)]
    await asyncio.gather(*(bench.outcome(job) for job in jobs))
    lanes = 1 if engine_name == "inline" else 2
    await bench.until(lambda: len(cells.setups(1)) >= lanes, "the setup in each lane")
    assert len(cells.setups(1)) == len(set(cells.setups(1))) == lanes
    assert cells.torn() == []


async def test_while_a_plugin_is_loaded_frames_of_others_use_the_other_lanes(
    open_bench: Open, engine_name: str, tmp_path: Path
) -> None:
    if engine_name == "inline":
        pytest.skip("there is one lane inline")
    bench = open_bench(engine_name, workers=2)
    bench.cell(
        "import os, time\n@fs.plugin\ndef other(frame): return {}\n@fs.plugin\nclass heavy:\n"
        "    def setup(self, ctx):\n        ctx.log('begins')\n"
        "        while not os.path.exists(PATH): time.sleep(0.005)\n"
        "    def process(self, frame): return {}",
        PATH=str(tmp_path / "open"),
    )
    await bench.run("other")
    trial = asyncio.create_task(bench.engine.trial(bench.registry.entry("heavy")))
    await bench.until(lambda: any("begins" in line for line in bench.logs), "the setup")
    for _ in range(20):
        await bench.run("other")
    (tmp_path / "open").touch()
    await trial
    assert await bench.run("heavy") == {}


async def test_a_trial_that_fails_leaves_the_old_revision_in_its_lane(
    open_bench: Open, engine_name: str, torn_down: Path
) -> None:
    bench = open_bench(engine_name, workers=1)
    cells = Cells(bench, torn_down)
    await cells.run(1)
    for _ in range(2):
        with pytest.raises(PluginDefinitionError, match="no weights"):
            await cells.run(-1)
    assert await bench.run("model") == {"version": 1}
    assert len(cells.setups(1)) == 1
    await cells.run(2)
    assert await cells.alive() == [2]


async def test_a_plugin_that_is_unloaded_is_freed_and_loaded_again_with_its_next_frame(
    open_bench: Open, engine_name: str, torn_down: Path
) -> None:
    bench = open_bench(engine_name, workers=1)
    cells = Cells(bench, torn_down)
    await cells.run(1)
    assert await cells.alive() == [1]
    for round_ in range(1, 3):
        await bench.engine.unload("model")
        assert await cells.alive() == []
        assert cells.torn() == ["1"] * round_
        assert await bench.run("model") == {"version": 1}
    await bench.engine.unload("model")
    await bench.engine.unload("model")
    await bench.engine.unload("alive")


async def test_unloading_ends_though_the_lane_dies(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(
        "import os, time\n@fs.plugin\ndef dies(frame, *, path: str = ''):\n"
        "    while path and not os.path.exists(path): time.sleep(0.005)\n"
        "    if path: os._exit(3)\n    return {}"
    )
    await bench.run("dies")
    job = bench.submit("dies", {"path": str(tmp_path / "go")})
    unloading = asyncio.create_task(bench.engine.unload("dies"))
    await bench.until(bench.hears("started", job.frame_id), "the start")
    (tmp_path / "go").touch()
    await unloading
    assert await bench.run("dies") == {}


def test_the_registry_unloads_from_all_that_run_plugins() -> None:
    from forgesyte_nb.plugins.registry import Registry
    from tests.conftest import run_cell

    registry, unloaded = Registry(), []
    run_cell("@fs.plugin\ndef p(frame): return {}", registry)
    registry.add_unload(unloaded.append)
    registry.unload("p")
    assert registry.entry("p").plugin.name == "p"
    registry.unregister("p")
    assert unloaded == ["p", "p"]
    with pytest.raises(PluginNotFound, match="No plugin 'p'"):
        registry.unload("p")
    registry.remove_unload(unloaded.append)
