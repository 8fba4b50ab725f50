"""Local modules that are edited while workers run: no lane goes on with what it imported before."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.plugins.registry import Entry
from tests.engines.conftest import Bench, Open

NAMES = ("inner_of_a_test", "outer_of_a_test", "package_of_a_test", "folder_of_a_test")


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Modules and paths of these tests do not outlive them, and no compiled copy of one is kept."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield
    for name in list(sys.modules):
        if name.partition(".")[0] in NAMES:
            del sys.modules[name]


class Cells:
    """Runs cells as a notebook with a running server does: modules are compared before, each revision is tried."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        loop = asyncio.get_running_loop()

        def trial(entry: Entry) -> None:
            asyncio.run_coroutine_threadsafe(bench.engine.trial(entry), loop).result(60)

        bench.registry.add_trial(trial)

    async def run(self, source: str = "") -> None:
        assert await asyncio.to_thread(self.bench.registry.renew_changed) == {}
        await asyncio.to_thread(self.bench.cell, source)

    async def value(self, plugin: str = "p") -> Any:
        """What a frame gives, on whichever lane: the same on all."""
        jobs = [self.bench.submit(plugin, owner=number) for number in range(6)]
        values = [(await self.bench.result(job))["v"] for job in jobs]
        assert all(value == values[0] for value in values), values
        return values[0]


async def pids(bench: Bench) -> set[int]:
    """Of the lanes that take frames."""
    await asyncio.to_thread(bench.cell, "import os\n@fs.plugin\ndef pid(frame): return {'pid': os.getpid()}")
    return {(await bench.run("pid", owner=number))["pid"] for number in range(6)}


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new) + "# longer, whatever the clock says\n")


CELLS = {
    "a global": "import outer_of_a_test as m\n@fs.plugin\ndef p(frame): return {'v': m.outer()}",
    "a function": "from outer_of_a_test import outer\n@fs.plugin\ndef p(frame): return {'v': outer()}",
    "in the plugin": "@fs.plugin\ndef p(frame):\n    import outer_of_a_test as m\n    return {'v': m.outer()}",
}


@pytest.mark.parametrize("changes", NAMES[:2])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
async def test_an_edited_module_is_a_new_revision_and_no_lane_has_the_old_code(
    open_bench: Open, tmp_path: Path, cell: str, changes: str
) -> None:
    (tmp_path / "inner_of_a_test.py").write_text("def inner(): return 'inner'\n")
    (tmp_path / "outer_of_a_test.py").write_text(
        "import inner_of_a_test as i\ndef outer(): return ['outer', i.inner()]\n"
    )
    bench = open_bench("processes", workers=1)
    cells = Cells(bench)
    for _ in range(2):
        await cells.run(cell)
    assert (bench.registry.entry("p").plugin.revision, await cells.value()) == (1, ["outer", "inner"])
    edit(tmp_path / f"{changes}.py", "'outer'" if changes == NAMES[1] else "'inner'", "'edited'")
    if changes in sys.modules:
        importlib.reload(sys.modules[changes])
    await cells.run(cell)
    # A function that the notebook has imported is the old one until its cell runs again.
    assert bench.registry.entry("p").plugin.revision == (3 if "from" in cell and changes == NAMES[1] else 2)
    assert await cells.value() == (["outer", "edited"] if changes == NAMES[0] else ["edited", "inner"])


PACKAGES = {
    "imported": "from {0}.deep import deep\n@fs.plugin\ndef p(frame): return {{'v': deep()}}",
    "imported in the plugin": "@fs.plugin\ndef p(frame):\n    from {0}.deep import deep\n    return {{'v': deep()}}",
}


