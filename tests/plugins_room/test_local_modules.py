"""Local modules that change on disk: packed plugins change with them, and what imports them reads them anew."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from forgesyte_nb.plugins.discovery import discover, load_file, shipped_folder
from forgesyte_nb.plugins.folder_watch import FolderWatch
from forgesyte_nb.plugins.payload import unpack
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell, wait_for

NAMES = ("inner_of_a_test", "outer_of_a_test", "_sibling_of_a_test", "sibling_of_a_test")


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Modules and paths of these tests do not outlive them, and no compiled copy of one is kept."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def value(registry: Registry, name: str = "p") -> Any:
    """What the plugin returns where it is unpacked."""
    payload = registry.entry(name).payload
    assert payload is not None
    return unpack(payload).target(None)["v"]


CELLS = {
    "a global": "import outer_of_a_test as m\n@fs.plugin\ndef p(frame): return {'v': m.outer()}",
    "a function": "from outer_of_a_test import outer\n@fs.plugin\ndef p(frame): return {'v': outer()}",
    "in the plugin": "@fs.plugin\ndef p(frame):\n    import outer_of_a_test as m\n    return {'v': m.outer()}",
}


@pytest.mark.parametrize("changes", NAMES[:2])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_changed_module_is_a_new_revision_and_is_read_anew(tmp_path: Path, cell: str, changes: str) -> None:
    (tmp_path / "inner_of_a_test.py").write_text("def inner(): return 'inner'\n")
    (tmp_path / "outer_of_a_test.py").write_text(
        "import inner_of_a_test as i\ndef outer(): return ['outer', i.inner()]\n"
    )
    registry = Registry()
    for _ in range(2):
        run_cell(cell, registry)
    assert (registry.entry("p").plugin.revision, value(registry)) == (1, ["outer", "inner"])
    path = tmp_path / f"{changes}.py"
    path.write_text(path.read_text().replace("return", "return 'changed' and") + "# longer\n")
    path.write_text(path.read_text().replace("'outer', ", "'other', ").replace("'inner'", "'further in'"))
    if changes in sys.modules:
        importlib.reload(sys.modules[changes])
    if "from" in cell or "global" in cell:
        run_cell(cell, registry)
    assert registry.renew_changed() == {}
    run_cell(cell, registry)
    assert registry.entry("p").plugin.revision == 2
    assert value(registry) == (["outer", "further in"] if changes == NAMES[0] else ["other", "inner"])


def test_a_module_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_once(tmp_path: Path) -> None:
    path = tmp_path / "outer_of_a_test.py"
    path.write_text("def outer(): return 'outer'\n")
    registry = Registry()
    run_cell(CELLS["in the plugin"], registry)
    tried: list[int] = []

    def trial(entry: Any) -> None:
        tried.append(entry.plugin.revision)
        raise SyntaxError("no")

    registry.add_trial(trial)
    path.write_text("def outer() return 'outer'\n")
    assert list(registry.renew_changed()) == ["p"]
    assert registry.renew_changed() == {}
    assert (tried, registry.entry("p").plugin.revision) == ([2], 1)


PLUGIN_FILE = "import forgesyte_nb as fs\nimport %s as s\n@fs.plugin%s\ndef p(frame): return {'v': s.VALUE}\n"


@pytest.mark.parametrize("sibling", NAMES[2:])
@pytest.mark.parametrize("engine", ["", "(engine='threads')"])
@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "looked at"])
def test_a_plugin_file_imports_its_siblings_and_changes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sibling: str, engine: str, is_reported: bool
) -> None:
    if not is_reported:
        monkeypatch.delattr(watchfiles, "watch")
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / f"{sibling}.py").write_text("VALUE = 1\n")
    (folder / "a_plugin.py").write_text(PLUGIN_FILE % (sibling, engine))
    registry = Registry()
    discover(registry, [shipped_folder(), folder])
    assert f"{sibling}.py" not in registry.failures, "a file that others import need not have a plugin"
    assert "a_plugin.py" not in registry.failures
    assert registry.entry("p").plugin.target(None) == {"v": 1}
    assert sys.path.index(str(folder)) > sys.path.index(str(tmp_path)), "it shadows nothing"
    lines: list[str] = []
    watch = FolderWatch(registry, [folder], lines.append)
    try:
        (folder / f"{sibling}.py").write_text("VALUE = 22\n")
        wait_for(lambda: registry.entry("p").plugin.target(None) == {"v": 22}, f"the sibling's new code: {lines}")
    finally:
        watch.close()
    if not engine:
        assert value(registry) == 22
    assert f"{sibling}.py" not in registry.failures


def test_a_file_without_a_plugin_that_nobody_imports_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "sibling_of_a_test.py").write_text("VALUE = 1\n")
    registry = Registry()
    assert load_file(registry, tmp_path / "sibling_of_a_test.py") == []
    assert "defines no plugin" in registry.failures["sibling_of_a_test.py"]
