"""`Server`: what a notebook holds on to.

Making one binds the port and returns; loop, connections and engines live on threads and processes of their own. It ends
with `close()`, with its `with` block, or with the process. A process that is forked from this one has no part in it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from forgesyte_nb.background import point_nowhere
from forgesyte_nb.checks import check_count, check_number
from forgesyte_nb.errors import PluginDefinitionError, ServerError
from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.discovery import asked_folders, discover, plugin_folders, possible_folders
from forgesyte_nb.plugins.folder_watch import FolderWatch, look_at
from forgesyte_nb.plugins.registry import Entry, Registry, registry
from forgesyte_nb.server import reports
from forgesyte_nb.server.binding import bind
from forgesyte_nb.server.gate import ANY_HOST
from forgesyte_nb.server.local import LocalConnections, Send
from forgesyte_nb.server.logs import close_log, default_path, disown_log, flush_log, open_log, tail
from forgesyte_nb.server.loop import Answer, BackgroundLoop
from forgesyte_nb.settings import Settings
from forgesyte_nb.transport import own_servers
from forgesyte_nb.transport.local import Take

URL_VARIABLE = "FORGESYTE_NB_URL"
"""Set while the server of `serve()` runs: where clients look if they are not told, child processes included."""

IN_SETTINGS = {field.name: f"settings=fs.Settings({field.name}=…)" for field in fields(Settings)}
"""What people look for among the keywords of a server, and how it is given."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 -- recognised, not bound


