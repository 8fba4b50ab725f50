"""A thread that loads plugin files again when they change, and those of folders that are made later.

The operating system reports changes where it can (`watchfiles`). The folders are looked at twice a second all the same:
a folder that is made, or made anew, is found so, as is a file whose permissions were put right, and that is what
remains where the reports end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from forgesyte_nb.plugins.discovery import (
    excuse_sibling,
    forget_file,
    load_file,
    modules_changed,
    note_missing_folders,
    plugin_files,
    shipped_folder,
)
from forgesyte_nb.plugins.file_trust import why_untrusted
from forgesyte_nb.plugins.registry import Registry

LOOK_S = 0.5


class _State(NamedTuple):
    """What tells whether a file has changed."""

    modified_ns: int
    size: int
    inode: int
    untrusted: str


States = dict[Path, _State]


def look_at(folders: Sequence[Path]) -> States:
    """The plugin files of folders, and the state of each; those that vanish meanwhile are left out."""
    found: States = {}
    shipped = shipped_folder()
    for path in plugin_files(folders):
        try:
            facts = path.stat()
        except OSError:
            continue
        untrusted = "" if path.parent == shipped else why_untrusted(path)
        found[path] = _State(facts.st_mtime_ns, facts.st_size, facts.st_ino, untrusted)
    return found


class FolderWatch:
    """Keeps the plugins of some folders as their files are, until it is closed."""

    def __init__(
        self, registry: Registry, folders: Sequence[Path], log: Callable[[str], None], known: States | None = None
    ) -> None:
        """Begin to watch.

        Args:
            registry: Where plugins are registered.
            folders: Folders to watch; they need not exist.
            log: Called with a line for each plugin that was loaded and each file that failed.
            known: The files as they were before they were loaded; by default as they are now.
        """
        self._registry = registry
        self._folders = list(folders)
        self._log = log
        self._known = look_at(folders) if known is None else known
        self._modules_tried: dict[Path, dict[str, str]] = {}
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forgesyte-plugin-files", daemon=True)
        self._thread.start()

    def add(self, folders: Sequence[Path]) -> None:
        """Watch these folders, too, and look at once."""
        with self._looking:
            self._folders += [folder for folder in folders if folder not in self._folders]
        self.look()

    def look(self, touched: Collection[Path] = ()) -> None:
        """Load what has changed since the last look, and forget what is gone; on any thread.

        Args:
            touched: Files that are loaded again though they look unchanged.
        """
        with self._looking:
            before, now = self._known, look_at(self._folders)
            self._known = now
            note_missing_folders(self._registry)
            for path in before:
                if path not in now:
                    self._gone(path)
            changed = {path for path, state in now.items() if before.get(path) != state or path in touched}
            for path, modules in modules_changed(self._registry).items():
                if self._modules_tried.get(path) != modules:  # else they could not be loaded
                    self._modules_tried[path] = modules
                    changed.add(path)
            for path in sorted(changed):
                self._changed(path)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._follow_reports()
        except Exception as error:  # noqa: BLE001 -- whatever ends the reports, looking goes on
            self._log(
                f"changes of plugin files are no longer reported ({type(error).__name__}: {error}); "
                f"the files are looked at every {LOOK_S:g} s"
            )
        while not self._stop.wait(LOOK_S):
            self._look_safely()

    def _follow_reports(self) -> None:
        """Look when changes are reported, and from time to time; ends when other folders exist than did."""
        from watchfiles import watch

        present = self._present()
        if not present:
            self._stop.wait(LOOK_S)
            self._look_safely()
            return
        milliseconds = round(LOOK_S * 1000)
        reports = watch(
            *present,
            stop_event=self._stop,
            recursive=False,
            debounce=100,
            step=20,
            rust_timeout=milliseconds,
            yield_on_timeout=True,
        )
        for changes in reports:
            self._look_safely({Path(name) for _, name in changes})
            if self._present() != present:
                return

    def _present(self) -> dict[Path, tuple[int, int]]:
        """The folders that exist, with what tells one from another of the same name."""
        found = {}
        for folder in self._folders:
            if folder.is_dir():
                facts = os.stat(folder)
                found[folder] = (facts.st_dev, facts.st_ino)
        return found

    def _look_safely(self, touched: Collection[Path] = ()) -> None:
        try:
            self.look(touched)
        except Exception as error:  # noqa: BLE001 -- one file must not end the reloading of all
            self._log(f"plugin files could not be looked at ({type(error).__name__}: {error}); trying again")

    def _gone(self, path: Path) -> None:
        for name in forget_file(self._registry, path):
            self._log(f"plugin={name} gone with {path.name}")
        self._registry.clear_failure(path.name)

    def _changed(self, path: Path) -> None:
        names = load_file(self._registry, path)
        excuse_sibling(self._registry, path)
        failure = self._registry.failures.get(path.name)
        if failure:
            self._log(f"plugin file {path.name} cannot be loaded, what it defined before stays: {failure}")
        for name in names:
            self._log(f"plugin={name} revision={self._registry.entry_in_force(name).plugin.revision} from {path.name}")

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(timeout=5)
