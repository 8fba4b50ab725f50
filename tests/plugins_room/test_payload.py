"""Payloads: a plugin packed here works in an interpreter that has never seen the notebook."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.discovery import load_file
from forgesyte_nb.plugins.payload import pack, unpack
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

RUN = """
import json, pickle, sys, traceback
from forgesyte_nb.plugins.payload import unpack
from forgesyte_nb.engines.raised import plugin_traceback
plugin = unpack(pickle.load(sys.stdin.buffer))
call = plugin.target
if plugin.is_class:
    instance = plugin.target()
    if hasattr(instance, "setup"):
        instance.setup(None, **plugin.setup_options)
    call = instance.process
try:
    result = call(None, **plugin.schema.keywords(sys.argv[1].encode()))
except Exception as error:
    result = plugin_traceback(error)
print(json.dumps([plugin.name, plugin.revision, plugin.timeout_s, plugin.stateful, result]))
"""


def elsewhere(registry: Registry, name: str, folder: Path, options: str = "{}") -> list[Any]:
    """What a plugin is and returns in a fresh interpreter, started in another folder."""
    payload = pickle.dumps(registry.entry(name).payload)
    done = subprocess.run(
        [sys.executable, "-c", RUN, options], input=payload, capture_output=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)  # type: ignore[no-any-return]


CELL = """
from __future__ import annotations
import dataclasses, enum
import numpy as np
from typing import Annotated
from pydantic import Field

@dataclasses.dataclass
class Point:
    x: int

class Kind(enum.Enum):
    GOOD = "good"

OFFSET = 4

def helper(value):
    return Point(value + OFFSET)

class Base:
    def process(self, frame, *, add: Annotated[int, Field(ge=0)] = 1):
        return {"value": helper(add).x, "kind": Kind.GOOD.value, "sum": int(np.arange(4).sum())}

@fs.plugin("derived", timeout_s=7)
class Derived(Base):
    def process(self, frame, *, add: Annotated[int, Field(ge=0)] = 1):
        return super().process(frame, add=add)

def outer():
    captured = [1, 2]
    @fs.plugin
    def inner(frame, *, add: int = 3):
        return {"value": sum(captured) + add}
outer()

@fs.plugin
def failing(frame):
    wrong = [1, 2]
    return wrong[OFFSET]  # the line that fails
