"""Which plugin answers to which name, and which revision of it is in force.

A `Registry` is thread-safe and knows no engine: a running server adds a *trial*, a callable that loads a new
plugin where it will run and raises if it cannot. Registering a name again tries the new code first; only then
does it replace the old, so that a plugin that cannot be loaded leaves the old one in force. Equal code keeps its
revision. Files that failed to load are remembered with their reason, for `/v1/plugins`.

A plugin whose names do not all stand yet (`references.py`) is deferred: it is registered when it is first looked up,
and again when its cell has run, which changes nothing unless a name has another value by then. Registering runs the
user's code and waits for the trials, so a server's loop looks plugins up with `entry_in_force` and `plugins_known`,
which register nothing, and has a thread call `use` before.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from forgesyte_nb.errors import PluginNotFound
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.deferred import Deferred
from forgesyte_nb.plugins.payload import Payload, pack
from forgesyte_nb.plugins.plugin_list import PluginList
from forgesyte_nb.plugins.references import globals_of, missing_names
from forgesyte_nb.plugins.sameness import is_same

Trial = Callable[["Entry"], None]
Unload = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A plugin in force, and how it travels.

    Attributes:
        plugin: The plugin with its revision.
        payload: Ready for a worker; None if it stays in this process.
    """

    plugin: Plugin
    payload: Payload | None


