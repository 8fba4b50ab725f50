"""How a function or class that a cell, script or package defines is pickled, so that a worker has all that it uses.

cloudpickle takes along what is defined in `__main__`. Here it takes along also what is in modules that a worker could
not import, the names of files for tracebacks, and the objects that dataclasses compare by identity.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import os
import re
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.contract import Plugin, call_of
from forgesyte_nb.plugins.local_modules import is_local, local_places
from forgesyte_nb.plugins.options import type_hints


def pickle_plugin(plugin: Plugin) -> bytes:
    """A pickle of a plugin's function or class, the types of its options, and the options of its `setup`.

    Raises:
        PluginDefinitionError: If it holds on to something that cannot leave the process.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped
        dispatch_table = ChainMap(
            {types.CodeType: _reduce_code, **dict.fromkeys(_SENTINELS, _reduce_sentinel)},
            cloudpickle.Pickler.dispatch_table,
        )

    target: Callable[..., Any] = plugin.target
    for module in _not_importable(target):
        cloudpickle.register_pickle_by_value(module)
    file = io.BytesIO()
    try:
        Pickler(file).dump((target, [_hints_of(call) for call in calls_of(target)], plugin.setup_options))
        return file.getvalue()
    except Exception as error:
        raise PluginDefinitionError(
            f"{plugin.name}: cannot be sent to a worker process: {error}. It uses something that lives in this "
            'process only; create it inside the function, or use @fs.plugin(engine="threads")'
        ) from error


def _not_importable(target: Callable[..., Any]) -> Iterator[types.ModuleType]:
    """Modules that no worker could import: the plugin's own, if it was made at run time, and files loaded by path."""
    own = sys.modules.get(getattr(target, "__module__", ""))
    if own is not None and own.__name__ != "__main__" and getattr(own, "__file__", None) is None:
        yield own
    for name, module in sys.modules.copy().items():
        if not isinstance(module, types.ModuleType) or name == "__main__" or module.__name__ != name:
            continue
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and is_local(file) and not _is_importable(name, file):
            yield module


def _is_importable(name: str, file: str) -> bool:
    """True if importing that name finds that file."""
    parent = sys.modules.get(name.rpartition(".")[0])
    paths = getattr(parent, "__path__", None)
    for finder in sys.meta_path:
        spec = finder.find_spec(name, paths) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(file)
    return False


_SHORT_TEXT = re.compile(rb"(?=\x8c.([A-Za-z_][A-Za-z0-9_]*))", re.DOTALL)
"""A text that begins with a name, as pickle writes it (opcode SHORT_BINUNICODE, length, UTF-8)."""


def modules_in(pickled: bytes) -> set[str]:
    """The names of local modules that a pickle has texts of, of imports in functions too; of `a.b` the name `a`."""
    return {name.decode() for name in _SHORT_TEXT.findall(pickled)} & set(local_places())


_SENTINEL_NAMES = ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")
_SENTINELS = {type(one): name for name, one in vars(dataclasses).items() if name in _SENTINEL_NAMES}


def _reduce_sentinel(sentinel: object) -> tuple[Any, ...]:
    """The object that dataclasses compares with by identity, and no copy of it."""
    return getattr, (dataclasses, _SENTINELS[type(sentinel)])


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    """Code as cloudpickle makes it, which since 3.1.3 leaves out the name of the file: tracebacks find lines by it."""
    import cloudpickle

    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)[:2]
    # A text of its own each time: a pickle says whether two are the same object, which may differ for equal code.
    return _code_in_file, ("".join(code.co_filename), make, arguments)


def _code_in_file(filename: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)


def calls_of(target: Callable[..., Any]) -> list[Any]:
    """The functions of a plugin that have options: what is called for each frame, and `setup`."""
    setup = getattr(target, "setup", None) if inspect.isclass(target) else None
    return [call_of(target)] if setup is None else [call_of(target), setup]


def _hints_of(call: Callable[..., Any]) -> dict[str, Any] | None:
    """Types of options that are annotated as text (`from __future__ import annotations`).

    What such a text names does not travel with the code, so the type travels here. None if no annotation is a text.
    """
    annotations = getattr(call, "__annotations__", {})
    if not any(isinstance(annotation, str) for annotation in annotations.values()):
        return None
    parameters = inspect.signature(call).parameters.values()
    options = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} | {"options"}
    return {name: hint for name, hint in type_hints(call).items() if name in options}
