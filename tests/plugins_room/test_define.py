"""`define` and `@fs.plugin`: what can be a plugin, what it says of itself; `Context` for direct calls."""

from __future__ import annotations

import abc
import functools
import textwrap
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

import forgesyte_nb as fs
from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.context import Context
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry, registering_in


def bright(frame: Any, *, threshold: float = 0.5) -> dict[str, Any]:
    """Whether a picture
    is bright.

    More of it.
    """
    return {"bright": True}


class Counter:
    """Counts."""

    def process(self, frame: Any, *, state: dict[str, int], step: int = 1) -> dict[str, Any]:
        state["n"] = state.get("n", 0) + step
        return state


def test_what_a_function_says_of_itself() -> None:
    plugin = define(bright, timeout_s=2, engine="threads", version="1.2")
    assert (plugin.name, plugin.description, plugin.stateful) == ("bright", "Whether a picture is bright.", False)
    assert (plugin.timeout_s, plugin.engine, plugin.version, plugin.revision) == (2, "threads", "1.2", 0)
    assert plugin.origin == __file__
    assert not plugin.is_class


def test_what_a_class_says_of_itself() -> None:
    plugin = define(Counter, "count.er-1")
    assert (plugin.name, plugin.stateful, plugin.is_class) == ("count.er-1", True, True)
    assert list(plugin.schema.json_schema["properties"]) == ["step"]


def test_the_decorator_leaves_what_it_decorates_as_it_was() -> None:
    registry = Registry()
    with registering_in(registry):
        assert fs.plugin(bright) is bright
        assert fs.plugin("named", timeout_s=3)(bright) is bright
        assert fs.plugin()(Counter) is Counter
    assert [plugin.name for plugin in registry.plugins()] == ["Counter", "bright", "named"]
    assert registry.entry("named").plugin.timeout_s == 3


async def asynchronous(frame: Any) -> dict[str, Any]:
    return {}


def generator(frame: Any) -> Any:
    yield {}


class NoProcess:
    pass


class Static:
    @staticmethod
    def process(frame: Any, *, a: int = 1) -> dict[str, Any]:
        return {}


class OfTheClass:
    @classmethod
    def process(cls, frame: Any, *, a: int = 1) -> dict[str, Any]:
        return {}


class Attribute:
    process = 7


class NewStreamWithoutState:
    def new_stream(self) -> dict[str, Any]:
        return {}

    def process(self, frame: Any) -> dict[str, Any]:
        return {}


