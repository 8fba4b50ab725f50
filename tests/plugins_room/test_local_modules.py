"""Local modules that change on disk: the plugins of cells and of files that use them become new revisions."""

from __future__ import annotations

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


CELL = "@fs.plugin\ndef p(frame):\n    import outer_of_a_test as m\n    return {'v': m.outer()}"


def test_a_module_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_once(tmp_path: Path) -> None:
    path = tmp_path / "outer_of_a_test.py"
    path.write_text("def outer(): return 'outer'\n")
    registry = Registry()
    run_cell(CELL, registry)
    tried: list[int] = []

    def trial(entry: Any) -> None:
        tried.append(entry.plugin.revision)
        raise SyntaxError("no")

    registry.add_trial(trial)
    path.write_text("def outer() return 'outer'\n")
    assert list(registry.renew_changed()) == ["p"]
    assert registry.renew_changed() == {}
    assert (tried, registry.entry("p").plugin.revision) == ([2], 1)


def test_a_module_that_only_a_frame_imports_is_found_in_a_package_and_a_folder(tmp_path: Path) -> None:
    for name, init in (("package_of_a_test", True), ("folder_of_a_test", False)):
        folder = tmp_path / name
        folder.mkdir()
        if init:
            (folder / "__init__.py").touch()
        (folder / "deep.py").touch()
        registry = Registry()
        run_cell(f"@fs.plugin\ndef p(frame):\n    from {name}.deep import deep\n    return {{}}", registry)
        payload = registry.entry("p").payload
        assert payload is not None
        assert str(folder / "deep.py") in payload.modules


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


def test_a_plugin_file_changes_with_modules_elsewhere_also_where_no_changes_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reports(*_: Any, **__: Any) -> Any:
        raise OSError("no more watches")

    monkeypatch.setattr("watchfiles.watch", no_reports)
    folder = tmp_path / "plugins"
    folder.mkdir()
    (tmp_path / "outer_of_a_test.py").write_text("VALUE = 1\n")  # on sys.path, not beside the plugin
    (folder / "_sibling_of_a_test.py").write_text("VALUE = 1\n")
    (folder / "a_plugin.py").write_text(
        "import forgesyte_nb as fs\nimport outer_of_a_test, _sibling_of_a_test\n@fs.plugin\ndef p(frame): return {}\n"
    )
    registry = Registry()
    discover(registry, [shipped_folder(), folder])
    lines: list[str] = []
    watch = FolderWatch(registry, [folder], lines.append)
    try:
        for revision, path in enumerate((folder / "_sibling_of_a_test.py", tmp_path / "outer_of_a_test.py"), start=2):
            path.write_text("VALUE = 22\n")
            wait_for(lambda now=revision: registry.entry("p").plugin.revision == now, f"revision {revision}: {lines}")
        (folder / "a_plugin.py").write_text("import outer_of_a_test\nouter_of_a_test.missing\n")
        wait_for(lambda: len(failed(lines)) == 1, "the failure")
        (tmp_path / "outer_of_a_test.py").write_text("pass\n")
        wait_for(lambda: len(failed(lines)) == 2, "the failure with the changed module")
        for _ in range(3):
            watch.look()
    finally:
        watch.close()
    assert len(failed(lines)) == 2, "tried again with each change, not with each look"


def failed(lines: list[str]) -> list[str]:
    return [line for line in lines if "cannot be loaded" in line]


def test_a_file_without_a_plugin_that_nobody_imports_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "sibling_of_a_test.py").write_text("VALUE = 1\n")
    registry = Registry()
    assert load_file(registry, tmp_path / "sibling_of_a_test.py") == []
    assert "defines no plugin" in registry.failures["sibling_of_a_test.py"]
