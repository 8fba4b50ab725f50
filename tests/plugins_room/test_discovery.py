"""Plugin files: what loads, what is listed as failed, what happens when they change while a server runs."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.discovery import discover, load_file, plugin_folders, shipped_folder
from forgesyte_nb.plugins.folder_watch import FolderWatch
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell, wait_for

GOOD = "import forgesyte_nb as fs\n\n@fs.plugin\ndef {name}(frame):\n    return {{'value': {value}}}\n"


def write(folder: Path, name: str, text: str | None = None, value: int = 1) -> Path:
    path = folder / f"{name}.py"
    path.write_text(GOOD.format(name=name, value=value) if text is None else text, encoding="utf-8")
    return path


def names(registry: Registry) -> list[str]:
    return [plugin.name for plugin in registry.plugins()]


def value(registry: Registry, name: str) -> object:
    return registry.entry(name).plugin.target(None)["value"]


BROKEN = {
    "syntax": ("def broken(:\n", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    "raises": ("x = 1\nraise RuntimeError('no weights')\n", "RuntimeError: no weights (raises.py, line 2)"),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit: 3 (exits.py, line 2)"),
    "missing": (
        "import no_such_module\n",
        "ModuleNotFoundError: No module named 'no_such_module' (missing.py, line 1)",
    ),
    "empty": ("", "defines no plugin"),
    "wrong": ("import forgesyte_nb as fs\n@fs.plugin\ndef wrong(frame, a): return {}\n", "must be keyword-only"),
    "nul": ("x = '\0'\n", "null bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_loaded_is_listed_with_its_reason_and_the_rest_load(tmp_path: Path, name: str) -> None:
    registry = Registry()
    write(tmp_path, "a_good")
    write(tmp_path, name, BROKEN[name][0])
    write(tmp_path, "z_good")
    discover(registry, [tmp_path])
    assert {"a_good", "z_good"} <= set(names(registry))
    assert BROKEN[name][1] in registry.failures[f"{name}.py"]
    assert "\n" not in registry.failures[f"{name}.py"]


def test_files_that_are_not_text(tmp_path: Path) -> None:
    registry = Registry()
    path = tmp_path / "binary.py"
    path.write_bytes(b"\x80\xff\x00")
    assert load_file(registry, path) == []
    assert "binary.py" in registry.failures


@pytest.mark.parametrize(
    "head", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# \xe9\n", b"# comment\r\n"], ids=["bom", "latin-1", "crlf"]
)
def test_files_as_other_editors_write_them(tmp_path: Path, head: bytes) -> None:
    registry = Registry()
    path = tmp_path / "edited.py"
    path.write_bytes(head + GOOD.format(name="edited", value=3).encode())
    assert load_file(registry, path) == ["edited"]
    assert registry.failures == {}


def test_hidden_and_private_files_are_left_alone(tmp_path: Path) -> None:
    registry = Registry()
    for name in ("_private", ".hidden", "shown"):
        write(tmp_path, name, GOOD.format(name="p" + name.strip("_."), value=1))
    discover(registry, [tmp_path])
    assert "pshown" in names(registry)
    assert not {"pprivate", "phidden"} & set(names(registry))


def test_the_shipped_plugins_load() -> None:
    registry = Registry()
    discover(registry, [shipped_folder()])
    assert {"ocr", "motion_detector", "block_mapper", "image_stats"} <= set(names(registry))
    assert not registry.failures


def test_later_folders_win_and_a_cell_wins_over_all(tmp_path: Path) -> None:
    registry = Registry()
    run_cell("@fs.plugin\ndef mine(frame): return {'value': 'cell'}", registry)
    first, second = tmp_path / "first", tmp_path / "second"
    for number, folder in enumerate((first, second)):
        folder.mkdir()
        write(folder, "twice", value=number)
        write(folder, "mine")
    discover(registry, [first, second])
    assert value(registry, "twice") == 1
    assert value(registry, "mine") == "cell"
    run_cell("@fs.plugin\ndef twice(frame): return {'value': 'cell'}", registry)
    assert value(registry, "twice") == "cell"


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, named, asked = (tmp_path / name for name in ("here", "named", "asked"))
    for folder in (here / "plugins", named, asked):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("FORGESYTE_NB_PLUGINS", f"{named}:{tmp_path / 'missing'}:")
    assert plugin_folders([asked, str(asked)]) == [shipped_folder(), named, here / "plugins", asked]
    with pytest.raises(PluginDefinitionError, match="no plugin folder"):
        plugin_folders([tmp_path / "missing"])
    with pytest.raises(PluginDefinitionError, match="no plugin folder '~nobody_of_that_name/p'"):
        plugin_folders(["~nobody_of_that_name/p"])


def test_a_changed_file_is_a_new_revision_and_an_equal_one_is_not(tmp_path: Path) -> None:
    registry = Registry()
    path = write(tmp_path, "p")
    assert load_file(registry, path) == ["p"]
    assert load_file(registry, path) == []
    write(tmp_path, "p", value=2)
    assert load_file(registry, path) == ["p"]
    assert (registry.entry("p").plugin.revision, value(registry, "p")) == (2, 2)
    write(tmp_path, "p", "def broken(:")
    assert load_file(registry, path) == []
    assert value(registry, "p") == 2
    assert "SyntaxError" in registry.failures["p.py"]
    write(tmp_path, "p", value=2)
    assert load_file(registry, path) == []
    assert registry.failures == {}


def test_what_a_file_no_longer_defines_is_gone(tmp_path: Path) -> None:
    registry = Registry()
    path = write(tmp_path, "p", GOOD.format(name="one", value=1) + GOOD.format(name="two", value=2))
    assert load_file(registry, path) == ["one", "two"]
    write(tmp_path, "p", GOOD.format(name="two", value=2))
    load_file(registry, path)
    assert names(registry) == ["two"]


def test_a_file_uses_its_own_helpers_dataclasses_and_wrappers(tmp_path: Path) -> None:
    text = """
