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

from forgesyte_nb.errors import ConnectionLost, InvalidOptions, PluginNotFound

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_NOWHERE: Mapping[str, str] = MappingProxyType({})
_SAME: Mapping[str, str] = MappingProxyType({"url": "server", "server": "url"})
"""What some doors call a server, and what others do."""

_MEANT = re.compile(r"; did you mean \w+=, which \w+\(\) takes\?$")


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
        door: The function, or the class.
        options: What it was given as the plugin's options by keywords.

    Raises:
        InvalidOptions: What was raised within, with what may have been meant.
        PluginNotFound: As above: a server given by another keyword may be the one that has the plugin.
        ConnectionLost: As above.
    """
    try:
        yield
    except InvalidOptions as error:
        if (explained := with_own_keywords(error, door, options)) is error:
            raise
        raise explained from error
    except (PluginNotFound, ConnectionLost) as error:
        meant = {_SAME[option] for option in options if option in _SAME}.intersection(_keywords_of(door))
        if not meant:
            raise
        raise type(error)(f"{error}{_meant(meant.pop(), door)}") from error


def with_own_keywords(error: InvalidOptions, door: Callable[..., Any], options: Collection[str]) -> InvalidOptions:
    """The error with the keyword of `door` that may have been meant, or as it is; see `own_keywords`."""
    said = _MEANT.sub("", str(error))  # a door behind this one may have named its own
    refused = [one for one in options if re.search(rf"(?<!\w){re.escape(one)}: no such option", said)]
    if "JSON cannot say" in said:
        refused += [one for one in options if one in _SAME]  # a `Server` that a plugin was to be given as an option
    near = [name for option in refused if (name := _nearest(option, _keywords_of(door)))]
    return InvalidOptions(f"{said}{_meant(near[0], door)}", detail=error.detail) if near else error


def _keywords_of(door: Callable[..., Any]) -> list[str]:
    return [one.name for one in inspect.signature(door).parameters.values() if one.kind is one.KEYWORD_ONLY]


def _meant(name: str, door: Callable[..., Any]) -> str:
    return f"; did you mean {name}=, which {door.__name__}() takes?"


def _nearest(given: str, names: Collection[str]) -> str | None:
    if _SAME.get(given) in names:
        return _SAME[given]
    return next(iter(difflib.get_close_matches(given, names, n=1)), None)


def _explain(door: str, unknown: str, names: Collection[str], elsewhere: Mapping[str, str]) -> str:
    near = _nearest(unknown, [*names, *elsewhere])
    if near is None:
        return f"{door}() has no setting '{unknown}'; {'there are ' + ', '.join(names) if names else 'it takes none'}"
    return f"{door}() has no setting '{unknown}'; did you mean {elsewhere.get(near, repr(near))}?"