"""


def test_what_a_cell_defines_works_elsewhere(tmp_path: Path) -> None:
    registry = Registry()
    run_cell(CELL, registry)
    assert elsewhere(registry, "derived", tmp_path) == ["derived", 1, 7, False, {"value": 5, "kind": "good", "sum": 6}]
    assert elsewhere(registry, "inner", tmp_path)[4] == {"value": 6}


def test_a_traceback_elsewhere_shows_the_lines_of_the_cell(tmp_path: Path) -> None:
    registry = Registry()
    run_cell(CELL, registry)
    text = elsewhere(registry, "failing", tmp_path)[4]
    assert "return wrong[OFFSET]  # the line that fails" in text
    assert "IndexError: list index out of range" in text
    assert 'File "<cell ' in text


def test_what_a_file_defines_works_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    path.write_text(
        "import forgesyte_nb as fs\nhere = __file__\nseen = []\n"
        "@fs.plugin(version='1')\nclass counted:\n    def process(self, frame, *, state=None):\n"
        "        seen.append(1)\n        return {'seen': len(seen), 'here': here, 'name': __name__}\n"
    )
    registry = Registry()
    assert load_file(registry, path) == ["counted"]
    name, _, _, stateful, result = elsewhere(registry, "counted", tmp_path)
    assert (name, stateful, result["seen"], result["here"]) == ("counted", True, 1, str(path))
    assert result["name"] == registry.entry("counted").plugin.target.__module__


def test_the_senders_import_path_is_taken_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_a_notebook.py").write_text("VALUE = 11\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    run_cell("import helper_of_a_notebook as h\n@fs.plugin\ndef p(frame): return {'value': h.VALUE}", registry)
    assert elsewhere(registry, "p", Path("/"))[4] == {"value": 11}


def test_more_than_a_megabyte_of_globals_earns_a_warning_that_names_them() -> None:
    cell = (
        "import numpy as np\nweights = np.zeros(300_000)\nsmall = 'x'\n"
        "@fs.plugin\ndef p(frame): return {'n': weights.size, 's': small}"
    )
    with pytest.warns(
        UserWarning, match=r"plugin 'p' takes 2\.4 MB .*: weights \(2\.4 MB\)\. Load such things in setup"
    ):
        run_cell(cell, Registry())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_cell(cell.replace("300_000", "100_000"), Registry())


def test_the_warning_points_at_the_cell() -> None:
    with pytest.warns(UserWarning, match="plugin 'p' takes") as caught:
        run_cell(
            "big = bytes(2_000_000)\n@fs.plugin\nclass p:\n    def process(self, frame): return {'n': len(big)}",
            Registry(),
        )
    assert caught[0].filename.startswith("<cell ")


@pytest.mark.parametrize(
    "thing",
    [
        "threading.Lock()",
        "(i for i in range(3))",
        "made[0]",
        "__import__('ssl').create_default_context()",
    ],
)
def test_what_cannot_travel_is_refused_with_the_remedy(thing: str) -> None:
    cell = f"import threading\nthing = {thing}\n@fs.plugin\ndef p(frame): return {{'t': thing}}"
    registry = Registry()
    with socket.socket() as opened, pytest.raises(PluginDefinitionError) as caught:
        run_cell(cell, registry, made=[opened])
    assert "p: cannot be sent to a worker process" in str(caught.value)
    assert '@fs.plugin(engine="threads")' in str(caught.value)
    assert registry.plugins() == []


def test_a_payload_that_does_not_fit_its_name() -> None:
    registry = Registry()
    run_cell(CELL, registry)
    payload = pack(registry.entry("inner").plugin)
    assert unpack(payload).name == "inner"


OPTION_TYPES = """
from __future__ import annotations
import dataclasses
from pathlib import Path

@dataclasses.dataclass(kw_only=True)
class Area:
    width: int
    names: list[str] = dataclasses.field(default_factory=list)

@dataclasses.dataclass
class Named(Area):
    name: str = "n"

def shown(area): return dataclasses.asdict(area)

@fs.plugin
def no_options(frame: fs.Frame) -> dict[str, Path]:
    return {"v": 1}

@fs.plugin
def with_area(frame: fs.Frame, *, area: Named = Named(width=3)) -> dict:
    return {"v": shown(area)}

@fs.plugin(setup={"model": "large.pt"})
class Model:
    def setup(self, ctx, *, model: Path | str = "small.pt", size: int = 3):
        self.known = [model, size]
    def process(self, frame: fs.Frame) -> dict[str, Path]:
        return {"v": self.known}
"""


def test_annotations_as_text_and_dataclasses_load_elsewhere(tmp_path: Path) -> None:
    registry = Registry()
    run_cell(OPTION_TYPES, registry)
    assert elsewhere(registry, "no_options", tmp_path)[4] == {"v": 1}
    assert elsewhere(registry, "with_area", tmp_path)[4] == {"v": {"width": 3, "names": [], "name": "n"}}
    assert elsewhere(registry, "with_area", tmp_path, '{"area": {"width": 5}}')[4]["v"]["width"] == 5
    text = elsewhere(registry, "with_area", tmp_path, '{"area": {"name": "x"}}')[4]
    assert "area.width: field required" in text, "a default that there is not must not be taken for one"


def test_options_of_setup_travel(tmp_path: Path) -> None:
    registry = Registry()
    run_cell(OPTION_TYPES, registry)
    assert elsewhere(registry, "Model", tmp_path)[4] == {"v": ["large.pt", 3]}
    run_cell(OPTION_TYPES.replace("large.pt", "huge.pt"), registry)
    assert registry.entry("Model").plugin.revision == 2
