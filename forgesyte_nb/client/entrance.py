"""`Entrance`: the way to one server, and the secret that opens it, looked up for each connection.

The server that is there may have been replaced by one with another secret: of a server of this process it is known,
a file is read again. A secret goes to the server it belongs to and to nobody who has its port after it. Who was made
for the server of this process's `serve()`, and not for a URL or with a secret, follows it to another port.
"""

from __future__ import annotations

import os
from typing import Any

from forgesyte_nb.errors import ConnectionLost, ServerError
from forgesyte_nb.token_file import token_of
from forgesyte_nb.transport.base import Transport
from forgesyte_nb.transport.connecting import NoWayIn, default_url, open_socket, websocket_url
from forgesyte_nb.transport.local import LocalServer, LocalTransport
from forgesyte_nb.transport.own_servers import appointed, find, was_appointed
from forgesyte_nb.transport.socket import SocketTransport


class Entrance:
    """The way to one server."""

    def __init__(
        self,
        server: Any,
        token: str | os.PathLike[str] | None,
        *,
        ping_interval_s: float,
        ping_timeout_s: float,
        offer_v2: bool,
        lossless: bool,
    ) -> None:
        """Find out where it is.

        Args:
            server: A `Server`, the base URL of one, or None: see `default_url`.
            token: Its secret, or the path of a file with it; None if it has none, or it is known of the `Server`.
            ping_interval_s: Time between keepalive pings.
            ping_timeout_s: Silence after a ping that ends the connection.
            offer_v2: Whether to offer `forgesyte.v2`.
            lossless: True to send the pixels of arrays and decoded video as they are.

        Raises:
            ValueError: If it is no URL of a server.
            ServerError: If the token's file cannot be read, or others than its owner may read it.
        """
        self._url = websocket_url(default_url() if server is None else str(getattr(server, "url", server)))
        token_of(token)  # a file that is none says so now
        self._token = token
        is_server = hasattr(server, "settings")
        self._is_known = token is None and (server is None or is_server)
        # By default it is where the server of `serve()` runs now that counts: another process may have had it before.
        is_successor = was_appointed(self._url) if is_server else self._url == appointed()
        self._follows = self._is_known and is_successor
        self._ping = {"ping_interval_s": ping_interval_s, "ping_timeout_s": ping_timeout_s}
        self._offer_v2 = offer_v2
        self._lossless = lossless
        self._may_be_local = self._is_known and offer_v2

    @property
    def url(self) -> str:
        """Base URL of the server, where it is now."""
        return (self._follows and appointed()) or self._url

    async def enter(self, client_id: str) -> Transport:
        """Connect once, with the secret of now.

        Raises:
            ConnectionLost: If nobody answers there, or it refuses, saying what to do.
        """
        self._url = url = self.url
        if self._may_be_local and (server := find(url)) is not None:
            return _enter_locally(server, client_id)
        secret = self._secret(url)
        try:
            socket = await self._open(url, client_id, secret)
        except NoWayIn:
            if (self.url, self._secret(self.url)) == (url, secret):
                raise
            self._url = url = self.url
            socket = await self._open(url, client_id, self._secret(url))  # it was replaced meanwhile
        self._is_known = True
        return socket

    async def _open(self, url: str, client_id: str, secret: str | None) -> Transport:
        socket = await open_socket(url, client_id, secret, **self._ping, offer_v2=self._offer_v2)
        return SocketTransport(socket, lossless=self._lossless)

    def _secret(self, url: str) -> str | None:
        """Of a server of this process that has let this client in before, or that it was made for, its own.

        Raises:
            ConnectionLost: If the file that was named for it cannot be read at the moment.
        """
        own = find(url) if self._is_known else None
        try:
            return (own and own.settings.token) or token_of(self._token)
        except ServerError as error:
            raise ConnectionLost(f"the secret for {url} cannot be read: {error}") from error


def _enter_locally(server: LocalServer, client_id: str) -> LocalTransport:
    try:
        return LocalTransport(server, client_id)
    except ServerError as error:  # it is closing
        raise ConnectionLost(str(error)) from error