class Server:
    """A running server.

    Attributes:
        settings: Its limits.
        host: Name it is bound to.
        port: Port it is bound to.
        log: Path of its log file.
    """

    @known_keywords(IN_SETTINGS)
    def __init__(
        self,
        *,
        host: str = "localhost",
        port: int | None = None,
        plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        settings: Settings | None = None,
        log: str | os.PathLike[str] | None = None,
        plugin_registry: Registry | None = None,
        _replaces: Server | None = None,
        _is_default: bool = False,
    ) -> None:
        """Start a server; `serve` says what the arguments mean.

        The server `_replaces` is closed once every step that can fail, except listening, has succeeded.
        With `_is_default`, child processes find its URL in `FORGESYTE_NB_URL`, its workers among them.

        Raises:
            ServerError: If it cannot listen there.
            PluginDefinitionError: If a plugin folder does not exist, or a plugin of this cell cannot be sent to a
                worker.
        """
        from forgesyte_nb.server.async_server import AsyncServer

        self.settings = settings or Settings()
        self.host = host
        self.registry = plugin_registry or registry()
        check_token(host, self.settings)
        asked = asked_folders(plugins)
        folders = plugin_folders(asked)
        self.registry.register_deferred()
        if host not in _LOOPBACK:
            named = ANY_HOST if host in _WILDCARDS else host.lower()
            self.settings = replace(self.settings, allow_hosts=(*self.settings.allow_hosts, named))
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._undo: list[Callable[[], None]] = []
        with contextlib.ExitStack() as undo:  # if any of it fails
            sockets = bind(host, port) if _replaces is None else _replaces._sockets_for(host, port)
            undo.callback(lambda: _close_all(sockets))
            self.port: int = sockets[0].getsockname()[1] if sockets else port or 0
            self._log = self._open_log(log)
            undo.callback(close_log, self._log)
            files = look_at(folders)
            discover(self.registry, folders)
            if _is_default:
                undo.callback(_restore_environment, os.environ.get(URL_VARIABLE), _replaces)
                os.environ[URL_VARIABLE] = self.url
            self._loop = BackgroundLoop(f"forgesyte-server-{self.port}")
            undo.callback(self._loop.close)
            self._async: AsyncServer = self._loop.run(_make_async_server(self.settings, self.registry, self._log))
            undo.callback(lambda: self._loop.run(self._async.close(0.0)))
            self._loop.run(self._async.start())
            if _replaces is not None:
                sockets = sockets or _replaces._give_up_port(host, self.port)
                _replaces.close()
                flush_log(self._log)
                self._log_start = self.log.stat().st_size
            own_servers.enter(self.url, self)
            undo.callback(own_servers.leave, self.url)
            self._loop.run(self._async.listen(sockets))
            self._local = LocalConnections(self._async.dispatcher, self._loop.loop)
            undo.pop_all()
        self.registry.add_trial(self._trial)
        self.registry.add_unload(self._unload)
        self._watch = FolderWatch(self.registry, possible_folders(asked), self._log.info, files)
        atexit.register(self.close)
        _open.add(self)
        self._log.info("listening on %s pid=%s plugins=%s", self.url, os.getpid(), ",".join(self._names()))
        for name, reason in self.registry.failures.items():
            self._log.warning("cannot be loaded: %s: %s", name, reason)
        flush_log(self._log)

    def _open_log(self, path: str | os.PathLike[str] | None) -> logging.Logger:
        """Open the log file.

        Raises:
            ServerError: If it cannot be written.
        """
        try:
            self.log = Path(path) if path is not None else default_path(self.port)
            log = open_log(self.log, str(self.port))
            self._log_start = self.log.stat().st_size  # before it are lines of servers that had this port earlier
        except OSError as error:
            raise ServerError(
                f"cannot write the log {str(path or error.filename)!r}: {error.strerror or error}"
            ) from error
        return log

    @property
    def url(self) -> str:
        """Address for clients, such as "ws://localhost:8000"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}"

    @property
    def page_url(self) -> str:
        """Address of the page that streams from a browser."""
        return self.url.replace("ws://", "http://", 1) + "/"

    @property
    def server_id(self) -> str:
        """Unique; `hello` and `/healthz` say it too."""
        return self._async.dispatcher.reception.server_id

    @property
    def running(self) -> bool:
        """Whether it is open."""
        return not self._closed.is_set()

    @property
    def plugins(self) -> list[Plugin]:
        """Plugins in force, by name; shown one a line, with revision, health and options."""
        return self.registry.plugins()

    @property
    def failures(self) -> dict[str, str]:
        """Plugins and plugin files that could not be loaded, with the reason."""
        return self.registry.failures

    def _names(self) -> list[str]:
        return [plugin.name for plugin in self.plugins]

    def find_plugins(self, asked: Sequence[str | os.PathLike[str]]) -> None:
        """Load new and changed plugin files now, including those in `asked`, without waiting for the watch."""
        self._watch.add(possible_folders(asked))

    def _sockets_for(self, host: str, port: int | None) -> list[socket.socket]:
        """Sockets for the server that replaces this one; none if it must give up its port first.

        Raises:
            ServerError: If the other server could not listen there even then.
        """
        if host == self.host and port in (None, 0, self.port):
            return self._async.share_sockets()
        if port != self.port:
            return bind(host, port)
        try:
            return bind(host, port)  # the addresses need not overlap
        except ServerError:
            for probe in bind(host, 0):
                probe.close()
            return []

    def _give_up_port(self, host: str, port: int) -> list[socket.socket]:
        """Stop listening and bind an address that includes this server's own; if that fails, listen again."""
        self._loop.run(self._async.stop_listening())
        try:
            return bind(host, port)
        except ServerError:
            self._loop.run(self._async.listen(bind(self.host, self.port)))
            raise

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log, of those that this server wrote.

        Raises:
            ValueError: If `lines` is negative.
        """
        check_count("lines", lines, least=0)
        flush_log(self._log)
        return tail(self.log, lines, self._log_start)

    def broadcast(self, body: Any, *, topic: str | None = None, client_id: str | None = None) -> int:
        """Send a `broadcast` message: to everyone, to the subscribers of a topic, or to one client.

        Args:
            body: Anything JSON can say.
            topic: Only to its subscribers.
            client_id: Only to this client.

        Returns:
            Number of connections it was put out to.

        Raises:
            ServerError: If the server is closed.
            InvalidMessage: If the topic is malformed.
        """
        self._check_running()
        return self._on_loop(lambda: self._async.dispatcher.broadcast(body, topic=topic, client_id=client_id))

    def connect_local(self, client_id: str, send: Send, on_close: Callable[[], None] = lambda: None) -> Take:
        """Speak the protocol (`forgesyte.v2`) with the server from within this process, without a socket.

        Args:
            client_id: As in `/ws/<client_id>`.
            send: Called on the server's thread with what a socket would be sent: text messages, binary messages.
            on_close: Called on the server's thread when the server closes.

        Returns:
            A function for any thread that takes a message; an empty one leaves for good.

        Raises:
            ServerError: If the server is closed.
        """
        self._check_running()
        return self._local.open(client_id, send, on_close)

    def stats(self) -> dict[str, Any]:
        """Counts: connections, accepted frames, results, errors, refusals, active jobs, and the engines' numbers."""
        return self._ask(reports.stats)

    def clients(self) -> list[dict[str, Any]]:
        """Who is connected: `client_id`, and how many `frames` it has sent, the busiest first."""
        return self._ask(reports.clients)

    def sender_of(self, job_id: str) -> str:
        """Client id of who sent the frame of a job; empty if the job is not known, or no longer."""
        return self._ask(lambda view: reports.sender_of(view, job_id))

    def recent_jobs(self, most: int) -> list[tuple[dict[str, Any], bytes | None]]:
        """The newest jobs that the server knows: those that have ended, the first to end first, then those under way.

        Args:
            most: How many.

        Returns:
            For each its line as in `/v1/jobs`, and its terminal message, encoded; None if it has not ended, or if
            the message was too large to keep.

        Raises:
            ServerError: If the server is closed.
            ValueError: If `most` is less than 1.
        """
        check_count("most", most)
        return self._ask(lambda view: reports.recent_jobs(view, most))

    def _ask(self, report: Callable[[reports.ServerView], Answer]) -> Answer:
        self._check_running()
        return self._on_loop(lambda: report(self._async))

    def _on_loop(self, ask: Callable[[], Answer]) -> Answer:
        """Ask on the loop's thread, and wait for the answer; an inline plugin is on that thread already."""
        if self._loop.is_current:
            return ask()

        async def asked() -> Answer:
            return ask()

        return self._loop.run(asked())

    def close(self, *, drain_timeout_s: float | None = None) -> None:
        """Stop: new frames are refused, those in flight get `drain_timeout_s`, the rest an error; then 1001.

        Called on the server's own thread, by an inline plugin or a local connection, it returns at once and the server
        closes in the background.

        Args:
            drain_timeout_s: Another one than the settings have.

        Raises:
            ValueError: If `drain_timeout_s` is negative.
        """
        if drain_timeout_s is not None:
            check_number("drain_timeout_s", drain_timeout_s, least=0)
        if self._closed.is_set():
            return
        if self._loop.is_current:
            closing = partial(self.close, drain_timeout_s=drain_timeout_s)
            threading.Thread(target=closing, name="forgesyte-server-close").start()
            return
        with self._closing:
            if self._closed.is_set():
                return
            self._closed.set()
        _open.discard(self)
        own_servers.leave(self.url)
        if os.environ.get(URL_VARIABLE) == self.url:
            del os.environ[URL_VARIABLE]
        atexit.unregister(self.close)
        for undo in self._undo:
            undo()
        self.registry.remove_trial(self._trial)
        self.registry.remove_unload(self._unload)
        self._watch.close()
        try:
            self._loop.run(
                self._async.close(self.settings.drain_timeout_s if drain_timeout_s is None else drain_timeout_s)
            )
        except KeyboardInterrupt:  # the stop button while frames drain: end now, but do end
            self._loop.run(self._async.close(0.0))
            raise
        finally:
            try:
                self._on_loop(self._local.close)
            finally:
                self._loop.close()
            self._log.info("closed")
            close_log(self._log)

    def _disown(self) -> None:
        """In a process that was forked from this one: the server is its parent's.

        The port, the connections and the workers must end with the parent, however long the child lives.
        """
        self._closed.set()
        atexit.unregister(self.close)
        point_nowhere([*self._async.disown(), *disown_log(self._log)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.running else "closed"
        return f"<Server {self.url} {state}, plugins: {', '.join(self._names()) or 'none'}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """What a notebook shows of it; None, for its `repr` alone, where nothing does."""
        return looks[-1](self)._repr_mimebundle_(**options) if looks else None

    def _check_running(self) -> None:
        if not self.running:
            raise ServerError("the server is closed; start one with fs.serve()")

    def _trial(self, entry: Entry) -> None:
        """Try a plugin before it comes into force; called by the registry, on the thread of the cell or the watch."""
        if self._loop.is_current or not self.running:
            return
        try:
            self._loop.run(self._async.trial(entry), self.settings.setup_timeout_s)
        except TimeoutError as error:
            raise PluginDefinitionError(
                f"{entry.plugin.name}: could not be loaded within {self.settings.setup_timeout_s:g} s"
            ) from error
        self._log.info("plugin=%s revision=%s in force", entry.plugin.name, entry.plugin.revision)

    def _unload(self, name: str) -> None:
        """Free a plugin's memory in all lanes; called by the registry, on the thread of the cell or the watch."""
        if self._loop.is_current or not self.running:
            return
        with contextlib.suppress(TimeoutError):  # a frame that runs longer is followed by it
            self._loop.run(self._async.unload(name), self.settings.plugin_timeout_s)


def _close_all(sockets: list[socket.socket]) -> None:
    for bound in sockets:
        bound.close()


def _restore_environment(url: str | None, of: Server | None) -> None:
    """Name the URL again that the environment had; none, if it was that of a server that has been closed since."""
    os.environ.pop(URL_VARIABLE, None)
    if url is not None and (of is None or of.running or url != of.url):
        os.environ[URL_VARIABLE] = url


async def _make_async_server(settings: Settings, plugin_registry: Registry, log: Any) -> Any:
    from forgesyte_nb.server.async_server import AsyncServer

    return AsyncServer(settings, plugin_registry, log, _trusted_origins)


def _trusted_origins() -> set[str]:
    return {origin for pages in trusted_pages for origin in pages()}


trusted_pages: list[Callable[[], Collection[str]]] = []
"""Called when a page offers `forgesyte.v2`; each returns lower-case origins of pages that may use feeds."""


looks: list[Callable[[Server], Any]] = []
"""Called with a server that a notebook is to show; what the last of them returns shows itself."""

_open: weakref.WeakSet[Server] = weakref.WeakSet()


def check_token(host: str, settings: Settings) -> None:
    if host not in _LOOPBACK and settings.token is None:
        raise ServerError(
            f"host={host!r} can be reached from other machines: serve(host={host!r}, token=Path('…')) makes a "
            "secret in that file, which clients then present; or stay on host='localhost'"
        )


def _forked() -> None:
    """In a process that was forked from this one: all its servers are its parent's."""
    for server in list(_open):
        server._disown()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
