"""Which names a plugin uses, and which of them do not stand yet while its cell or file is still running.

A decorator runs before the name of what it decorates exists, and before everything below it. What is packed then has
old values, or none. So a plugin that uses such names is packed later (see `Registry.defer`): when its cell has run, or
when it is first used.
"""

from __future__ import annotations

import ast
import builtins
import dis
import linecache
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

_MODULE_CODE = ("<module>", "<cell")  # names of the code of a module, and of a cell
_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


def unsettled_names(target: Callable[..., Any]) -> set[str]:
    """The names that a plugin uses and that may still change when the module that is running now goes on.

    Called in the decorator. These are names that do not exist, and those that the rest of the running cell, script or
    module gives a value to, or calls a method of.

    Args:
        target: The function or class.
    """
    module = globals_of(target)
    frame = _running_module(module)
    later = set() if frame is None else {target.__name__} | _names_changed_below(frame)
    changing = names_used(target) & later
    return {name for name in changing if not isinstance(module.get(name), types.ModuleType)} | missing_names(target)


def place_of(target: Callable[..., Any]) -> types.TracebackType | None:
    """Where the cell, script or module that defines a plugin is executing now; None if that has ended."""
    frame = _running_module(globals_of(target))
    return None if frame is None else types.TracebackType(None, frame, frame.f_lasti, frame.f_lineno)


def missing_names(target: Callable[..., Any]) -> set[str]:
    """The names that a plugin uses and that do not exist: globals of its module, and variables around it."""
    module = globals_of(target)
    missing = {name for name in names_used(target) if name not in module and not hasattr(builtins, name)}
    return missing | {name for function in _functions_of(target) for name in _empty_cells(function)}


def names_used(target: Callable[..., Any]) -> set[str]:
    """The globals that a function or class uses, also by functions and classes of the same module that it uses."""
    found: set[str] = set()
    module = globals_of(target)
    waiting, seen = [target], {id(target)}
    while waiting:
        for function in _functions_of(waiting.pop()):
            if function.__globals__ is not module:
                continue
            for name in _globals_in(function.__code__) - found:
                found.add(name)
                value = module.get(name)
                if isinstance(value, (types.FunctionType, type)) and id(value) not in seen:
                    seen.add(id(value))
                    waiting.append(value)
    return found


def globals_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The globals of the module that defines it; empty if none of it is in Python."""
    return next((function.__globals__ for function in _functions_of(target)), {})


def _functions_of(target: Any) -> Iterator[types.FunctionType]:
    """The function, or the methods of a class and of its bases."""
    if isinstance(target, types.FunctionType):
        yield target
        wrapped = getattr(target, "__wrapped__", None)
        if wrapped is not None:
            yield from _functions_of(wrapped)
    elif isinstance(target, type):
        for base in target.__mro__:
            for member in vars(base).values():
                if not isinstance(member, type):
                    yield from _functions_of_member(member)
                elif member.__qualname__.startswith(f"{base.__qualname__}."):
                    yield from _functions_of(member)


def _functions_of_member(member: Any) -> Iterator[types.FunctionType]:
    if isinstance(member, property):
        for part in (member.fget, member.fset, member.fdel):
            yield from _functions_of(part)
    else:
        yield from _functions_of(getattr(member, "__func__", getattr(member, "func", member)))


def _globals_in(code: types.CodeType) -> set[str]:
    """The names of globals in code, and in the functions within."""
    names = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_in(constant)
    return names


def _empty_cells(function: types.FunctionType) -> Iterator[str]:
    """The variables around a function that have no value yet."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cell.cell_contents  # noqa: B018 -- raises if there is nothing in it
        except ValueError:
            yield name


def _running_module(module: dict[str, Any]) -> types.FrameType | None:
    """The frame in which a module, script or cell with these globals is being executed; None if that has ended."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not (frame.f_globals is module and frame.f_code.co_name.startswith(_MODULE_CODE)):
        frame = frame.f_back
    return frame


def _names_changed_below(frame: types.FrameType) -> set[str]:
    """The names that a module still gives values to, from the statement on that it is executing."""
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set()  # lines that only a notebook knows, such as `%time`
    rest = [one for one in statements if (one.end_lineno or one.lineno) >= frame.f_lineno]
    return {name for statement in rest for node in ast.walk(statement) for name in _names_changed_by(node)}


def _names_changed_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        yield from _base_of(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from _base_of(node.func)


def _base_of(node: ast.expr) -> Iterator[str]:
    """The variable at the beginning of `a.b[c].d`."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
