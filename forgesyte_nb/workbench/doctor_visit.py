"""`Visit`: what one examination knows, from one check to the next, and how it asks a server over HTTP."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from forgesyte_nb.server.server import Server

ASK_TIMEOUT_S = 5.0
"""Silence of a server that ends a question; it may share its processor with a cell."""

_MOST_BODY_BYTES = 4 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"ws": 80, "wss": 443}


class Answer(NamedTuple):
    """Of an HTTP server.

    Attributes:
        status: HTTP status.
        body: The JSON of the body; None if it is none.
        software: What the header `Server` says; empty if nothing.
    """

    status: int
    body: Any
    software: str


@dataclass
class Visit:
    """An examination under way.

    Attributes:
        url: Base URL that is examined.
        complaint: Why `url` is none; empty if it is one.
        token: Secret that was given.
        server: The server of this process, if one runs.
        listens: Whether something accepted a connection there.
        answers: Whether what listens is a ForgeSyte server.
        admitted: Whether its gate lets this process in.
        server_id: What it says of itself.
        plugins: Names of its plugins in force.
        log_before: The log of this process's server before the examination added to it.
    """

    url: str
    complaint: str
    token: str | None
    server: Server | None
    listens: bool = False
    answers: bool = False
    admitted: bool = False
    server_id: str = ""
    plugins: list[str] = field(default_factory=list)
    log_before: str = ""

    def __post_init__(self) -> None:
        """Read the log, and know the secret of a server of this process."""
        if self.server is not None:
            with suppress(OSError):  # the log's file may have been taken away
                self.log_before = self.server.log_tail(1000)
            if self.token is None and self.is_own:
                self.token = self.server.settings.token

    @property
    def parts(self) -> SplitResult:
        """The URL taken apart."""
        return urlsplit(self.url)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.parts.hostname or "", self.parts.port or _DEFAULT_PORTS.get(self.parts.scheme, 80)

    @property
    def on_this_machine(self) -> bool:
        """Whether the URL names loopback."""
        return not self.complaint and self.parts.hostname in _LOOPBACK

    @property
    def is_own(self) -> bool:
        """Whether the URL is that of this process's server."""
        if self.server is None or self.complaint or self.parts.path:
            return False
        host, port = self.address
        return port == self.server.port and (self.on_this_machine or host == self.server.host)

    def ask(self, path: str, origin: str = "") -> Answer:
        """GET a path below the URL.

        Raises:
            OSError: If nobody answers in time.
            http.client.HTTPException: If what answers is no HTTP server.
        """
        kind = http.client.HTTPSConnection if self.parts.scheme == "wss" else http.client.HTTPConnection
        connection = kind(*self.address, timeout=ASK_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Origin": origin} if origin else {}
        try:
            connection.request("GET", f"{self.parts.path}{path}", headers=headers)
            response = connection.getresponse()
            text = response.read(_MOST_BODY_BYTES)
            software = response.headers.get("Server", "")
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(text), software)
        except ValueError:
            return Answer(response.status, None, software)
