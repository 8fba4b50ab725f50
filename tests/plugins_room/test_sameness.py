"""Plugins that stay in the kernel: an unchanged cell run again keeps the revision, anything else is a new one."""

from __future__ import annotations

import linecache
import zlib
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.discovery import load_file
from forgesyte_nb.plugins.registry import Registry, registering_in

FUNCTION = """
@fs.plugin(engine="threads")
def p(frame, *, step: int = 1, sizes: tuple[int, ...] = (1, 2)):
    return {"value": LIVE}
"""
CLASS = """
from __future__ import annotations
LIMITS = {"low": [1, 2.5], "high": None}

class Base:
    def __init__(self):
        self.lock = threading.Lock()

    @property
    def name(self): return "base"

@fs.plugin(engine="inline")
class p(Base):
    limits = LIMITS

    def __init__(self):
        super().__init__()

    @staticmethod
    def twice(x): return 2 * x

    @classmethod
    def make(cls): return cls()

    def process(self, frame, *, step: int = 1):
        return {"value": self.twice(step)}
"""
CLOSURE = """
def outer(k):
    @fs.plugin(engine="threads")
    def p(frame): return {"k": k}
    return p
outer(K)
"""
HELD = """
@fs.plugin(engine="threads")
class p:
    lock = threading.Lock()
    def process(self, frame): return {}
"""


class Notebook:
    """Cells that share their globals, as a kernel's do."""

    def __init__(self, **names: Any) -> None:
        import threading

        self.registry = Registry()
        self.globals: dict[str, Any] = {"__name__": "__main__", "fs": fs, "threading": threading, **names}

    def run(self, source: str) -> int:
        """Run a cell; the revision of `p` then."""
        path = f"<cell {zlib.crc32(source.encode()):08x}>"  # equal text, equal name: as ipykernel does it
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
        with registering_in(self.registry):
            exec(compile(source, path, "exec"), self.globals)  # noqa: S102 -- the point of it
        return self.registry.entry("p").plugin.revision


@pytest.mark.parametrize("source", [FUNCTION, CLASS, CLOSURE], ids=["function", "class", "closure"])
def test_an_unchanged_cell_keeps_its_revision(source: str) -> None:
    notebook = Notebook(LIVE=1, K="k")
    assert [notebook.run(source) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (FUNCTION, "step: int = 1", "step: int = 2"),
        (FUNCTION, "(1, 2)", "(1, 3)"),
        (FUNCTION, "LIVE", "-LIVE"),
        (FUNCTION, '"threads"', '"threads", timeout_s=3'),
        (FUNCTION, '"threads"', '"inline"'),
        (FUNCTION, "@fs", "HELPER = 1\n@fs"),
        (CLASS, "2.5", "2.6"),
        (CLASS, "2 * x", "3 * x"),
        (CLASS, '"base"', '"new base"'),
        (CLASS, "(Base)", ""),
        (CLOSURE, "(K)", "(K + K)"),
    ],
)
def test_a_changed_cell_is_a_new_revision(source: str, old: str, new: str) -> None:
    notebook = Notebook(LIVE=1, K="k")
    seen = [notebook.run(source), notebook.run(source.replace(old, new)), notebook.run(source.replace(old, new))]
    assert seen == [1, 2, 2]


def test_what_the_cell_took_from_elsewhere_counts() -> None:
    notebook = Notebook(K="k")
    assert notebook.run(CLOSURE) == 1
    notebook.globals["K"] = "other"
    assert [notebook.run(CLOSURE), notebook.run(CLOSURE)] == [2, 2]
    notebook.globals["K"] = object()
    assert [notebook.run(CLOSURE), notebook.run(CLOSURE)] == [3, 3]


def test_live_objects_are_seen_without_a_new_revision() -> None:
    notebook = Notebook(LIVE=1)
    notebook.run(FUNCTION)
    notebook.globals["LIVE"] = 5
    assert notebook.run(FUNCTION) == 1
    assert notebook.registry.entry("p").plugin.target(None) == {"value": 5}


def test_what_cannot_be_compared_is_taken_to_be_different() -> None:
    notebook = Notebook()
    assert [notebook.run(HELD), notebook.run(HELD)] == [1, 2]


def test_another_engine_is_a_new_revision_both_ways() -> None:
    notebook = Notebook(LIVE=1)
    sent = FUNCTION.replace('engine="threads"', "")
    assert [notebook.run(source) for source in (FUNCTION, sent, FUNCTION)] == [1, 2, 3]


def test_a_file_is_the_same_while_its_text_is(tmp_path: Path) -> None:
    registry = Registry()
    text = "import threading\nimport forgesyte_nb as fs\nlock = threading.Lock()\n" + FUNCTION
    path = tmp_path / "p.py"
    for source in (text, text, text.replace("LIVE", "7"), text):
        path.write_text(source)
        load_file(registry, path)
    assert registry.failures == {}
    assert registry.entry("p").plugin.revision == 3
