"""Modules that a user edits while a kernel runs: found, and compared by their state on disk.

Local is what lies outside of the standard library, of `site-packages` and of this package: files beside a notebook,
siblings of a plugin file, packages installed as editable, compiled modules among them. A worker imports them by name.
When one that it has imported has changed, it is replaced by a new process: a compiled module cannot be loaded twice,
and one that registers itself in a library, patches it or starts a thread must not be. The kernel's process cannot be
replaced, so there the siblings of a plugin file are imported anew; revisions loaded before keep what they have.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
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
_imported: dict[str, str] = {}  # files of local modules that plugins use in this process, and their stamps then

_SUFFIXES = (*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)


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
            for path in _files_of(name, places[name]):
                files[path] = stamp = stamp_of(path)
                waiting.extend(_imports_of(path, stamp))
        seen.add(name)
    return files


def local_places() -> dict[str, str]:
    """Where each local top-level module is: its file, or the folder of a package."""
    places: dict[str, str] = {}
    namespaces: dict[str, str] = {}  # folders without __init__.py; any other module of that name comes first
    for folder in map(os.path.realpath, filter(os.path.isdir, [entry or os.curdir for entry in sys.path])):
        if not _is_library(folder):
            for entry in os.scandir(folder):
                name = entry.name.partition(".")[0]
                if entry.name.endswith(_SUFFIXES):
                    places.setdefault(name, entry.path)
                elif entry.name.isidentifier() and entry.is_dir():
                    is_regular = os.path.isfile(os.path.join(entry.path, "__init__.py"))
                    (places if is_regular else namespaces).setdefault(name, entry.path)
    for name, module in sys.modules.copy().items():
        if "." not in name and (path := _place_of(module)):
            places[name] = path
    return {
        name: path
        for name, path in {**namespaces, **places}.items()
        if not (_is_library(path) or name == "__main__" or name.startswith("forgesyte_plugin_"))
    }


def _place_of(module: object) -> str:
    """The file of a loaded top-level module, or the folder of a package; empty if it is none of the user's."""
    file = getattr(module, "__file__", None)
    if file is None:
        file = next(iter(getattr(module, "__path__", ())), None)
    if not isinstance(file, str) or _is_library(file):
        return ""
    path = os.path.realpath(file)
    return os.path.dirname(path) if os.path.basename(path) == "__init__.py" else path


def is_local(path: str) -> bool:
    """True if a file is the user's own, rather than of Python, an installed package or this one."""
    return not (_is_library(path) or _is_library(os.path.realpath(path)))


def stale_module(files: Iterable[str]) -> str:
    """The file of a local module that has changed since it was imported in this process; empty if there is none.

    Args:
        files: Files of the modules that a plugin uses which is about to be loaded.
    """
    here = set(_files_imported())
    for path in files:
        stamp = stamp_of(path)
        if path not in here:
            _imported[path] = stamp  # before the import: an edit in between costs a process at worst
        elif _imported.setdefault(path, stamp) != stamp:
            return path
    return ""


def note_imports() -> None:
    """Remember the state of the local modules that were imported without being named in a plugin."""
    for path in _files_imported():
        _imported.setdefault(path, stamp_of(path))


def import_changed(files: dict[str, str]) -> None:
    """Have modules imported anew that have changed since they were imported here.

    They are taken out of `sys.modules`, together with all local modules that plugins here use, which may hold on to
    them.

    Args:
        files: As from `local_modules`.
    """
    if any(_imported.get(path, stamp) != stamp for path, stamp in files.items()):
        for path, name in _files_imported().items():
            if path in _imported:
                del sys.modules[name]
        importlib.invalidate_caches()
    _imported.update(files)


def _files_imported() -> dict[str, str]:
    """The files of the local modules that this process has imported, and their names."""
    found: dict[str, str] = {}
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not name.startswith("forgesyte_plugin_") and not _is_library(file):
            found[os.path.realpath(file)] = name
    return found


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
    if not path.endswith(".py"):
        return frozenset()
    known = _imports.get(path)
    if known is None or known[0] != stamp:
        try:
            source = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            source = ""
        known = _imports[path] = (stamp, imports_in(source))
    return known[1]


def _files_of(name: str, place: str) -> Iterator[str]:
    """The files of a module; of a package those of its folder and its subpackages, and those that are loaded."""
    if not os.path.isdir(place):
        yield place
        return
    for folder, folders, files in os.walk(place):
        folders[:] = [one for one in folders if os.path.isfile(os.path.join(folder, one, "__init__.py"))]
        yield from (os.path.join(folder, file) for file in files if file.endswith(_SUFFIXES))
    for path, loaded in _files_imported().items():
        if loaded.startswith(f"{name}."):
            yield path


def stamp_of(path: str) -> str:
    """Tells one state of a file from another, by its time and size."""
    try:
        found = os.stat(path)
    except OSError:
        return "gone"
    return f"{found.st_mtime_ns} {found.st_size}"


def _is_library(path: str) -> bool:
    return path.startswith(_LIBRARIES) or any(part in path for part in _INSTALLED_PARTS)