@pytest.mark.parametrize("name", NAMES[2:])
@pytest.mark.parametrize("cell", PACKAGES.values(), ids=PACKAGES)
async def test_modules_of_packages_and_of_folders_without_init(
    open_bench: Open, tmp_path: Path, cell: str, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if name.startswith("package"):
        (folder / "__init__.py").touch()
    (folder / "deep.py").write_text("def deep(): return 'first'\n")
    cells = Cells(open_bench("processes", workers=1))
    await cells.run(cell.format(name))
    assert await cells.value() == "first"
    edit(folder / "deep.py", "first", "edited")
    await cells.run()
    assert await cells.value() == "edited"


ONCE = """
import json
if hasattr(json, "registered"):
    raise KeyError("already registered")
json.registered = True
def outer(): return 'first'
"""


async def test_a_module_that_can_be_imported_once_only(open_bench: Open, tmp_path: Path) -> None:
    (tmp_path / "outer_of_a_test.py").write_text(ONCE)
    cells = Cells(open_bench("processes", workers=2))
    await cells.run(CELLS["in the plugin"])
    assert await cells.value() == "first"
    edit(tmp_path / "outer_of_a_test.py", "first", "edited")
    await cells.run()
    assert await cells.value() == "edited"


async def test_a_compiled_module_that_was_built_again_is_loaded_in_a_new_process(
    open_bench: Open, tmp_path: Path
) -> None:
    spec = importlib.util.find_spec("_queue")
    if spec is None or spec.origin is None or not spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
        pytest.skip("this Python has its extension modules built in")
    library = Path(spec.origin)
    package = tmp_path / "package_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(library, package)
    bench = open_bench("processes", workers=1)
    cells = Cells(bench)
    await cells.run(
        "@fs.plugin\ndef p(frame):\n    import os, package_of_a_test._queue as built\n"
        "    return {'v': [os.getpid(), built.__name__]}"
    )
    first, name = await cells.value()
    assert name.endswith("_queue")
    (package / library.name).unlink()
    shutil.copy(library, package)
    (package / library.name).touch()
    await cells.run()
    assert (await cells.value())[0] != first
    assert any("_queue" in line and "has changed since it was imported" in line for line in bench.logs)


MODEL = """
import outer_of_a_test as m
@fs.plugin
class {0}:
    def setup(self, ctx): self.model = m.Model()
    def process(self, frame):
        import outer_of_a_test
        return {{"v": [isinstance(self.model, outer_of_a_test.Model), outer_of_a_test.Model.WORD]}}
"""


async def test_what_setup_made_is_of_the_classes_that_frames_see(open_bench: Open, tmp_path: Path) -> None:
    module = tmp_path / "outer_of_a_test.py"
    module.write_text("class Model: WORD = 'first'\n")
    cells = Cells(open_bench("processes", workers=1))
    for name in ("p", "q"):
        await cells.run(MODEL.format(name))
        assert await cells.value(name) == [True, "first"]
    edit(module, "first", "edited")
    await cells.run()
    for name in ("p", "q", "p"):
        assert await cells.value(name) == [True, "edited"]


async def test_a_lane_is_replaced_once_and_only_if_it_has_imported_what_changed(
    open_bench: Open, tmp_path: Path
) -> None:
    for name in NAMES[:2]:
        (tmp_path / f"{name}.py").write_text("def outer(): return 'first'\n")
    bench = open_bench("processes", workers=1)
    cells = Cells(bench)
    cell = CELLS["in the plugin"]
    await cells.run(cell)
    edit(tmp_path / "outer_of_a_test.py", "first", "edited")  # before a frame has imported it
    before = await pids(bench)
    await cells.run(cell)
    assert (await cells.value(), await pids(bench)) == ("edited", before)
    edit(tmp_path / "inner_of_a_test.py", "first", "edited")  # no plugin uses it
    await cells.run(cell)
    assert await pids(bench) == before
    edit(tmp_path / "outer_of_a_test.py", "edited", "edited again")
    # The registry has not looked: one plugin has the old stamps, another one, which is new, those of now.
    await asyncio.to_thread(bench.cell, cell.replace("def p(", "def q("))
    assert await cells.value("q") == "edited again"
    after = await pids(bench)
    assert not after & before
    for _ in range(3):
        assert await cells.value("p") == await cells.value("q") == "edited again"
    assert await pids(bench) == after


async def test_frames_of_the_lane_that_is_replaced_are_answered(open_bench: Open, tmp_path: Path) -> None:
    module = tmp_path / "outer_of_a_test.py"
    module.write_text("def outer(): return 'first'\n")
    bench = open_bench("processes", workers=1)
    cells = Cells(bench)
    await cells.run(
        "import os, time\n@fs.plugin\ndef p(frame, *, path: str = ''):\n    import outer_of_a_test as m\n"
        "    while path and not os.path.exists(path): time.sleep(0.005)\n    return {'v': m.outer()}"
    )
    await bench.run("p")
    running = bench.submit("p", {"path": str(tmp_path / "open")})
    await bench.until(bench.hears("started", running.frame_id), "the start")
    edit(module, "first", "edited")
    renewing = asyncio.create_task(cells.run())
    behind = [bench.submit("p", owner=number) for number in range(8)]
    (tmp_path / "open").touch()
    assert (await bench.result(running))["v"] == "first"
    await renewing
    assert {(await bench.result(job))["v"] for job in behind} <= {"first", "edited"}
    assert await cells.value() == "edited"
    assert not any(job.deaths for job in behind)
