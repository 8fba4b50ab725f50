"""The server on its loop: sockets bound, requests led through the gate, engines started and stopped.

`AsyncServer` is the asynchronous half of `Server`; everything in it runs on the loop's thread. It makes the rooms
know each other: dispatcher, engines, connections, look-ups.
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.engines.choose import make_engine
from forgesyte_nb.engines.contract import Engine
from forgesyte_nb.feeds import ShownPicture, feed_book
from forgesyte_nb.plugins.registry import Entry, Registry
from forgesyte_nb.protocol.messages import SUBPROTOCOL_SEED, SUBPROTOCOL_V2
from forgesyte_nb.protocol.topics import CLIENT_ID
from forgesyte_nb.server.connection import CLOSE_TIMEOUT_S, FrameConnection, serve_session
from forgesyte_nb.server.gate import Ends, foreign, is_preflight, may_use_feeds, refusal
from forgesyte_nb.server.logs import RareLines
from forgesyte_nb.server.lookups import PAGE_PATHS, allow_origin, allow_preflight, is_shared, look_up, respond
from forgesyte_nb.server.peer_uid import OUT_OF_RESOURCES, can_tell
from forgesyte_nb.settings import Settings
from forgesyte_nb.viewers import Viewers

_HOUSEKEEPING_S = 1.0
_CALLBACK_TURNS = 3  # of the loop, from accepting a connection until asyncio has given it to its protocol
_MOST_STRANGERS = 64
_MOST_UNREAD_LOOKUP_BYTES = 32 * 1024 * 1024  # of answers over HTTP, over all that ask


class AsyncServer:
    """One running server.

    Attributes:
        dispatcher: Where messages go.
        viewers: Who sees which feed.
        registry: Where plugins are looked up.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        log: logging.Logger,
        trusted_origins: Callable[[], Collection[str]],
    ) -> None:
        """Make a server on the running loop; `start` opens it.

        Args:
            settings: Its limits.
            registry: Where plugins are looked up.
            log: Its log.
            trusted_origins: Returns the origins of pages that may use feeds, besides its own page.
        """
        self.settings = settings
        self.registry = registry
        self.log = log
        self._trusted_origins = trusted_origins
        self.dispatcher = Dispatcher(registry, settings, self.engine, log)
        self._loop = asyncio.get_running_loop()
        self.viewers = self.dispatcher.reception.viewers = Viewers(
            feed_book(), log, call_soon=self._call_soon, call_later=self._loop.call_later, resize=self._resize
        )
        self._engines: dict[str, Engine] = {}
        self._servers: list[WebSocketServer] = []
        self._connections: weakref.WeakSet[FrameConnection] = weakref.WeakSet()
        self._tasks: list[asyncio.Task[None]] = []
        self._peers: Counter[str] = Counter()
        self._strangers: set[FrameConnection] = set()  # connections of other users
        self._rare = RareLines()

    def _call_soon(self, call: Callable[[], None]) -> None:
        """From any thread; a server that has ended hears nothing more."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self.log.debug("the loop has ended")

    def _resize(
        self, picture: ShownPicture, max_width: int, quality: int, done: Callable[[ShownPicture], None]
    ) -> None:
        """Make a picture narrower, in a thread."""
        from forgesyte_nb.server.narrower import narrower

        making = self._loop.run_in_executor(None, narrower, picture, max_width, quality)
        making.add_done_callback(lambda made: None if made.cancelled() else done(made.result()))

    async def start(self) -> None:
        """Begin to make the default engine ready; `listen` lets clients in."""
        self._loop.set_exception_handler(self._loop_failed)
        self.engine(self.settings.engine)
        if self.settings.check_peer_uid and not can_tell():
            self.log.warning("this system does not tell whose a connection is: all users of the machine may connect")
        feed_book().listen(self.viewers.changed)
        self._tasks.append(asyncio.create_task(self._keep_house()))

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log errors that asyncio would print on stderr; equal ones at most once a second."""
        fault, what = context.get("exception"), str(context.get("message", ""))
        count = self._rare.passes(f"{what[:100]} {type(fault).__name__}")
        if not count:
            return
        times = f" ({count} times)" if count > 1 else ""
        if isinstance(fault, OSError) and fault.errno in OUT_OF_RESOURCES:
            self.log.error(
                "%s: %s%s; it goes on when there are some again: close connections, or raise `ulimit -n`",
                what, fault.strerror, times,
            )  # fmt: skip
        else:
            self.log.error("%s%s", what, times, exc_info=fault)

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Begin to accept connections on bound sockets."""
        library_log = logging.Logger("websockets", logging.ERROR)
        library_log.parent = self.log
        for bound in sockets:
            server = await serve(
                serve_session,  # type: ignore[arg-type]  # its connections are FrameConnections, made below
                sock=bound,
                create_connection=self._make_connection,  # type: ignore[arg-type]  # called as the class would be
                process_request=self._process_request,  # type: ignore[arg-type]  # likewise
                select_subprotocol=self._select_subprotocol,
                server_header=None,
                compression=None,
                max_size=self.settings.max_message_bytes,
                ping_interval=self.settings.ping_interval_s,
                ping_timeout=self.settings.ping_timeout_s,
                open_timeout=self.settings.handshake_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=library_log,
            )
            self._servers.append(server)

    def share_sockets(self) -> list[socket.socket]:
        """Duplicates of the listening sockets; connections wait in their backlog while no server accepts."""
        return [bound.dup() for server in self._servers for bound in server.sockets]

    async def stop_listening(self) -> None:
        """Close the listening sockets; connections stay open."""
        for server in self._servers:
            for bound in server.sockets:
                self._loop.remove_reader(bound.fileno())
        await _let_callbacks_run()  # asyncio 3.11 loses a connection that was accepted but has no transport by now
        for server in self._servers:
            server.server.close()

    def _make_connection(self, *protocol_and_server: Any, **settings: Any) -> FrameConnection:
        connection = FrameConnection(*protocol_and_server, **settings)
        self._connections.add(connection)
        if self.settings.check_peer_uid:
            connection.on_made = partial(self._limit_strangers, connection)
        return connection

    def _limit_strangers(self, connection: FrameConnection) -> None:
        """Cut off connections of other users, who would be refused, if there are many: each takes a descriptor."""
        if connection.remote_address is None or foreign(_ends_of(connection)) is None:
            return
        self._strangers.add(connection)
        connection.on_lost = partial(self._strangers.discard, connection)
        if len(self._strangers) > _MOST_STRANGERS:
            connection.transport.abort()
            if count := self._rare.passes("strangers"):
                self.log.warning("cut off %d connections of other users: %d are open", count, _MOST_STRANGERS)

    def engine(self, name: str) -> Engine:
        """The running engine of a name, started when first asked for."""
        found = self._engines.get(name)
        if found is None:
            found = self._engines[name] = make_engine(name, self.settings, self.dispatcher)
            found.start()
        return found

    def disown(self) -> list[int]:
        """In a process forked from this one: let go of shared memory; descriptors that must not be held open."""
        found = [bound.fileno() for server in self._servers for bound in server.sockets]
        for connection in list(self._connections):
            if hasattr(connection, "transport"):
                found.append(connection.transport.get_extra_info("socket").fileno())
        for engine in list(self._engines.values()):
            found += engine.disown()
        found += self.dispatcher.spool.descriptors()
        return [descriptor for descriptor in found if descriptor >= 0]

    def engine_stats(self) -> dict[str, dict[str, Any]]:
        """Numbers of the running engines."""
        return {name: engine.stats() for name, engine in self._engines.items()}

    async def trial(self, entry: Entry) -> None:
        """Load a plugin in a lane of its engine and unload older revisions; errors of loading are raised."""
        await self.engine(entry.plugin.engine or self.settings.engine).trial(entry)
        for engine in self._engines.values():  # it may have moved here from another
            engine.supersede(entry.plugin)

    async def unload(self, name: str) -> None:
        """Unload a plugin from all lanes."""
        await asyncio.gather(*(engine.unload(name) for engine in self._engines.values()))

    async def _keep_house(self) -> None:
        """Once a second: end sessions whose clients stayed away, and let go of their streams."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            try:
                for session in self.dispatcher.reception.expire(time.monotonic()):
                    for engine in self._engines.values():
                        engine.forget_streams(f"{session.session_id}/")
            except Exception:
                self.log.exception("housekeeping failed; it goes on in a second")

    # The gate

    def _process_request(self, connection: FrameConnection, request: Request) -> Response | None:
        """Every HTTP request, before any upgrade: refuse, answer a look-up, or let a client in."""
        path, method = request.path.partition("?")[0], request.method
        preflight = is_preflight(method, request.headers)
        reason = refusal(
            request.headers,
            self.settings,
            path=path,
            ends=_ends_of(connection),
            page=PAGE_PATHS,
            preflight=preflight,
        )
        if reason is not None:
            self.log.warning("refused at the gate peer=%s: %s", connection.remote_address, reason)
            return respond(http.HTTPStatus.FORBIDDEN, {"error": "forbidden; the server's log says why"})
        if path.startswith("/ws/") and method == "GET" and not connection.head.has_body:
            return self._let_in(connection, path)
        if not is_shared(path):
            return self._answer(connection, request, path)
        origin = request.headers.get("Origin")
        return allow_preflight(origin) if preflight else allow_origin(self._answer(connection, request, path), origin)

    def _answer(self, connection: FrameConnection, request: Request, path: str) -> Response:
        """The response to any request but one for a client's WebSocket."""
        if request.method != "GET":
            body = {"error": f"{request.method[:20]} is not answered; there is GET"}
            return respond(http.HTTPStatus.METHOD_NOT_ALLOWED, body, extra={"Allow": "GET"})
        if connection.head.has_body:
            return respond(http.HTTPStatus.BAD_REQUEST, {"error": "a GET has no body here; send it without one"})
        if "websocket" in ", ".join(request.headers.get_all("Upgrade")).lower():
            error = f"no WebSocket at {path[:100]!r}: connect to /ws/<client_id>, with a client id of your own"
            return respond(http.HTTPStatus.NOT_FOUND, {"error": error})
        return self._look_up(path)

    def _let_in(self, connection: FrameConnection, path: str) -> Response | None:
        """Accept a client (None), or return the response that refuses it."""
        client_id = unquote(path.removeprefix("/ws/"))
        if CLIENT_ID.fullmatch(client_id) is None:
            return respond(
                http.HTTPStatus.NOT_FOUND,
                {"error": "bad client id: /ws/<client_id> takes 1 to 128 of the characters A-Z a-z 0-9 _ . : -"},
            )
        if sum(len(server.all_connections) for server in self._servers) >= self.settings.max_connections:
            return respond(http.HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many connections; see max_connections"})
        peer = str(connection.remote_address[0])
        if self._peers[peer] >= self.settings.max_peer_connections:
            error = "too many connections from this address; see max_peer_connections"
            return respond(http.HTTPStatus.SERVICE_UNAVAILABLE, {"error": error})
        self._strangers.discard(connection)  # there were no descriptors to ask with when it came
        connection.client_id = client_id
        connection.dispatcher = self.dispatcher
        self._peers[peer] += 1
        connection.on_lost = partial(self._peer_left, peer)
        return None

    def _select_subprotocol(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """`forgesyte.v2` if offered and the client may use feeds; else `forgesyte.v1` if offered."""
        headers = connection.request.headers if connection.request is not None else Headers()
        if SUBPROTOCOL_V2 in offered and may_use_feeds(headers, self._trusted_origins):
            return Subprotocol(SUBPROTOCOL_V2)
        return Subprotocol(SUBPROTOCOL_SEED) if SUBPROTOCOL_SEED in offered else None

    def _look_up(self, path: str) -> Response:
        asking = (one for one in list(self._connections) if one.dispatcher is None and one.request is not None)
        unread_bytes = sum(one.transport.get_write_buffer_size() for one in asking)
        if unread_bytes > _MOST_UNREAD_LOOKUP_BYTES:
            error = f"{unread_bytes >> 20} MiB of earlier answers have not been read; read them, then ask again"
            return respond(http.HTTPStatus.SERVICE_UNAVAILABLE, {"error": error})
        return look_up(path, self)

    def _peer_left(self, peer: str) -> None:
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    # The end

    async def close(self, drain_timeout_s: float) -> None:
        """Refuse new frames, let those in flight finish, answer the rest, say goodbye with 1001."""
        self.dispatcher.begin_closing()
        feed_book().unlisten(self.viewers.changed)
        deadline = time.monotonic() + drain_timeout_s
        while self.dispatcher.jobs.active and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))
        self.viewers.close()
        await asyncio.sleep(0)  # connections write what the engines' last answers put into outboxes
        await self.stop_listening()
        for connection in list(self._connections):
            connection.finish()
        for server in self._servers:
            server.close(reason="server closed")
        await asyncio.gather(*(server.wait_closed() for server in self._servers))
        await _let_callbacks_run()  # transports close their sockets in callbacks
        self.dispatcher.spool.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _ends_of(connection: FrameConnection) -> Ends:
    return Ends(connection.remote_address[:2], connection.local_address[:2])


async def _let_callbacks_run() -> None:
    """Wait until the callbacks that asyncio has scheduled, and those that they schedule, have run."""
    for _ in range(_CALLBACK_TURNS):
        await asyncio.sleep(0)
