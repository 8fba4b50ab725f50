"""Where plugins are found besides cells: folders of `*.py` files and entry points, and how they are kept fresh.

Folders are looked through in this order, later ones winning: the plugins shipped with the package, entry points of
the group `forgesyte.plugins`, the folders in `FORGESYTE_NB_PLUGINS`, `./plugins`, and those asked for. A plugin that a
cell has defined is never replaced by a file. A file that cannot be loaded is remembered in the registry with its
reason, and the rest load. `FolderWatch` loads files again when they change.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence, Set
from importlib.metadata import entry_points
from importlib.util import decode_source
from pathlib import Path

from forgesyte_nb.errors import PluginDefinitionError
from forgesyte_nb.plugins.contract import Plugin, define
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
    named = [Path(part) for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    folders: list[Path] = []
    for folder in [shipped_folder(), *named, Path("plugins"), *map(Path, asked)]:
        resolved = _at_home(folder).resolve()
        if resolved.is_dir() and resolved not in folders:
            folders.append(resolved)
    for folder in map(Path, asked):
        if not _at_home(folder).is_dir():
            raise PluginDefinitionError(f"no plugin folder {str(folder)!r}; make it, or name another with plugins=")
    return folders


def _at_home(folder: Path) -> Path:
    """With `~` replaced, where that names a user; `Path.expanduser` raises `RuntimeError` for one there is not."""
    return Path(os.path.expanduser(folder))


def discover(registry: Registry, folders: Iterable[Path]) -> None:
    """Load everything that is found; what fails is remembered in the registry."""
    for named in filter(None, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)):
        if not _at_home(Path(named)).is_dir():
            registry.fail(named, f"no such folder; {FOLDERS_VARIABLE} names it")
    shipped, *others = folders
    _load_folder(registry, shipped)
    _load_entry_points(registry)
    for folder in others:
        _load_folder(registry, folder)


def load_file(registry: Registry, path: Path) -> list[str]:
    """Load a plugin file, new or changed; names of the plugins that came into force.

    A failure is remembered under the file's name, and the plugins it defined before stay.
    """
    try:
        found = load_source(decode_source(path.read_bytes()), str(path))
        if not found:
            raise PluginDefinitionError(_NO_PLUGIN)
        names = [plugin.name for plugin in found if _register(registry, plugin)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a plugin file may raise anything; the rest must load
        registry.fail(path.name, _reason(error, path), str(path))
        return []
    registry.clear_failure(path.name)
    forget_file(registry, path, but={plugin.name for plugin in found})
    return names


def forget_file(registry: Registry, path: Path, *, but: Set[str] = frozenset()) -> list[str]:
    """Unregister the plugins that came from a file, except some; their names."""
    gone = [plugin.name for plugin in registry.plugins() if file_of(plugin) == str(path) and plugin.name not in but]
    for name in gone:
        registry.unregister(name)
    return gone


def _load_folder(registry: Registry, folder: Path) -> None:
    paths = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(("_", "."))]
    for path in paths:
        load_file(registry, path)
    for path in paths:
        _excuse_sibling(registry, path)


def files_that_import(registry: Registry, path: Path) -> list[Path]:
    """The plugin files that import a file, directly or through others."""
    real = os.path.realpath(path)
    found = {file_of(plugin) for plugin in registry.plugins() if real in files_used_by(plugin)}
    return sorted(Path(file) for file in found if file is not None and os.path.realpath(file) != real)


def _excuse_sibling(registry: Registry, path: Path) -> None:
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
    known = next((one for one in registry.plugins() if one.name == plugin.name), None)
    if known is not None and not is_from_file(known):
        return False
    return registry.register(plugin) is not known


def _reason(error: BaseException, path: Path) -> str:
    """One line: what, and where in the file."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({path.name}, line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" ({path.name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


class FolderWatch:
    """A thread that loads plugin files again when they change, until it is closed."""

    def __init__(self, registry: Registry, folders: Sequence[Path], log: Callable[[str], None]) -> None:
        """Begin to watch; `log` is told what was loaded and what failed."""
        self._registry = registry
        self._folders = [folder for folder in folders if folder.is_dir()]
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="forgesyte-plugin-files", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        from watchfiles import Change, watch

        if not self._folders:
            return
        for changes in watch(
            *self._folders, stop_event=self._stop, recursive=False, debounce=100, step=20, rust_timeout=500
        ):
            for change, name in sorted(changes, key=lambda item: item[1]):
                path = Path(name)
                if path.suffix == ".py" and not path.name.startswith(("_", ".")):
                    self._changed(path, deleted=change is Change.deleted and not path.exists())
                for importer in files_that_import(self._registry, path):
                    self._changed(importer, deleted=False)

    def _changed(self, path: Path, *, deleted: bool) -> None:
        if deleted:
            for name in forget_file(self._registry, path):
                self._log(f"plugin={name} gone with {path.name}")
            self._registry.clear_failure(path.name)
            return
        names = load_file(self._registry, path)
        _excuse_sibling(self._registry, path)
        failure = self._registry.failures.get(path.name)
        if failure:
            self._log(f"plugin file {path.name} cannot be loaded, what it defined before stays: {failure}")
        for name in names:
            self._log(f"plugin={name} revision={self._registry.entry(name).plugin.revision} from {path.name}")

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(timeout=5)
