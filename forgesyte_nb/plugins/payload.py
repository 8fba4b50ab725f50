"""How a plugin travels to a worker: the source of its file, or a pickle of what a cell defined.

A plugin from a file is sent as that file's text and executed there as a module, so its imports, module state and line
numbers are its own. That module is in `sys.modules` for as long as one of its plugins is in use. One from a cell or
a script is sent with cloudpickle, along with the lines of its source, so that tracebacks in the worker show them.
Pickles are made from the user's own objects and read only from the private socket of a worker; nothing from a client
ever comes here.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import linecache
import os
import pickle
import re
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.contract import Plugin, call_of, define
from forgesyte_nb.plugins.local_modules import import_changed, imports_in, local_modules, stamp_of
from forgesyte_nb.plugins.pickling import calls_of, modules_in, pickle_plugin

LARGE_BYTES = 1024 * 1024
"""Size from which a plugin's pickled surroundings earn a warning."""


_PACKAGE = __file__.rpartition("plugins")[0]


@dataclass(frozen=True)
class Payload:
    """A plugin, ready to travel.

    Attributes:
        name: The plugin's name.
        revision: Its revision.
        source: Text of its file; empty if it is pickled.
        path: Path of that file.
        pickled: cloudpickle of the target; empty if it has a file.
        arguments: The decorator's, for `define`.
        lines: Source lines by file name, for tracebacks.
        sys_path: The sender's `sys.path`, so that imports find the same.
        modules: Files of the local modules that it uses, and a stamp of their state (`local_modules.py`).
    """

    name: str
    revision: int
    source: str
    path: str
    pickled: bytes
    arguments: dict[str, Any]
    lines: dict[str, list[str]] = field(default_factory=dict)
    sys_path: list[str] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)

    @property
    def modules_now(self) -> dict[str, str]:
        """As `modules`, with the state that the files are in now."""
        return {path: stamp_of(path) for path in self.modules}

    @property
    def fingerprint(self) -> str:
        """Equal for equal code and surroundings."""
        about = repr((self.arguments, sorted(self.modules.items())))
        surroundings = self.source.encode() + _untracked(self.pickled) + about.encode()
        return hashlib.sha256(surroundings).hexdigest()


def pack(plugin: Plugin) -> Payload:
    """Make a plugin ready to travel.

    Raises:
        PluginDefinitionError: If it holds on to something that cannot leave the process.
    """
    arguments = {"timeout_s": plugin.timeout_s, "engine": plugin.engine, "version": plugin.version}
    source, path = source_of(plugin), file_of(plugin)
    if source is not None and path is not None:
        modules = files_used_by(plugin)
        return Payload(plugin.name, plugin.revision, source, path, b"", arguments, {}, list(sys.path), modules)
    pickled = pickle_plugin(plugin)
    if len(pickled) > LARGE_BYTES:
        _warn_of_size(plugin, len(pickled))
    lines = {plugin.origin: linecache.getlines(plugin.origin)} if plugin.origin else {}
    modules = local_modules(modules_in(pickled))
    return Payload(plugin.name, plugin.revision, "", "", pickled, arguments, lines, list(sys.path), modules)


def is_from_file(plugin: Plugin) -> bool:
    """Whether it was loaded from a plugin file, rather than defined in a cell, a script or a package."""
    return file_of(plugin) is not None


def is_cell(origin: str) -> bool:
    """Whether code that goes by this name (`Plugin.origin`) is that of a cell or a prompt, not of a file."""
    return origin.startswith("<") or PurePath(origin).parent.name.startswith(("ipykernel_", "xpython_"))


def file_of(plugin: Plugin) -> str | None:
    """Path of the plugin file it was loaded from; None if it comes from elsewhere."""
    return sys.modules[plugin.target.__module__].__file__ if source_of(plugin) is not None else None


def source_of(plugin: Plugin) -> str | None:
    """Text of the plugin file it was loaded from; None if it comes from elsewhere."""
    return getattr(sys.modules.get(plugin.target.__module__), "__forgesyte_source__", None)


def files_used_by(plugin: Plugin) -> dict[str, str]:
    """The files of local modules that a plugin file imported when it was loaded, and a stamp of their state."""
    found: dict[str, str] = getattr(sys.modules.get(plugin.target.__module__), "__forgesyte_modules__", {})
    return found


def unpack(payload: Payload) -> Plugin:
    """The plugin on the other side.

    Raises:
        PluginDefinitionError: If its file or pickle cannot be loaded here.
        Exception: Whatever the file's own code raises.
    """
    for path in payload.sys_path:
        if path not in sys.path:
            sys.path.append(path)
    for name, lines in payload.lines.items():
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    if payload.source:
        found = {plugin.name: plugin for plugin in load_source(payload.source, payload.path)}
        if payload.name not in found:
            raise PluginDefinitionError(f"{payload.path} no longer defines the plugin '{payload.name}'")
        return replace(found[payload.name], revision=payload.revision)
    target, all_hints, setup = pickle.loads(payload.pickled)  # noqa: S301 -- from the user's own kernel, see above
    for call, hints in zip(calls_of(target), all_hints, strict=True):
        if hints is not None:
            call.__annotations__ = hints
    return replace(define(target, payload.name, setup=setup, **payload.arguments), revision=payload.revision)