from __future__ import annotations
import functools
from dataclasses import dataclass
import forgesyte_nb as fs

@dataclass
class Settings:
    size: int = 3

def twice(call):
    @functools.wraps(call)
    def wrapper(frame, **options):
        return {"value": 2 * call(frame, **options)["value"]}
    return wrapper

@fs.plugin
@twice
def helped(frame, *, add: int = 1):
    return {"value": Settings().size + add}
"""
    registry = Registry()
    path = write(tmp_path, "helped", text)
    assert load_file(registry, path) == ["helped"], registry.failures
    assert value(registry, "helped") == 8


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, Registry, list[str]]]:
    registry, said = Registry(), []
    folder = tmp_path / "plugins"
    folder.mkdir()
    write(folder, "first")
    discover(registry, [folder])
    watch = FolderWatch(registry, [folder, tmp_path / "missing"], said.append)
    yield folder, registry, said
    watch.close()


def test_a_running_server_follows_its_folders(watched: tuple[Path, Registry, list[str]]) -> None:
    folder, registry, said = watched
    wait_for(lambda: write(folder, "second") and "second" in names(registry), "a new file to be loaded")
    write(folder, "first", value=2)
    wait_for(lambda: registry.entry("first").plugin.revision == 2, "the change")
    wait_for(lambda: "plugin=first revision=2 from first.py" in said, "the log")
    write(folder, "first", "def broken(:")
    wait_for(lambda: "first.py" in registry.failures, "the failure")
    assert value(registry, "first") == 2
    temporary = write(folder.parent, "temporary", GOOD.format(name="first", value=3))
    temporary.replace(folder / "first.py")  # as editors save
    wait_for(lambda: value(registry, "first") == 3, "the file that was moved into place")
    assert registry.failures == {}
    (folder / "second.py").unlink()
    wait_for(lambda: "second" not in names(registry), "the plugin to go with its file")
    wait_for(lambda: "plugin=second gone with second.py" in said, "the log")
    run_cell("@fs.plugin\ndef first(frame): return {'value': 'cell'}", registry)
    write(folder, "first", value=4)
    write(folder, "last")
    wait_for(lambda: "last" in names(registry), "the last file")
    assert value(registry, "first") == "cell"


def test_folders_that_are_made_later_or_anew_are_found(tmp_path: Path) -> None:
    registry, said = Registry(), []
    folders = [tmp_path / "one", tmp_path / "two"]
    watch = FolderWatch(registry, folders, said.append)
    try:
        for number, folder in enumerate(folders):
            folder.mkdir()
            write(folder, f"late{number}")
            wait_for(lambda name=f"late{number}": name in names(registry), "the plugin of a folder made later")
        shutil.rmtree(folders[0])
        wait_for(lambda: names(registry) == ["late1"], "the plugin to go with its folder")
        folders[0].mkdir()
        write(folders[0], "again")
        wait_for(lambda: "again" in names(registry), "the plugin of the folder that was made anew")
        write(folders[0], "again", value=2)
        wait_for(lambda: value(registry, "again") == 2, "the change in it")
    finally:
        watch.close()


def test_where_changes_are_not_reported_the_log_says_so_and_reloading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*_: object, **__: object) -> Iterator[set[object]]:
        yield set()
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", limited)
    registry, said = Registry(), []
    write(tmp_path, "first")
    discover(registry, [tmp_path])
    watch = FolderWatch(registry, [tmp_path], said.append)
    try:
        wait_for(lambda: said, "the log to say so")
        assert said == [
            "changes of plugin files are no longer reported (OSError: OS file watch limit reached); "
            "the files are looked at every 0.5 s"
        ]
        write(tmp_path, "first", value=2)
        wait_for(lambda: value(registry, "first") == 2, "the change")
        write(tmp_path, "second")
        wait_for(lambda: "second" in names(registry), "the new file")
        (tmp_path / "first.py").unlink()
        wait_for(lambda: names(registry) == ["second"], "the plugin to go with its file")
    finally:
        watch.close()


def modules_of(name: str) -> list[str]:
    gc.collect()
    return [module for module in sys.modules if module.startswith(f"forgesyte_plugin_{name}_")]


def test_the_modules_of_a_file_that_was_loaded_again_and_again_go_with_their_plugins(tmp_path: Path) -> None:
    registry, other = Registry(), Registry()
    for number in range(5):
        path = write(tmp_path, "renewed", value=number)
        load_file(registry, path)
        assert modules_of("renewed") == [registry.entry("renewed").plugin.target.__module__]
    write(tmp_path, "renewed", "import forgesyte_nb as fs\nraise RuntimeError('no weights')")
    load_file(registry, path)
    write(tmp_path, "renewed", "no_plugin = 1")
    load_file(registry, path)
    assert len(modules_of("renewed")) == 1, "what failed left nothing behind"
    write(tmp_path, "renewed", value=4)
    load_file(registry, path)
    load_file(other, path)
    registry.unregister("renewed")
    assert modules_of("renewed") == [other.entry("renewed").plugin.target.__module__], "each registry has its own"
    other.unregister("renewed")
    assert modules_of("renewed") == []


def test_the_module_of_a_plugin_that_still_runs_stays(tmp_path: Path) -> None:
    registry = Registry()
    text = GOOD.format(name="kept", value=1) + "\n@fs.plugin\ndef beside(frame):\n    return {}\n"
    path = write(tmp_path, "kept", text)
    load_file(registry, path)
    running = registry.entry("beside").plugin
    write(tmp_path, "kept", value=2)
    load_file(registry, path)
    assert len(modules_of("kept")) == 2, "a frame in flight may still use the old one"
    del running
    assert modules_of("kept") == [registry.entry("kept").plugin.target.__module__]
