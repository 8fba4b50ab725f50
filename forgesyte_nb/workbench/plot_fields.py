"""Dotted paths to the numbers of a result: "result.confidence", "latency_ms", "result.boxes.0.score".

A path begins with an attribute of `Result` and goes down through the keys of dicts and the indexes of lists.
Numbers and booleans (0 and 1) are taken as they are, lists by their length, `.length` is the length of a list, dict or
text. Everything else is no number, and `no_number` says why, with the paths that would do.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from forgesyte_nb.client.results import Result

ROOTS = ("result", "processing_time_ms", "latency_ms", "timings", "ok", "seq", "plugin_revision")
"""Attributes of `Result` that hold numbers."""

LARGEST = 1e100
"""Numbers beyond it are drawn as missing: differences of the largest floats are infinite, and axes need differences."""

_UNITS = {"ms": "ms", "s": "s", "us": "µs", "bytes": "bytes", "px": "px", "percent": "%", "deg": "°", "fps": "fps"}
_LISTED = 12
_LOOKED_AT = 500  # paths of a result, for what lies closest to a field that it has not
_LIKENESS = 0.8
_DEPTH = 4
_LIST_ENTRIES = 3


def parse_path(path: str) -> tuple[str, ...]:
    """The steps of a path.

    Raises:
        ValueError: If it is none.
    """
    steps = tuple(path.split(".")) if isinstance(path, str) else ()
    if not steps or not all(steps):
        raise ValueError(f"{path!r} is no field; name one by its path, such as 'result.confidence' or 'latency_ms'")
    if steps[0] not in ROOTS:
        raise ValueError(
            f"a result has no {steps[0]!r}; a path begins with {', '.join(ROOTS)}: "
            f"what the plugin returned as {path!r} is 'result.{path}'"
        )
    return steps


class Field:
    """A path, and what was found at its end so far.

    Attributes:
        path: As it was given.
        found: Whether any result had a number there.
        boolean: Whether all that was found was true or false.
    """

    __slots__ = ("_steps", "boolean", "found", "path")

    def __init__(self, path: str) -> None:
        """Of a path.

        Raises:
            ValueError: If it is none.
        """
        self.path = path
        self.found = self.boolean = False
        self._steps = parse_path(path)

    def of(self, result: Result) -> float:
        """Its number in a result; NaN if there is none."""
        try:
            value = look_up(result, self._steps)
        except LookupError:
            return math.nan
        number = number_of(value)
        if number == number:
            self.boolean = isinstance(value, bool) and (self.boolean or not self.found)
            self.found = True
        return number


def unit_of(path: str) -> str:
    """The unit in a field's name ("latency_ms": "ms"); empty if there is none."""
    _, underscore, suffix = path.rpartition(".")[2].rpartition("_")
    return _UNITS.get(suffix, "") if underscore else ""


def look_up(result: Result, steps: Sequence[str]) -> Any:
    """What a path leads to.

    Raises:
        LookupError: If it leads nowhere.
    """
    value = getattr(result, steps[0])
    for step in steps[1:]:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif step == "length" and isinstance(value, (list, tuple, dict, str)):
            value = len(value)
        elif isinstance(value, (list, tuple)) and step.isdecimal():
            value = value[int(step)]
        else:
            raise LookupError(step)
    return value


def number_of(value: Any) -> float:
    """A value as the number that is drawn; NaN if it is none."""
    if isinstance(value, (list, tuple)):
        return float(len(value))
    if not isinstance(value, (bool, int, float)):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def numeric_paths(result: Result) -> list[str]:
    """All paths of a result that lead to numbers, what the plugin returned first."""
    return list(_numeric(result))


def _numeric(result: Result) -> Iterator[str]:
    return (path for root in ROOTS for path in _walk(root, getattr(result, root), _DEPTH))


def _walk(path: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        yield f"{path}.length"
    elif not math.isnan(number_of(value)):
        yield path
    if depth == 0:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and key and "." not in key:
                yield from _walk(f"{path}.{key}", inner, depth - 1)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value[:_LIST_ENTRIES]):
            yield from _walk(f"{path}.{index}", inner, depth - 1)


@functools.lru_cache(maxsize=64)  # asked anew with every picture, of results that mostly have the same fields
def _closest_first(path: str, paths: tuple[str, ...]) -> list[str]:
    matcher = difflib.SequenceMatcher(b=path)

    def likeness(other: str) -> float:
        matcher.set_seq1(other)
        return matcher.ratio()

    return sorted(paths, key=likeness, reverse=True)


def no_number(path: str, result: Result) -> str:
    """Why a path finds nothing to draw in a result, and what would, the closest first."""
    there = _closest_first(path, tuple(itertools.islice(_numeric(result), _LOOKED_AT)))
    listed = ", ".join(there[:_LISTED]) + (f" and {len(there) - _LISTED} more" if len(there) > _LISTED else "")
    near = difflib.get_close_matches(path, there[:1], cutoff=_LIKENESS)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    try:
        value = look_up(result, parse_path(path))
    except LookupError:
        return (
            f"no result has {path!r}{hint} There are: {listed}"
            if near
            else f"no result has {path!r}; there are: {listed}"
        )
    kind = {str: "text", dict: "an object", type(None): "null"}.get(type(value), "no number that can be drawn")
    return f"{path!r} is {kind}, not a number{hint} there are: {listed}"