def load_source(source: str, path: str) -> list[Plugin]:
    """Execute the text of a plugin file and return the plugins it defines, unregistered.

    Raises:
        SyntaxError: As Python raises it.
        Exception: Whatever the file's own code raises.
    """
    from forgesyte_nb.plugins.registry import Registry, registering_in

    used = _import_siblings(source, path)
    code = compile(source, path, "exec")
    module = _new_module(source, path)
    module.__dict__["__forgesyte_source__"] = source
    module.__dict__["__forgesyte_modules__"] = used
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    collected = Registry()
    found: list[Plugin] = []
    try:
        with registering_in(collected), _executing(path):
            exec(code, module.__dict__)  # noqa: S102 -- a plugin file is code that the user put in the folder
        found = [plugin for plugin in collected.plugins() if plugin.target.__module__ == module.__name__]
    finally:
        _keep_while_used(module, found)
    return found


_executed: ContextVar[str] = ContextVar("_executed", default="")


@contextmanager
def _executing(path: str) -> Iterator[None]:
    token = _executed.set(path)
    try:
        yield
    finally:
        _executed.reset(token)


def executed_file() -> str:
    """Path of the plugin file whose code calls this while it is loaded; empty elsewhere."""
    return _executed.get()


def _import_siblings(source: str, path: str) -> dict[str, str]:
    """Let a plugin file import the files beside it, as they are now; the files of local modules that it imports.

    Its folder is put at the end of `sys.path`, to shadow nothing.
    """
    folder = os.path.dirname(os.path.realpath(path))
    if folder not in sys.path:
        sys.path.append(folder)
    used = local_modules(imports_in(source))
    import_changed({file: stamp for file, stamp in used.items() if file.startswith(os.path.join(folder, ""))})
    return used


_again = itertools.count(2)


def _new_module(source: str, path: str) -> types.ModuleType:
    """An empty module in `sys.modules`, where dataclasses, pickles and type hints look theirs up."""
    digest = hashlib.sha256(path.encode() + b"\0" + source.encode()).hexdigest()[:12]
    stem = path.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    name = f"forgesyte_plugin_{stem}_{digest}"
    module = types.ModuleType(name)
    module.__file__ = path
    while sys.modules.setdefault(module.__name__, module) is not module:  # the same text, loaded for another registry
        module.__name__ = f"{name}_{next(_again)}"
    return module


def _keep_while_used(module: types.ModuleType, plugins: list[Plugin]) -> None:
    """Leave a module in `sys.modules` until the last of its plugins has gone; at once, if it has none."""
    used = {plugin.name for plugin in plugins}

    def gone(name: str) -> None:
        used.discard(name)
        if not used:
            sys.modules.pop(module.__name__, None)

    for plugin in plugins:
        # The schema is what all copies of a plugin share.
        weakref.finalize(plugin.schema, gone, plugin.name).atexit = False
    if not plugins:
        gone("")


_TRACKER_ID = re.compile(rb"\x8c\x20([0-9a-f]{32})")  # a pickled text of 32 hexadecimal digits


def _untracked(pickled: bytes) -> bytes:
    """A pickle without the random id that cloudpickle gives each class: a cell run again makes the same class anew."""
    from cloudpickle import cloudpickle

    tracked = {one.encode() for one in getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {}).values()}
    return _TRACKER_ID.sub(lambda found: b"" if found[1] in tracked else found[0], pickled)


def _warn_of_size(plugin: Plugin, size: int) -> None:
    """Name the globals that make a plugin heavy."""
    call = call_of(plugin.target)
    weights: list[tuple[int, str]] = []
    for name, value in _globals_of(call).items():
        if not isinstance(value, types.ModuleType):
            weights.append((_weight(value), name))
    heaviest = ", ".join(f"{name} ({weight / 1e6:.1f} MB)" for weight, name in sorted(weights)[:-4:-1] if weight > 9999)
    warnings.warn(
        f"plugin '{plugin.name}' takes {size / 1e6:.1f} MB of globals along to each worker: "
        f"{heaviest or 'see its closure'}. Load such things in setup() of a class plugin, from a file, so that they "
        "are not sent again with every change.",
        stacklevel=_level_outside(),
    )


def _level_outside() -> int:
    """The `stacklevel` by which a warning of our caller points at the first line outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def _globals_of(call: Callable[..., Any]) -> dict[str, Any]:
    try:
        variables = inspect.getclosurevars(call)
    except (TypeError, ValueError):
        return {}
    return {**variables.globals, **variables.nonlocals}


def _weight(value: object) -> int:
    import cloudpickle

    try:
        return len(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 -- only an estimate for a warning; what cannot be pickled alone weighs nothing
        return 0
