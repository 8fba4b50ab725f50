"""A misspelt keyword is answered with the one that was meant.

For the doors that people call with settings as keywords. What Python says of an unknown keyword names it and nothing
else; here it is still a `TypeError`, which names the nearest, or all there are. A function that takes any keyword (the
options of a plugin) cannot be such a door: there, an option that the plugin has not may be a keyword misspelt.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from forgesyte_nb.errors import InvalidOptions

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_NOWHERE: Mapping[str, str] = MappingProxyType({})


def known_keywords(
    elsewhere: Mapping[str, str] = _NOWHERE,
) -> Callable[[Callable[Given, Returned]], Callable[Given, Returned]]:
    """Decorate a function, or the `__init__` of a class, whose misspelt keywords are to be explained.

    Args:
        elsewhere: Names that it does not take, but people look for there, and how each is given instead.

    Returns:
        The decorator. What it decorates raises `TypeError` for a keyword that it does not take.
    """

    def decorate(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
        parameters = inspect.signature(function).parameters.values()
        names = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        names = [name for name in names if name != "self"]
        door = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def checked(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
            unknown = kwargs.keys() - names
            if unknown:
                raise TypeError(_explain(door, min(unknown), names, elsewhere))
            return function(*args, **kwargs)

        return checked

    return decorate


@contextlib.contextmanager
def own_keywords(door: Callable[..., Any], options: Collection[str]) -> Iterator[None]:
    """Within it, of an option that is refused and nearly a keyword of the function itself, that one is named, too.

    Args:
        door: The function.
        options: What it was given as the plugin's options by keywords.

    Raises:
        InvalidOptions: What was raised within, with what may have been meant.
    """
    try:
        yield
    except InvalidOptions as error:
        parameters = inspect.signature(door).parameters.values()
        names = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
        refused = [one for one in options if re.search(rf"(?<!\w){re.escape(one)}: no such option", str(error))]
        near = [name for option in refused for name in difflib.get_close_matches(option, names, n=1)]
        if not near:
            raise
        said = f"{error}; did you mean {near[0]}=, which {door.__name__}() takes?"
        raise InvalidOptions(said, detail=error.detail) from error


def _explain(door: str, unknown: str, names: Collection[str], elsewhere: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(unknown, [*names, *elsewhere], n=1)
    if not near:
        return f"{door}() has no setting '{unknown}'; there are {', '.join(names)}"
    return f"{door}() has no setting '{unknown}'; did you mean {elsewhere.get(near[0], repr(near[0]))}?"
