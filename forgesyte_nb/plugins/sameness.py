"""Whether a plugin that stays in this process is the one before it: a cell run again makes equal code anew.

Such a plugin cannot be pickled to compare it. Two are the same if they come from the same text (a cell's file name
is made of its text), do what they do with the same globals, and hold equal defaults, closures and class attributes.
What cannot be told to be equal is taken to be different: a new revision too many does no harm.
"""

from __future__ import annotations

import types
from typing import Any

from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.payload import file_of, files_used_by, source_of

_VALUES = (bool, int, float, complex, str, bytes, type(None), type(...))
_MADE_BY_PYTHON = frozenset({"__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"})


def is_same(old: Plugin, new: Plugin) -> bool:
    """Whether `new` would do what `old` does."""
    said = [(one.engine, one.timeout_s, one.version) for one in (old, new)]
    if said[0] != said[1] or not _same(old.setup_options, new.setup_options, set()):
        return False
    if source_of(new) is not None:
        return _text_of(old) == _text_of(new)
    return _same(old.target, new.target, set())


def _text_of(plugin: Plugin) -> tuple[str | None, str | None, dict[str, str]]:
    return source_of(plugin), file_of(plugin), files_used_by(plugin)


def _same(old: Any, new: Any, seen: set[tuple[int, int]]) -> bool:
    if old is new or (id(old), id(new)) in seen:  # the second: a class's methods hold on to the class
        return True
    if type(old) is not type(new):
        return False
    seen.add((id(old), id(new)))
    if isinstance(old, _VALUES):
        return bool(old == new)
    if isinstance(old, types.FunctionType):
        return _same_function(old, new, seen)
    if isinstance(old, type):
        return old.__qualname__ == new.__qualname__ and _same(_parts_of(old), _parts_of(new), seen)
    if isinstance(old, (staticmethod, classmethod)):
        return _same(old.__func__, new.__func__, seen)
    if isinstance(old, property):
        return _same((old.fget, old.fset, old.fdel), (new.fget, new.fset, new.fdel), seen)
    if isinstance(old, (tuple, list)):
        return len(old) == len(new) and all(_same(one, other, seen) for one, other in zip(old, new, strict=True))
    if isinstance(old, dict):
        return list(old) == list(new) and all(_same(old[key], new[key], seen) for key in old)
    return isinstance(old, types.CellType) and _same(_contents(old), _contents(new), seen)


def _same_function(old: types.FunctionType, new: types.FunctionType, seen: set[tuple[int, int]]) -> bool:
    return (
        old.__code__ == new.__code__
        and old.__code__.co_filename == new.__code__.co_filename
        and old.__globals__ is new.__globals__
        and _same(
            (old.__defaults__, old.__kwdefaults__, old.__closure__, old.__annotations__, old.__dict__),
            (new.__defaults__, new.__kwdefaults__, new.__closure__, new.__annotations__, new.__dict__),
            seen,
        )
    )


def _parts_of(cls: type) -> tuple[Any, ...]:
    return (cls.__bases__, {name: part for name, part in vars(cls).items() if name not in _MADE_BY_PYTHON})


def _contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()  # not assigned yet