class Called:
    def __call__(self, frame: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        (lambda frame: {}, {}, "'<lambda>' is no plugin name"),
        (bright, {"name": "a b"}, "'a b' is no plugin name"),
        (bright, {"name": "x" * 65}, "is no plugin name"),
        (bright, {"name": "../x"}, "is no plugin name"),
        (bright, {"name": "x\n"}, "is no plugin name"),
        (bright, {"engine": "gpu"}, "choose one of processes, threads, inline"),
        (bright, {"timeout_s": 0}, "must be a number greater than 0"),
        (bright, {"timeout_s": -1}, "must be a number greater than 0"),
        (bright, {"timeout_s": float("nan")}, "must be a number greater than 0"),
        (bright, {"timeout_s": "3"}, "must be a number greater than 0"),
        (
            asynchronous,
            {},
            "make it 'def'. Calls that wait for a network run side by side in threads: "
            '@fs.plugin(engine="threads"), fs.serve(workers=16), fs.stream(…, concurrency=16)',
        ),
        (generator, {}, "has a 'yield', but a frame has one result"),
        (NoProcess, {}, "has no method process"),
        (Static, {}, "process is a static method"),
        (OfTheClass, {}, "process is a class method"),
        (Attribute, {}, "process is 7, no method"),
        (NewStreamWithoutState, {}, "needs a parameter 'state'"),
        (Called(), {}, "neither a function nor a class"),
        (functools.partial(bright, threshold=1), {"name": "p"}, "neither a function nor a class"),
    ],
)
def test_what_cannot_be_a_plugin_is_told_why(target: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(PluginDefinitionError) as caught:
        define(target, **options)
    assert reason in str(caught.value)


def of_class(body: str) -> type:
    """A class `Detector`, as a cell would define it."""
    namespace: dict[str, Any] = {"abc": abc, "given": given, "Annotated": Annotated, "Field": Field}
    exec(f"class Detector(abc.ABC):\n{textwrap.indent(body, chr(32) * 4)}", namespace)  # noqa: S102 -- the text of this test
    return namespace["Detector"]


def given(model: Any) -> Any:
    """Decorate a method: it is called without its last argument."""

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def called(self: Any, *args: Any) -> Any:
            return method(self, *args, model)

        return called

    return decorate


PROCESS = "def process(self, frame): return {}\n"


@pytest.mark.parametrize(
    ("body", "wrong", "remedy"),
    [
        ("def analyse(self, frame): ...", "has no method process", "it has analyse(self, frame)"),
        ("def analyse(self, frame): ...", "has no method process", "write def process(self, frame, *, …)"),
        ("def process(self): ...", "process(self) cannot be called", "write def process(self, frame, *, …)"),
        ("def process(frame, *, a=1): ...", "process(frame, *, a=1) cannot be", "write def process(self, frame, *, …)"),
        ("def process(self, frame, a=1): ...", "'a' must be keyword-only", "def process(self, frame, *, a=…)"),
        ("def process(self, frame, state, /): ...", "'state' is given by its name", "process(self, frame, *, state)"),
        ("async def process(self, frame): ...", "process is 'async def'", "write def process(self, frame, *, …)"),
        (PROCESS + "def setup(self): ...", "setup(self) cannot be called", "write def setup(self, ctx)"),
        (
            PROCESS + "def setup(self, ctx, path): ...",
            "missing a required argument: 'path'",
            "write def setup(self, ctx)",
        ),
        (PROCESS + "async def setup(self, ctx): ...", "setup is 'async def'", "write def setup(self, ctx)"),
        (PROCESS + "setup = None", "setup is None, no method", "write def setup(self, ctx)"),
        (PROCESS + "def setUp(self, ctx): ...", "setUp is never called", "write def setup(self, ctx)"),
        (PROCESS + "def teardown(self, ctx): ...", "teardown(self, ctx) cannot be", "write def teardown(self)"),
        (PROCESS + "def tear_down(self): ...", "tear_down is never called", "write def teardown(self)"),
        (
            "def process(self, frame, *, state): ...\ndef new_stream(self, key): ...",
            "new_stream(self, key) cannot be called",
            "write def new_stream(self)",
        ),
        (PROCESS + "def __init__(self, model): ...", "missing a required argument: 'model'", "def setup(self, ctx)"),
        (PROCESS + "@abc.abstractmethod\ndef boxes(self): ...", "is abstract", "define boxes"),
    ],
)
def test_a_class_that_cannot_be_a_plugin_is_told_which_method_is_wrong(body: str, wrong: str, remedy: str) -> None:
    registry = Registry()
    with registering_in(registry), pytest.raises(PluginDefinitionError) as caught:
        fs.plugin("finder")(of_class(body))
    assert "Detector" in str(caught.value)
    assert wrong in str(caught.value)
    assert remedy in str(caught.value)
    assert registry.plugins() == []


@pytest.mark.parametrize(
    "body",
    [
        PROCESS,
        PROCESS + "def setup(self, ctx, path='x'): ...\ndef teardown(self, *rest): ...",
        PROCESS + "def __init__(self, model=None): ...",
        PROCESS + "def setup(self, context, /): ...\ndef analyse(self, picture, also): ...",
        PROCESS + "@staticmethod\ndef setup(ctx): ...\n@classmethod\ndef teardown(cls): ...",
        PROCESS + "def setup(self, ctx): self.set_up()\ndef set_up(self): ...",
        PROCESS + "@given(7)\ndef setup(self, ctx, model): ...\n@given(7)\ndef __init__(self, model): ...",
        PROCESS + "def __init__(self): self.set_up()\ndef set_up(self): ...",
        PROCESS + "def __init__(self): self.ending = lambda: self.tear_down()\ndef tear_down(self): ...",
        PROCESS + "class SetUp: ...",
        "def process(self, frame, *, state): return {}\nnew_stream = staticmethod(dict)",
        "def process(self, *pictures): return {}",
        "def process(self, frame, state, *, ctx): return {}\ndef new_stream(self): return {}",
    ],
)
def test_a_class_that_can_be_called_as_plugins_are_is_one(body: str) -> None:
    assert define(of_class(body)).is_class


SETUP = PROCESS + "def setup(self, ctx, *, model: str = 's.pt', size: Annotated[int, Field(ge=1)] = 3): ..."


@pytest.mark.parametrize("chosen", [None, {}, {"model": "large.pt"}, {"model": "x", "size": 9}])
def test_options_of_setup_are_chosen_where_the_plugin_is_registered(chosen: Any) -> None:
    plugin = define(of_class(SETUP), setup=chosen)
    assert plugin.setup_options == (chosen or {})
    assert plugin.schema.json_schema["properties"] == {}, "they are no options of a frame"


@pytest.mark.parametrize(
    ("body", "chosen", "reason"),
    [
        (SETUP, {"modle": "x"}, "setup: modle: no such option; did you mean 'model'"),
        (SETUP, {"size": 0}, "setup: size: 0 is less than 1"),
        (SETUP, {"size": "3"}, "setup: size: input should be a valid integer, got '3'; choose them with @fs.plugin"),
        (PROCESS + "def setup(self, ctx, *, model: str): ...", {}, "setup: model: field required"),
        (PROCESS + "def setup(self, ctx): ...", {"model": 1}, "setup: model: no such option"),
        (PROCESS, {"model": 1}, "is for a class with def setup"),
    ],
)
def test_options_of_setup_that_cannot_be(body: str, chosen: dict[str, Any], reason: str) -> None:
    with pytest.raises(PluginDefinitionError) as caught:
        define(of_class(body), setup=chosen)
    assert reason in str(caught.value)


def test_progress_is_a_percentage_whatever_numbers_it_is_given() -> None:
    for done, total, percent in ((1, 4, 25.0), (np.float32(1), np.int64(3), 33.3), (9, 4, 100.0), (-1, 4, 0.0)):
        said: list[float] = []
        Context(report=said.append).progress(done, total)
        assert said == [percent]
        assert type(said[0]) is float


def test_progress_is_not_said_twice_nor_too_often() -> None:
    said: list[float] = []
    context = Context(report=said.append)
    for done in range(1000):
        context.progress(done // 10)
    assert said[0] == 0.0
    assert len(said) < 100


@pytest.mark.parametrize(
    ("done", "total"), [(1, 0), (1, -1), (float("nan"), 1), (1, float("nan")), (float("inf"), float("inf"))]
)
def test_progress_that_is_no_number(done: float, total: float) -> None:
    with pytest.raises(ValueError, match="progress"):
        Context().progress(done, total)


def test_a_context_of_its_own_swallows_everything() -> None:
    context = Context()
    context.progress(1)
    context.log("x")
    assert context.cancelled is False
