"""Whether a class can be a plugin: it is made without arguments, and its methods are called what they are called here.

Looked at when the class is registered, so that a wrong name or signature is told in the cell that has it, and not
with each frame. Nothing is made or called.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

from forgesyte_nb.errors import PluginDefinitionError

METHODS = {
    "process": "process(self, frame, *, …)",
    "setup": "setup(self, ctx)",
    "teardown": "teardown(self)",
    "new_stream": "new_stream(self)",
}
"""The methods that are called, and how each is written."""

_ARGUMENTS = {"process": 1, "setup": 1, "teardown": 0, "new_stream": 0}
_KINDS = {staticmethod: "a static method", classmethod: "a class method"}
_PLAIN = (types.FunctionType, staticmethod, classmethod)
_LISTED = 5


def check_class(target: type, name: str) -> None:
    """See that a class can be a plugin, as far as that can be seen without making one.

    Args:
        target: The class.
        name: Of the plugin.

    Raises:
        PluginDefinitionError: Naming the class, the method, what is wrong, and the signature expected.
    """
    _check_process_is_there(target, name)
    for method in METHODS:
        if hasattr(target, method):
            _check_method(target, name, method)
        else:
            _check_not_misnamed(target, name, method)
    _check_can_be_made(target, name)


def not_plain(call: Any) -> str:
    """What is wrong with a function that does not return its result when called, and the alternative; else empty."""
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        return (
            "is 'async def', which is not awaited: make it 'def'. Calls that wait for a network run side by side in "
            'threads: @fs.plugin(engine="threads"), fs.serve(workers=16), fs.stream(…, concurrency=16)'
        )
    if inspect.isgeneratorfunction(call):
        return "has a 'yield', but a frame has one result: collect what is found in a dict, and return that"
    return ""


def keyword_only(call: Any) -> list[str]:
    """The names of the keyword-only parameters of a function."""
    signature = _signature(call)
    return [] if signature is None else [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]


def _refusal(target: type, name: str, wrong: str, method: str) -> PluginDefinitionError:
    return PluginDefinitionError(f"{name}: class {target.__name__}{wrong}; write def {METHODS[method]}")


def _check_process_is_there(target: type, name: str) -> None:
    if hasattr(target, "process"):
        return
    others = [
        f"{method}{inspect.signature(function)}"
        for method, function in vars(target).items()
        if inspect.isfunction(function) and not method.startswith("_") and method not in METHODS
    ]
    has = f", which is called for each frame (it has {', '.join(others[:_LISTED])})" if others else ""
    raise _refusal(target, name, f" has no method process{has}", "process")


def _check_method(target: type, name: str, method: str) -> None:
    """See that a method can be called as it will be."""
    static, called = inspect.getattr_static(target, method, None), getattr(target, method)
    if not callable(called):
        raise _refusal(target, name, f": {method} is {_cut(repr(called))}, no method", method)
    if method == "process" and type(static) in _KINDS:
        raise _refusal(target, name, f": process is {_KINDS[type(static)]}, not one of its instances", method)
    if reason := not_plain(called):
        raise _refusal(target, name, f": {method} {reason}", method)
    signature = _signature(called) if isinstance(static, _PLAIN) else None
    if signature is None:
        return  # made by something that only it knows how to call
    arguments: list[Any] = [None] * (_ARGUMENTS[method] + isinstance(static, types.FunctionType))
    try:
        if method == "process":
            signature.bind_partial(*arguments)  # the rest are options, which are looked at one by one
        elif method == "setup":
            signature.bind(*arguments, **dict.fromkeys(keyword_only(called)))
        else:
            signature.bind(*arguments)
    except TypeError as error:
        raise _refusal(
            target, name, f": {method}{signature} cannot be called as it is here ({error})", method
        ) from error


def _check_not_misnamed(target: type, name: str, method: str) -> None:
    """A method that is meant by another spelling (`setUp`, `tear_down`) and that the class itself does not call."""
    for other in dir(target):
        is_alike = other.replace("_", "").lower() == method.replace("_", "") and not other.startswith("_")
        if is_alike and isinstance(inspect.getattr_static(target, other), _PLAIN) and not _calls(target, other):
            raise _refusal(target, name, f": {other} is never called, for it is not called {method}", method)


def _calls(target: type, method: str) -> bool:
    """Whether a method of the class, or of those it is made from, names another one."""
    members = (getattr(one, "__func__", one) for base in target.__mro__ for one in vars(base).values())
    codes = [getattr(inspect.unwrap(one), "__code__", None) for one in members if inspect.isfunction(one)]
    while codes:
        code = codes.pop()
        if isinstance(code, types.CodeType):
            if method in code.co_names:
                return True
            codes += code.co_consts  # functions within
    return False


def _check_can_be_made(target: type, name: str) -> None:
    missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
    if missing:
        raise PluginDefinitionError(f"{name}: class {target.__name__} is abstract: define {missing}")
    signature = _signature(target)
    if signature is None:
        return
    try:
        signature.bind()
    except TypeError as error:
        raise PluginDefinitionError(
            f"{name}: class {target.__name__}{signature} is made without arguments ({error}); give them defaults: "
            "def __init__(self), or prepare in def setup(self, ctx)"
        ) from error


def _signature(called: Any) -> inspect.Signature | None:
    """How something is called; a decorator may take other arguments than what it wraps. None if it does not say."""
    try:
        return inspect.signature(called, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
