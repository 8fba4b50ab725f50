"""What a plugin raised, in the words that its client, its author and the log are told.

The client gets one line, which names the line of the plugin's own code; its author the traceback, which begins there,
without the frames of this package that led to it.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
import re
import sysconfig
import traceback
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

from forgesyte_nb.errors import WIRE_ERRORS, PluginDefinitionError, PluginError, WireError
from forgesyte_nb.plugins.registry import Entry

_MESSAGE_CHARS = 2000  # of an exception's text
_DETAIL_CHARS = 64 * 1024  # of a traceback
_PACKAGE = __file__.rpartition("engines")[0]
_LIBRARIES = (
    _PACKAGE,
    "<frozen ",
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)

_DEFINITION = re.compile(r"\s*def\b|.*\blambda\b")


def sayable(text: str) -> str:
    """Text that UTF-8 can say: half of a surrogate pair, as in file names, is written as an escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def as_wire_error(error: BaseException, prefix: str = "") -> WireError:
    """The error a client is told: the exception in one line, the plugin's own traceback as detail."""
    detail = sayable(plugin_traceback(error))[-_DETAIL_CHARS:]
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 -- an exception's __str__ is the user's code, too
        said = "its text cannot be shown"
    said = sayable(said if len(said) <= _MESSAGE_CHARS else f"{said[:_MESSAGE_CHARS]}…")
    if isinstance(error, WireError):
        # A plugin may have made a class of its own of it: on the wire there are the known codes.
        kind = WIRE_ERRORS.get(error.code, PluginError)
        return kind(f"{prefix}{said}", detail=error.detail or detail)
    place = _place_of(error)
    where = f" (line {place.lineno} in {place.name})" if place is not None else ""
    return PluginError(f"{prefix}{type(error).__name__}{': ' if said else ''}{said}{where}", detail=detail)


def as_result_error(error: PluginError, call: Callable[..., Any]) -> WireError:
    """The error of a result that cannot be sent: it names the plugin's function, as the refusal itself is a library's.

    Args:
        error: The refusal.
        call: What returned the result: a function, or a method.
    """
    code = getattr(inspect.unwrap(call), "__code__", None)
    if code is None:
        return as_wire_error(error)
    place = traceback.FrameSummary(code.co_filename, _definition_line(code), code.co_name)
    stack = "".join(traceback.StackSummary.from_list([place]).format())
    said = "".join(traceback.format_exception_only(error))
    detail = sayable(f"Traceback (most recent call last):\n{stack}{said}")[-_DETAIL_CHARS:]
    return PluginError(f"{sayable(str(error))} (line {place.lineno} in {place.name})", detail=detail)


def _definition_line(code: CodeType) -> int:
    """The line of `def`, below the decorators where a function's code begins."""
    lines = linecache.getlines(code.co_filename)
    following = enumerate(lines[code.co_firstlineno - 1 :], code.co_firstlineno)
    return next((number for number, line in following if _DEFINITION.match(line)), code.co_firstlineno)


def let_go(error: BaseException) -> None:
    """Free what the frames of an exception hold, such as a picture.

    They often hold the exception in turn, and all of it would stay until the garbage collector comes by.
    """
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        traceback.clear_frames(link.__traceback__)
        seen.append(link)
        link = link.__cause__ or link.__context__


def raise_in_cell(entry: Entry, error: WireError) -> NoReturn:
    """Raise a lane's loading error where the plugin was defined, with the lane's traceback."""
    raise PluginDefinitionError(f"{entry.plugin.name} {error}\n{error.detail}".rstrip()) from None


def _place_of(error: BaseException) -> traceback.FrameSummary | None:
    """Where it was raised: the innermost line of the plugin's own code, rather than of a library that it calls."""
    stack = traceback.extract_tb(error.__traceback__)
    own = [place for place in stack if not is_library(place.filename)]
    return next(reversed(own or stack), None)


def is_library(path: str) -> bool:
    """Whether a file belongs to Python, an installed package or this one, rather than to a plugin or a cell."""
    return path.startswith(_LIBRARIES) and "shipped_plugins" not in path


def plugin_traceback(error: BaseException) -> str:
    """A traceback that begins in the plugin, without the frames of this package that called it.

    Of an error that this package raised, as for a result that JSON cannot say, no traceback is left.
    """
    shown = traceback.TracebackException.from_exception(error)
    stack = list(shown.stack)
    while stack and stack[0].filename.startswith(_PACKAGE) and "shipped_plugins" not in stack[0].filename:
        stack.pop(0)
    if not stack:
        return "".join(shown.format_exception_only())
    shown.stack[:] = stack
    with contextlib.suppress(RecursionError):
        return "".join(shown.format())
    return repr(error)
