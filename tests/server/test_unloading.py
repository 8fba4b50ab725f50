"""A running server frees plugins: old revisions when a cell runs again, and those that are unloaded or unregistered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.errors import PluginNotFound
from forgesyte_nb.plugins.registry import Registry, registering_in
from tests.conftest import run_cell, wait_for

CELL = """
@fs.plugin
class model:
    def setup(self, ctx):
        self.version = VERSION
    def process(self, frame):
        return {"version": self.version}
    def teardown(self):
        with open(TORN_DOWN, "a") as file:
            file.write(f"{VERSION} ")
"""


@pytest.mark.parametrize("engine", ["processes", "threads"])
def test_a_server_frees_what_was_replaced_unloaded_and_unregistered(
    serve_on: Any, tiny: bytes, tmp_path: Path, engine: str
) -> None:
    torn_down = tmp_path / "torn down"
    torn_down.touch()
    registry = Registry()
    server = serve_on(registry, engine=engine, workers=1)
    with fs.BlockingClient(server.url) as client, registering_in(registry):
        for version in (1, 2):
            run_cell(CELL.replace("VERSION", str(version)), registry, TORN_DOWN=str(torn_down))
        wait_for(lambda: torn_down.read_text() == "1 ", "the old revision to go, though it had no frames")
        for unloaded in range(1, 3):
            assert client.analyze(tiny, "model").result == {"version": 2}
            fs.unload("model")
            assert torn_down.read_text() == "1 " + "2 " * unloaded
        assert client.analyze(tiny, "model").result == {"version": 2}
        registry.unregister("model")
        assert torn_down.read_text() == "1 2 2 2 "
        with pytest.raises(PluginNotFound, match="No plugin 'model'"):
            fs.unload("model")


def test_a_revision_that_moves_to_another_engine_leaves_the_first(serve_on: Any, tiny: bytes, tmp_path: Path) -> None:
    torn_down = tmp_path / "torn down"
    torn_down.touch()
    registry = Registry()
    server = serve_on(registry, engine="inline")
    run_cell(CELL.replace("VERSION", "1"), registry, TORN_DOWN=str(torn_down))
    moved = CELL.replace("VERSION", "2").replace("@fs.plugin", '@fs.plugin(engine="threads")')
    run_cell(moved, registry, TORN_DOWN=str(torn_down))
    wait_for(lambda: torn_down.read_text() == "1 ", "the old revision to go")
    with fs.BlockingClient(server.url) as client:
        assert client.analyze(tiny, "model").result == {"version": 2}