class Registry:
    """Plugins by name."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._revisions: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._failed_origins: dict[str, str] = {}
        self._trials: list[Trial] = []
        self._deferred: dict[str, Deferred] = {}
        self._modules_tried: dict[str, dict[str, str]] = {}  # local modules by plugin, as they were last tried
        self._unloads: list[Unload] = []

    def defer(self, plugin: Plugin, place: TracebackType | None = None) -> None:
        """Register a plugin later: when it is looked up, or when its cell has run."""
        with self._lock:
            self._deferred[plugin.name] = Deferred(plugin, place, globals_of(plugin.target))

    def register_deferred(self) -> None:
        """Register what waits, as its first use.

        Raises:
            PluginDefinitionError: If one cannot travel to a worker, or a running server cannot load it.
        """
        for deferred in list(self._deferred.values()):
            self._register_deferred(deferred, only_if_due=True)

    def end_cell(
        self, announce: Callable[[Plugin], None] = lambda plugin: None
    ) -> list[tuple[Exception, TracebackType | None]]:
        """Register the plugins that wait, now that a cell has ended.

        A plugin that uses names which still do not exist goes on waiting for them.

        Args:
            announce: Called with each plugin that was registered.

        Returns:
            The errors, and where their plugins were defined.
        """
        failed: list[tuple[Exception, TracebackType | None]] = []
        for deferred in list(self._deferred.values()):
            if deferred.is_due or not deferred.ended:
                try:
                    self._register_deferred(deferred, announce=announce)
                except Exception as error:  # noqa: BLE001 -- setting a plugin up is the user's code
                    failed.append((error, deferred.place))
            deferred.ended, deferred.place = True, None
            with self._lock:
                if not deferred.missing and self._deferred.get(deferred.plugin.name) is deferred:
                    del self._deferred[deferred.plugin.name]
        return failed

    def _register_deferred(
        self,
        deferred: Deferred,
        *,
        only_if_due: bool = False,
        announce: Callable[[Plugin], None] = lambda plugin: None,
    ) -> None:
        """Register a plugin that waits, once another thread that is registering it has finished."""
        name, before = deferred.plugin.name, self._failures.get(deferred.plugin.name)
        with deferred.lock:
            if only_if_due and not deferred.is_due:
                return
            missing = missing_names(deferred.plugin.target)
            try:
                plugin = self.register(deferred.plugin, deferred)
            except Exception as error:
                if self._failures.get(name) is before:  # else a trial has failed, and the reason is known
                    self.fail(name, str(error), deferred.plugin.origin)
                raise
            finally:
                deferred.missing = missing
        announce(plugin)

    def waits(self, name: str) -> bool:
        """True if a cell has defined a plugin that is still to be registered."""
        return name in self._deferred

    def is_due(self, name: str) -> bool:
        """True if a plugin waits to be registered and can be now."""
        deferred = self._deferred.get(name)
        return deferred is not None and deferred.is_due

    def use(self, name: str) -> None:
        """Register a plugin that waits; if that fails, the old one stays, and the failure is remembered."""
        deferred = self._deferred.get(name)
        if deferred is not None:
            with contextlib.suppress(Exception):  # remembered in `failures`, and raised again when the cell ends
                self._register_deferred(deferred, only_if_due=True)

    def renew_changed(self) -> dict[str, Exception]:
        """Register again the plugins of cells whose local modules have changed on disk; what failed, by name."""
        failed: dict[str, Exception] = {}
        for entry in list(self._entries.values()):
            name, payload = entry.plugin.name, entry.payload
            if payload is None or not payload.pickled:
                continue
            now = payload.modules_now
            if now in (payload.modules, self._modules_tried.get(name)):
                continue
            self._modules_tried[name] = now
            try:
                self.register(entry.plugin)
            except Exception as error:  # noqa: BLE001 -- importing a module is the user's code
                failed[name] = error
        return failed

    def register(self, plugin: Plugin, deferred: Deferred | None = None) -> Plugin:
        """Put a plugin in force, or leave the old one if the new cannot be loaded.

        Args:
            plugin: The plugin.
            deferred: What it waited as, if it did; another one of its name waits no longer.

        Returns:
            The plugin with its revision.

        Raises:
            PluginDefinitionError: If it cannot travel to a worker.
            Exception: What a trial raised; the old plugin stays.
        """
        # Outside of the lock: large globals take their time, and pickling calls code of the user's.
        payload = pack(plugin) if plugin.engine not in ("threads", "inline") else None
        with self._lock:
            if self._deferred.get(plugin.name) is not deferred:
                self._deferred.pop(plugin.name, None)
            old = self._entries.get(plugin.name)
            if old is not None and _unchanged(old, plugin, payload):
                self._failures.pop(plugin.name, None)
                return old.plugin
            revision = self._revisions.get(plugin.name, 0) + 1
            plugin = replace(plugin, revision=revision)
            entry = Entry(plugin, replace(payload, revision=revision) if payload is not None else None)
            self._revisions[plugin.name] = revision
            trials = list(self._trials)
        try:
            for trial in trials:
                trial(entry)
        except Exception as error:
            self.fail(plugin.name, f"revision {revision} cannot be loaded: {error}", plugin.origin)
            raise
        with self._lock:
            self._failures.pop(plugin.name, None)
            newest = self._entries.get(plugin.name)
            if newest is None or newest.plugin.revision < revision:  # else it was overtaken during its trial
                self._entries[plugin.name] = entry
        return plugin

    def unregister(self, name: str) -> None:
        """Forget a plugin and free its memory; frames in flight finish.

        Raises:
            PluginNotFound: If there is none of that name.
        """
        with self._lock:
            waited = self._deferred.pop(name, None)
            if waited is None:
                self.entry(name)
            self._entries.pop(name, None)
        self._unload(name)

    def unload(self, name: str) -> None:
        """Free the memory of a plugin in all lanes of running servers; it stays registered.

        Raises:
            PluginNotFound: If there is none of that name.
        """
        self.entry(name)
        self._unload(name)

    def _unload(self, name: str) -> None:
        with self._lock:
            unloads = list(self._unloads)
        for unload in unloads:
            unload(name)

    def entry(self, name: str) -> Entry:
        """The entry in force; a plugin that waits is registered first.

        Raises:
            PluginNotFound: With the nearest name, and all that are loaded.
        """
        self.use(name)
        return self.entry_in_force(name)

    def entry_in_force(self, name: str) -> Entry:
        """The entry in force; nothing is registered.

        Raises:
            PluginNotFound: With the nearest name, and all that are loaded.
        """
        found = self._entries.get(name)
        if found is None:
            raise PluginNotFound(self._not_found(name))
        return found

    def _not_found(self, name: str) -> str:
        shown = name if len(name) <= 64 else name[:61] + "…"
        if name in self._failures:
            return f"Plugin '{shown}' could not be loaded: {self._failures[name]}"
        names = sorted(self._entries)
        near = difflib.get_close_matches(shown, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        loaded = f"Loaded: {', '.join(names)}" if names else "None is loaded; define one with @fs.plugin"
        if self._failures:
            loaded += f". Could not be loaded: {', '.join(sorted(self._failures))} (server.failures says why)"
        return f"No plugin '{shown}'{hint} {loaded}"

    def plugins(self) -> PluginList:
        """All plugins in force, by name; those that wait are registered first."""
        for name in list(self._deferred):
            self.use(name)
        with self._lock:
            return self._listed({name: entry.plugin for name, entry in self._entries.items()})

    def plugins_known(self) -> PluginList:
        """All plugins in force, and those that wait (revision 0), by name; nothing is registered."""
        with self._lock:
            waiting = {name: deferred.plugin for name, deferred in self._deferred.items()}
            return self._listed({**waiting, **{name: entry.plugin for name, entry in self._entries.items()}})

    def _listed(self, plugins: dict[str, Plugin]) -> PluginList:
        found = [plugins[name] for name in sorted(plugins)]
        return PluginList(found, {plugin.name: self.trouble_with(plugin) for plugin in found})

    def trouble_with(self, plugin: Plugin) -> str:
        """Why its newest code, or the file that it came from, could not be loaded; empty if nothing is wrong."""
        with self._lock:  # of a changed file that could not be loaded the plugins stay as they were
            return self._failures.get(plugin.name) or self._failures.get(Path(plugin.origin).name) or ""

    def fail(self, name: str, reason: str, origin: str = "") -> None:
        """Remember that a plugin or plugin file could not be loaded, and from which file or cell it was to come."""
        with self._lock:
            self._failures[name] = reason
            self._failed_origins[name] = origin

    def clear_failure(self, name: str) -> None:
        """Forget a failure."""
        with self._lock:
            self._failures.pop(name, None)

    @property
    def failures(self) -> dict[str, str]:
        """What could not be loaded, and why, by plugin or file name."""
        with self._lock:
            return dict(self._failures)

    def failed_origin(self, name: str) -> str:
        """File or cell from which something that could not be loaded was to come; empty if that is not known."""
        with self._lock:
            return self._failed_origins[name] if name in self._failures else ""

    def add_trial(self, trial: Trial) -> None:
        """Have new plugins tried by a running server before they come into force."""
        with self._lock:
            self._trials.append(trial)

    def remove_trial(self, trial: Trial) -> None:
        """Stop doing so."""
        with self._lock, contextlib.suppress(ValueError):
            self._trials.remove(trial)

    def add_unload(self, unload: Unload) -> None:
        """Have a running server free a plugin's memory when it is unloaded or unregistered."""
        with self._lock:
            self._unloads.append(unload)

    def remove_unload(self, unload: Unload) -> None:
        """Stop doing so."""
        with self._lock, contextlib.suppress(ValueError):
            self._unloads.remove(unload)


def _unchanged(old: Entry, new: Plugin, payload: Payload | None) -> bool:
    if old.payload is None or payload is None:
        return old.payload is payload and is_same(old.plugin, new)
    return old.payload.fingerprint == payload.fingerprint


_default = Registry()
_current: contextvars.ContextVar[Registry] = contextvars.ContextVar("forgesyte_registry", default=_default)


def registry() -> Registry:
    """The registry that `@plugin` registers in: this process's, unless a file is being loaded."""
    return _current.get()


def unload(name: str) -> None:
    """Free the memory of a plugin: its instances and the states of its streams, in all workers.

    Its `teardown` runs once the frames that the workers have are done. The plugin stays registered: its next frame,
    also one of a stream that is running, loads it again. Waits until it is unloaded, or for one plugin time limit.

    Args:
        name: The plugin's name.

    Raises:
        PluginNotFound: If there is none of that name.
    """
    registry().unload(name)


@contextlib.contextmanager
def registering_in(collecting: Registry) -> Iterator[None]:
    """Within it, `@plugin` registers in `collecting`."""
    token = _current.set(collecting)
    try:
        yield
    finally:
        _current.reset(token)
