"""The plugins that a worker process has been sent, and who waits to hear whether one could be loaded.

A plugin travels once to each worker, before the first task that needs it or for a trial. A trial waits for the answer;
of what cannot be loaded although nobody waits for it the engine is told.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable

from forgesyte_nb.engines.pipe import Kind, message
from forgesyte_nb.engines.runner import PluginKey
from forgesyte_nb.errors import WIRE_ERRORS, PluginError, WireError
from forgesyte_nb.plugins.registry import Entry


class WorkerPlugins:
    """One worker's plugins, on the server's side."""

    def __init__(self, unloadable: Callable[[str, int, WireError], None]) -> None:
        """None yet; `unloadable` is told name, revision and error."""
        self._unloadable = unloadable
        self._known: set[PluginKey] = set()
        self._awaited: dict[PluginKey, asyncio.Future[WireError | None]] = {}

    def missing(self, entry: Entry) -> bytes:
        """The message that brings a plugin to the worker; empty if it has been sent before."""
        key = PluginKey(entry.plugin.name, entry.plugin.revision)
        if key in self._known:
            return b""
        # The worker lets old revisions go by the same rule; who still has frames for one sends it again.
        self._known = {one for one in self._known if one.name != key.name or one.revision >= key.revision - 1}
        self._known.add(key)
        return message(Kind.LOAD, None, pickle.dumps(entry.payload))

    def awaited(self, entry: Entry) -> asyncio.Future[WireError | None]:
        """For who waits until a plugin is loaded: a future that tells why it could not be."""
        future: asyncio.Future[WireError | None] = asyncio.get_running_loop().create_future()
        self._awaited[PluginKey(entry.plugin.name, entry.plugin.revision)] = future
        return future

    def loaded(self, name: str, revision: int, code: str, text: str, detail: str) -> None:
        """The worker says how it went; `code` is empty if it went well."""
        error = WIRE_ERRORS[code](text, detail=detail) if code else None
        future = self._awaited.pop(PluginKey(name, revision), None)
        if future is not None and not future.done():
            future.set_result(error)
        elif error is not None:
            self._unloadable(name, revision, error)

    def lost(self, cause: str) -> None:
        """The worker has died: nothing will be loaded any more."""
        for future in self._awaited.values():
            if not future.done():
                future.set_result(PluginError(cause))
