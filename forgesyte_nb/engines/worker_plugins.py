"""The plugins that a worker process has been sent, and futures for their being loaded and unloaded.

A plugin is sent to a worker before the first task that needs it, or to be loaded ahead of that; it is sent again after
it was unloaded. If it cannot be loaded and no future waits for it, the engine is told.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
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
        self._unloading: deque[asyncio.Future[None]] = deque()

    def missing(self, entry: Entry) -> bytes:
        """The message that brings a plugin to the worker; empty if it has been sent before."""
        key = PluginKey(entry.plugin.name, entry.plugin.revision)
        if key in self._known:
            return b""
        self._known.add(key)
        return message(Kind.LOAD, None, pickle.dumps(entry.payload))

    def load(self, entry: Entry) -> tuple[bytes, asyncio.Future[WireError | None]]:
        """The message that has the worker load a plugin now, and a future of the error if it cannot be loaded."""
        key = PluginKey(entry.plugin.name, entry.plugin.revision)
        future = self._awaited[key] = asyncio.get_running_loop().create_future()
        self._known.discard(key)
        return self.missing(entry), future

    def unload(self, name: str, kept: list[int]) -> tuple[bytes, asyncio.Future[None]]:
        """The message that unloads revisions of a plugin, empty if there are none, and a future of its end."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone = {key for key in self._known if key.name == name and key.revision not in kept}
        if not gone:
            future.set_result(None)
            return b"", future
        self._known -= gone
        self._unloading.append(future)
        return message(Kind.UNLOAD, (name, kept)), future

    def unloaded(self) -> None:
        """The worker has done the oldest of what it was to unload."""
        future = self._unloading.popleft()
        if not future.done():
            future.set_result(None)

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
        while self._unloading:
            self.unloaded()
