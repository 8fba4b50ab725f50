"""Plugins that use names which their cell is still to define: they are packed when those names stand."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.errors import PluginDefinitionError, PluginNotFound
from forgesyte_nb.plugins.payload import unpack
from forgesyte_nb.plugins.registry import Registry, registering_in


class Notebook:
    """Cells that share their globals, as a kernel's do; `run` is a cell from its start to its end."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.globals: dict[str, Any] = {"__name__": "__main__", "fs": fs}

    def run(self, source: str) -> list[str]:
        """Run a cell; what went wrong at its end."""
        path = f"<cell {zlib.crc32(source.encode()):08x}>"
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
        with registering_in(self.registry):
            exec(compile(source, path, "exec"), self.globals)  # noqa: S102 -- the point of it
        return [str(error) for error, _ in self.registry.end_cell()]

    def result(self, name: str = "p") -> Any:
        """What the plugin returns where it was unpacked, that is with what was packed."""
        payload = self.registry.entry(name).payload
        assert payload is not None
        plugin = unpack(payload)
        call = plugin.target().process if plugin.is_class else plugin.target
        return call(None)["v"]


OWN_NAME = """
@fs.plugin
class p:
    NAMES = ["%s"]
    def process(self, frame):
        return {"v": [p.NAMES, super(p, self).__init__()]}
"""
RECURSION = """
@fs.plugin
def p(frame, *, depth: int = 3):
    return {"v": "%s" * 2} if depth == 0 else p(frame, depth=depth - 1)
"""
BELOW = """
@fs.plugin
def p(frame): return {"v": helper()}
def helper(): return deeper("%s")
def deeper(text): return text + SUFFIX
SUFFIX = "!"
"""
BELOW_A_CLASS = """
class Base:
    def value(self): return helper()
@fs.plugin
class p(Base):
    def process(self, frame): return {"v": self.value()}
def helper(): return "%s"
"""
CLOSURE = """
def outer():
    @fs.plugin
    def p(frame, *, again: bool = True): return {"v": inner()} if not again else p(frame, again=False)
    def inner(): return "%s"
outer()
"""
CHANGED = """
names = []
@fs.plugin
def p(frame): return {"v": names}
names.append("%s")
"""


@pytest.mark.parametrize(
    ("source", "of"),
    [
        (OWN_NAME, lambda text: [[text], None]),
        (RECURSION, lambda text: text * 2),
        (BELOW, lambda text: f"{text}!"),
        (BELOW_A_CLASS, lambda text: text),
        (CLOSURE, lambda text: text),
        (CHANGED, lambda text: [text]),
    ],
    ids=["own name", "recursion", "below", "below a class", "closure", "changed below"],
)
def test_a_plugin_has_what_its_cell_defines_after_it_and_never_the_value_before(source: str, of: Any) -> None:
    notebook = Notebook()
    for revision, text in enumerate(("old", "new"), start=1):
        assert notebook.run(source % text) == []
        assert notebook.result() == of(text)
        assert notebook.registry.entry("p").plugin.revision == revision
    assert notebook.run(source % "new") == []
    assert notebook.registry.entry("p").plugin.revision == 2, "the same cell run again is no new revision"


def test_what_is_used_before_the_cell_ends_is_packed_then_and_again_at_the_end() -> None:
    notebook = Notebook()
    notebook.run(BELOW % "old")
    cell = "@fs.plugin\ndef p(frame): return {'v': helper()}\nseen.append(look())\ndef helper(): return 'new'"
    notebook.globals.update(seen=[], look=notebook.result)
    notebook.run(cell)
    assert notebook.globals["seen"] == ["old!"], "as if it were called there"
    assert notebook.result() == "new"


def test_a_name_that_a_later_cell_defines_is_waited_for() -> None:
    notebook = Notebook()
    assert notebook.run("@fs.plugin\ndef p(frame): return {'v': helper()}") == []
    with pytest.raises(NameError):
        notebook.result()
    notebook.run("def helper(): return 'here'")
    assert notebook.result() == "here"
    assert notebook.registry.entry("p").plugin.revision == 2


def test_a_failure_at_the_end_of_a_cell_leaves_the_old_one_in_force() -> None:
    notebook = Notebook()
    notebook.run(BELOW % "old")
    cell = "import threading\n@fs.plugin\ndef p(frame): return {'v': helper}\nhelper = threading.Lock()"
    assert ["p: cannot be sent to a worker process" in text for text in notebook.run(cell)] == [True]
    assert notebook.result() == "old!"
    assert "cannot be sent" in notebook.registry.failures["p"]
    assert notebook.run(BELOW % "new") == []
    assert notebook.registry.failures == {}
    assert notebook.result() == "new!"


def test_a_script_hears_of_the_failure_where_the_plugin_is_first_used() -> None:
    registry = Registry()
    source = "import threading\n@fs.plugin\ndef p(frame): return {'v': helper}\nhelper = threading.Lock()"
    path = "<script>"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    with registering_in(registry):
        exec(compile(source, path, "exec"), {"__name__": "__main__", "fs": fs})  # noqa: S102 -- the point of it
    with pytest.raises(PluginDefinitionError, match="cannot be sent to a worker process"):
        registry.register_deferred()
    with pytest.raises(PluginNotFound, match="'p' could not be loaded: p: cannot be sent"):
        registry.entry("p")


def test_one_that_is_unregistered_or_replaced_waits_no_longer() -> None:
    notebook = Notebook()
    with registering_in(notebook.registry):
        exec(compile(BELOW % "x", "<no lines>", "exec"), notebook.globals)  # noqa: S102 -- the point of it
    notebook.registry.unregister("p")
    notebook.registry.end_cell()
    assert [plugin.name for plugin in notebook.registry.plugins()] == []
    notebook.run("@fs.plugin\ndef p(frame): return {'v': missing}\n@fs.plugin\ndef p(frame): return {'v': 2}")
    assert notebook.result() == 2
    notebook.run("missing = 1")
    assert notebook.result() == 2


def test_a_plugin_that_stands_is_registered_at_once() -> None:
    notebook = Notebook()
    cell = "import threading\nlock = threading.Lock()\n@fs.plugin\ndef p(frame): return {'v': lock}"
    with pytest.raises(PluginDefinitionError, match="cannot be sent"):
        notebook.run(cell)


def test_a_module_loaded_by_its_path_works_where_it_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "channels.py"
    path.write_text(
        "import forgesyte_nb as fs\n@fs.plugin('p')\ndef channels(frame): return {'v': channel_stats()}\n"
        "def channel_stats(): return SCALE * 2\nSCALE = 3\n"
    )
    notebook = Notebook()
    for name in ("not_in_sys_modules", "in_sys_modules"):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        if name == "in_sys_modules":
            sys.modules[name] = module
        with registering_in(notebook.registry):
            spec.loader.exec_module(module)
        notebook.registry.end_cell()
        payload = notebook.registry.entry("p").payload
        assert payload is not None
        sys.modules.pop(name, None)  # as in a worker
        assert unpack(payload).target(None) == {"v": 6}
