"""Where plugins are found besides cells: folders of `*.py` files and entry points, and how they are kept fresh.

Folders are looked through in this order, later ones winning: the plugins shipped with the package, entry points of
the group `forgesyte.plugins`, the folders in `FORGESYTE_NB_PLUGINS`, `./plugins`, and those asked for. A plugin that a
cell has defined is never replaced by a file. A file that cannot be loaded is remembered in the registry with its
reason, and the rest load; one that other users can write is not loaded (`file_trust.py`). `folder_watch.py` loads files
again when they change.
"""

from __future__ import annotations

import contextlib
import os
import traceback
import warnings
from collections.abc import Iterable, Sequence, Set
from importlib.metadata import entry_points
from importlib.util import decode_source
from pathlib import Path

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.contract import Plugin, define
from forgesyte_nb.plugins.file_trust import UntrustedFile, read_shipped, read_trusted
from forgesyte_nb.plugins.local_modules import stamp_of
from forgesyte_nb.plugins.payload import file_of, files_used_by, is_from_file, load_source
from forgesyte_nb.plugins.registry import Registry

ENTRY_POINTS = "forgesyte.plugins"
FOLDERS_VARIABLE = "FORGESYTE_NB_PLUGINS"
_NO_PLUGIN = "defines no plugin; put @fs.plugin before a function"


def shipped_folder() -> Path:
    """The folder of the plugins that come with the package (in a checkout: `plugins/` beside it)."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_plugins"
    return installed if installed.is_dir() else package.parent / "plugins"


def asked_folders(
    asked: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Sequence[str | os.PathLike[str]]:
    """Folders that somebody names, who may name one without a list."""
    return [asked] if isinstance(asked, (str, os.PathLike)) else asked


def plugin_folders(asked: Sequence[str | os.PathLike[str]] = ()) -> list[Path]:
    """All folders to look in, each once, in order; those that do not exist are left out unless asked for.

    Raises:
        PluginDefinitionError: If a folder that was asked for does not exist.
    """
    for folder in map(Path, asked):
        if not _at_home(folder).is_dir():
            raise PluginDefinitionError(f"no plugin folder {str(folder)!r}; make it, or name another with plugins=")
    return [folder for folder in possible_folders(asked) if folder.is_dir()]


def possible_folders(asked: Sequence[str | os.PathLike[str]] = ()) -> list[Path]:
    """As `plugin_folders`, with those that do not exist yet."""
    folders: dict[Path, Path] = {}  # by where they are once links are followed
    for folder in [shipped_folder(), *map(Path, _named_folders()), Path("plugins"), *map(Path, asked)]:
        absolute = _at_home(folder).absolute()
        folders.setdefault(absolute.resolve(), absolute)
    return list(folders.values())


def _named_folders() -> list[str]:
    """What `FORGESYTE_NB_PLUGINS` names."""
    return [part for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]


def _at_home(folder: Path) -> Path:
    """With `~` replaced, where that names a user; `Path.expanduser` raises `RuntimeError` for one there is not."""
    return Path(os.path.expanduser(folder))


def discover(registry: Registry, folders: Iterable[Path]) -> None:
    """Load everything that is found; what fails is remembered in the registry."""
    note_missing_folders(registry)
    shipped, *others = folders
    for path in plugin_files([shipped]):
        load_file(registry, path)
    _load_entry_points(registry)
    paths = plugin_files(others)
    for path in paths:
        load_file(registry, path)
    for path in paths:
        excuse_sibling(registry, path)


def note_missing_folders(registry: Registry) -> None:
    """Remember as failures the folders that are named in `FORGESYTE_NB_PLUGINS` and do not exist."""
    for named in _named_folders():
        if _at_home(Path(named)).is_dir():
            registry.clear_failure(named)
        else:
            registry.fail(named, f"no such folder; {FOLDERS_VARIABLE} names it")


def plugin_files(folders: Iterable[Path]) -> list[Path]:
    """The plugin files of folders, in the order in which they are loaded; hidden and private ones are left out."""
    files: list[Path] = []
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not there, or may not be read
            names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".py")
            files += [folder / name for name in names if not name.startswith(("_", "."))]
    return files


def load_file(registry: Registry, path: Path) -> list[str]:
    """Load a plugin file, new or changed; names of the plugins that came into force.

    A failure is remembered under the file's name, and the plugins it defined before stay. A file that other users can
    write is not executed, and that is a warning too.
    """
    try:
        read = read_shipped if path.parent == shipped_folder() else read_trusted
        found = load_source(decode_source(read(path)), str(path))
        if not found:
            raise PluginDefinitionError(_NO_PLUGIN)
        names = [plugin.name for plugin in found if _register(registry, plugin)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a plugin file may raise anything; the rest must load
        registry.fail(path.name, _reason(error, path), str(path))
        if isinstance(error, UntrustedFile):
            warnings.warn(str(error), stacklevel=2)
        return []
    registry.clear_failure(path.name)
    forget_file(registry, path, but={plugin.name for plugin in found})
    return names


def forget_file(registry: Registry, path: Path, *, but: Set[str] = frozenset()) -> list[str]:
    """Unregister the plugins that came from a file, except some; their names."""
    own = {plugin.name for plugin in registry.plugins_known() if file_of(plugin) == str(path)}
    gone = sorted(name for name in own - but if not registry.waits(name))
    for name in gone:
        registry.unregister(name)
    return gone


def files_that_import(registry: Registry, path: Path) -> list[Path]:
    """The plugin files that import a file, directly or through others."""
    real = os.path.realpath(path)
    found = {file_of(plugin) for plugin in registry.plugins_known() if real in files_used_by(plugin)}
    return sorted(Path(file) for file in found if file is not None and os.path.realpath(file) != real)


def modules_changed(registry: Registry) -> dict[Path, dict[str, str]]:
    """The plugin files whose local modules have changed on disk, and the state that those are in now."""
    changed: dict[Path, dict[str, str]] = {}
    for plugin in registry.plugins_known():
        if (file := file_of(plugin)) is not None:
            used = files_used_by(plugin)
            now = {path: stamp_of(path) for path in used}
            if now != used:
                changed[Path(file)] = now
    return changed


def excuse_sibling(registry: Registry, path: Path) -> None:
    """A file that plugin files import need not define a plugin."""
    if registry.failures.get(path.name, "").endswith(_NO_PLUGIN) and files_that_import(registry, path):
        registry.clear_failure(path.name)


def _load_entry_points(registry: Registry) -> None:
    for point in entry_points(group=ENTRY_POINTS):
        try:
            _register(registry, define(point.load(), point.name))
        except Exception as error:  # noqa: BLE001 -- another package's code may raise anything
            registry.fail(point.name, f"entry point {point.value}: {type(error).__name__}: {error}")


def _register(registry: Registry, plugin: Plugin) -> bool:
    known = next((one for one in registry.plugins_known() if one.name == plugin.name), None)
    if registry.waits(plugin.name) or (known is not None and not is_from_file(known)):
        return False
    return registry.register(plugin) is not known


def _reason(error: BaseException, path: Path) -> str:
    """One line: what, and where in the file."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({path.name}, line {error.lineno})"
    if isinstance(error, UntrustedFile):
        return str(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" ({path.name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
