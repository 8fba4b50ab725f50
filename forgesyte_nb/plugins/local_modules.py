"""Modules that a user edits while a kernel runs: found, compared by their state on disk, imported anew when changed.

Local is what lies outside of the standard library, of `site-packages` and of this package: files beside a notebook,
siblings of a plugin file, packages installed as editable. A worker imports them by name, so code that has changed
reaches it only if its modules are imported anew. Revisions loaded before keep the modules that they have.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1])
_INSTALLED = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_LIBRARIES = tuple({_PACKAGE, *_INSTALLED, *map(os.path.realpath, _INSTALLED)})
_INSTALLED_PARTS = tuple(f"{os.sep}{name}" for name in ("site-packages", "dist-packages"))

_imports: dict[str, tuple[str, frozenset[str]]] = {}  # of a file: its stamp, and what it imports
_loaded: dict[str, str] = {}  # files of local modules that plugins here use, and their stamps


def local_modules(names: Iterable[str]) -> dict[str, str]:
    """The files of local modules, and of the local modules that those import, each with a stamp of its state.

    Args:
        names: Names of modules; those that are not local are left out. Of `a.b` the whole package `a` is taken.
    """
    places = local_places()
    files: dict[str, str] = {}
    waiting = [name.partition(".")[0] for name in names]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in places and name not in seen:
            for path in _files_at(places[name]):
                files[path] = stamp = stamp_of(path)
                waiting.extend(_imports_of(path, stamp))
        seen.add(name)
    return files


def local_places() -> dict[str, str]:
    """Where each local top-level module is: its file, or the folder of a package."""
    places: dict[str, str] = {}
    for folder in map(os.path.realpath, filter(os.path.isdir, [entry or os.curdir for entry in sys.path])):
        if not _is_library(folder):
            for entry in os.scandir(folder):
                if entry.name.endswith(".py"):
                    places.setdefault(entry.name.removesuffix(".py"), entry.path)
                elif os.path.isfile(os.path.join(entry.path, "__init__.py")):
                    places.setdefault(entry.name, entry.path)
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if "." not in name and isinstance(file, str) and file.endswith(".py") and not _is_library(file):
            path = os.path.realpath(file)
            places[name] = os.path.dirname(path) if os.path.basename(path) == "__init__.py" else path
    return {
        name: path
        for name, path in places.items()
        if not (_is_library(path) or name == "__main__" or name.startswith("forgesyte_plugin_"))
    }


def is_local(path: str) -> bool:
    """True if a file is the user's own, rather than of Python, an installed package or this one."""
    return not (_is_library(path) or _is_library(os.path.realpath(path)))


def import_changed(files: dict[str, str]) -> None:
    """Have modules imported anew that have changed since they were imported here.

    They are taken out of `sys.modules`, together with all local modules that plugins here use, which may hold on to
    them.

    Args:
        files: As from `local_modules`.
    """
    if any(_loaded.get(path, stamp) != stamp for path, stamp in files.items()):
        for name, module in sys.modules.copy().items():
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and not _is_library(file) and os.path.realpath(file) in _loaded:
                del sys.modules[name]
        importlib.invalidate_caches()
    _loaded.update(files)


def imports_in(source: str) -> frozenset[str]:
    """The top-level names of the modules that a text imports, anywhere in it; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return frozenset()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return frozenset(name.partition(".")[0] for name in names)


def _imports_of(path: str, stamp: str) -> frozenset[str]:
    known = _imports.get(path)
    if known is None or known[0] != stamp:
        try:
            source = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            source = ""
        known = _imports[path] = (stamp, imports_in(source))
    return known[1]


def _files_at(place: str) -> Iterator[str]:
    """The source files of a module, or of a package and its subpackages."""
    if not os.path.isdir(place):
        yield place
        return
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if os.path.isfile(os.path.join(folder, name, "__init__.py"))]
        yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))


def stamp_of(path: str) -> str:
    """Tells one state of a file from another, by its time and size."""
    try:
        found = os.stat(path)
    except OSError:
        return "gone"
    return f"{found.st_mtime_ns} {found.st_size}"


def _is_library(path: str) -> bool:
    return path.startswith(_LIBRARIES) or any(part in path for part in _INSTALLED_PARTS)
