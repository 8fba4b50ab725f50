"""`define` and `@fs.plugin`: what can be a plugin, what it says of itself; `Context` for direct calls."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

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
        (asynchronous, {}, "make it 'def', not 'async def'"),
        (NoProcess, {}, "has no method process"),
        (Static, {}, "has no method process"),
        (OfTheClass, {}, "has no method process"),
        (Attribute, {}, "has no method process"),
        (NewStreamWithoutState, {}, "needs a parameter 'state'"),
        (Called(), {}, "neither a function nor a class"),
        (functools.partial(bright, threshold=1), {"name": "p"}, "neither a function nor a class"),
    ],
)
def test_what_cannot_be_a_plugin_is_told_why(target: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(PluginDefinitionError) as caught:
        define(target, **options)
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
