"""`serve()`: the one server of this process.

Calling it again with the same arguments, or with none, returns the server that runs; with others it replaces it on the
same port, unless another is named, and clients come back by themselves: to another port those of this process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from forgesyte_nb.errors import ServerError
from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.plugins.discovery import asked_folders
from forgesyte_nb.plugins.payload import executed_file
from forgesyte_nb.server.server import IN_SETTINGS, URL_VARIABLE, Server
from forgesyte_nb.settings import EngineName, Settings
from forgesyte_nb.token_file import make_token
from forgesyte_nb.transport import own_servers

on_serve: list[Callable[[Server], Callable[[], None] | None]] = []
"""Called with each server that `serve()` starts; what they return is called when it closes. They do not raise."""

_current: Server | None = None
_arguments: dict[str, Any] = {}
_BARE: dict[str, Any] = {"host": "localhost", "port": None, "plugins": [], "settings": Settings(), "log": None}
_lock = threading.Lock()


@known_keywords(IN_SETTINGS)
def serve(
    host: str = "localhost",
    port: int | None = None,
    *,
    plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    engine: EngineName | None = None,
    workers: int | None = None,
    token: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
) -> Server:
    """Start the server of this process in the background and return at once.

    Args:
        host: "localhost" (both loopback addresses); anything else needs a `token`.
        port: Port to bind; by default 8000, or the next that is free. 0 takes any free one.
        plugins: More folders with plugin files, or one.
        engine: "processes" (default), "threads" or "inline".
        workers: Lanes of the engine; by default one per processor.
        token: Secret that clients must present, or the path of a file with it, which is made if it is not there.
        log: Path of the log file; by default among the temporary files, see `Server.log`.
        settings: All limits at once; `engine`, `workers` and `token` override it.

    Returns:
        The running server; the same one if it runs already with these arguments, or none are given: it then looks for
        new plugin files. One with other arguments is closed as soon as the new one stands.

    Raises:
        ServerError: If the port that was asked for is taken, `host` needs a token, others may read its file, or a
            plugin file calls this while it is loaded.
        PluginDefinitionError: If a plugin folder does not exist.
    """
    global _current, _arguments  # noqa: PLW0603 -- the one server of this process
    if path := executed_file():  # the server that loads it waits for it
        raise ServerError(f"{path} calls serve() while it is loaded: move that under `if __name__ == '__main__':`")
    chosen = Settings() if settings is None else settings
    if not isinstance(chosen, Settings):
        raise TypeError(f"settings={chosen!r}: give fs.Settings(workers=1, …), which names and checks each limit")
    secret = token if token is None or isinstance(token, str) else make_token(Path(token))
    overrides = {"engine": engine, "workers": workers, "token": secret}
    chosen = _override(chosen, {name: value for name, value in overrides.items() if value is not None})
    folders = asked_folders(plugins)
    arguments = {"host": host, "port": port, "plugins": [str(p) for p in folders], "settings": chosen, "log": log}
    is_bare = settings is None and arguments == _BARE
    with _lock:
        running = running_server()
        if running is not None and (is_bare or arguments in (_arguments, {**_arguments, "port": running.port})):
            running.find_plugins(_arguments["plugins"])
            return running
        _current = Server(
            host=host, port=port, plugins=folders, settings=chosen, log=log, _replaces=running, _is_default=True
        )
        own_servers.appoint(_current.url)
        os.environ[URL_VARIABLE] = _current.url
        _current._undo = [undo for told in on_serve if (undo := told(_current)) is not None]
        _arguments = arguments
        return _current


def running_server() -> Server | None:
    """The server of `serve()`, if it runs."""
    return _current if _current is not None and _current.running else None


def _override(settings: Settings, values: dict[str, Any]) -> Settings:
    return replace(settings, **values) if values else settings


def _forked() -> None:
    """In a process that was forked from this one: it may serve, too, and has no server yet."""
    global _current, _lock  # noqa: PLW0603 -- of this process
    _current = None
    _lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
