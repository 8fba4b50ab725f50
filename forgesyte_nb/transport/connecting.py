"""Opening one connection to a server, and saying in plain words why it could not be opened.

The library's exceptions end here: what leaves is a connection, or `ConnectionLost` with what to do. `NoWayIn` is the
`ConnectionLost` that no second attempt will change.
"""

from __future__ import annotations

import os
import random
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.typing import Subprotocol

from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.protocol.messages import SUBPROTOCOL_V2
from forgesyte_nb.settings import MIB

_MAX_ANSWER_BYTES = 64 * MIB  # the largest result of a server with generous limits
_OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 -- to connect to, not bound


class NoWayIn(ConnectionLost):
    """The server is there and refuses; trying again would be refused again."""


def default_url() -> str:
    """Where a client looks for its server if it is not told: `FORGESYTE_NB_URL`, or port 8000 of this machine."""
    return os.environ.get("FORGESYTE_NB_URL") or "ws://localhost:8000"


def websocket_url(url: str) -> str:
    """The base URL of a server with the scheme of a WebSocket and no slash at its end.

    Raises:
        ValueError: If it is no URL of a server.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "ws", url
    scheme = {"http": "ws", "https": "wss"}.get(scheme.lower(), scheme.lower())
    if scheme not in ("ws", "wss") or not _has_host(rest):
        raise ValueError(f"url={url!r}: give the address of a server, such as 'ws://localhost:8000'")
    return f"{scheme}://{rest.rstrip('/')}"


def _has_host(rest: str) -> bool:
    """True if what follows the scheme of a URL has a host, which is no number alone, and no port that cannot be."""
    try:
        parts = urlsplit(f"//{rest}")
        return parts.hostname is not None and not parts.hostname.isdigit() and parts.port != 0
    except ValueError:
        return False


async def open_socket(
    url: str, client_id: str, token: str | None, *, ping_interval_s: float, ping_timeout_s: float, offer_v2: bool
) -> ClientConnection:
    """Connect once.

    Args:
        url: Base URL of the server.
        client_id: Who connects.
        token: The server's secret, if it has one; travels in a header.
        ping_interval_s: Time between keepalive pings.
        ping_timeout_s: Silence after a ping that ends the connection.
        offer_v2: Whether to offer `forgesyte.v2`.

    Raises:
        ConnectionLost: If nobody answers there, saying what to do.
    """
    try:
        return await connect(
            f"{url}/ws/{client_id}",
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            subprotocols=[Subprotocol(SUBPROTOCOL_V2)] if offer_v2 else None,
            compression=None,  # pictures are compressed already
            proxy=None if urlsplit(url).hostname in _LOOPBACK else True,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s,
            max_size=_MAX_ANSWER_BYTES,
        )
    except InvalidStatus as error:
        raise _refused(url, error.response) from error
    except InvalidURI as error:
        raise NoWayIn(f"{url} is no address of a server: {error}") from error
    except TimeoutError as error:
        raise ConnectionLost(f"{url} did not answer within {_OPEN_TIMEOUT_S:g} s: is it the right address?") from error
    except InvalidHandshake as error:
        if isinstance(error.__cause__, EOFError):
            raise ConnectionLost(f"{url} closed the connection before it answered: is the port right?") from error
        raise ConnectionLost(f"{url} answers, but not as a WebSocket server ({error}): is the port right?") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionLost(
            f"No server at {url} ({reason}): start one with fs.serve(), or pass the url of the one that runs"
        ) from error


def _refused(url: str, response: Response) -> ConnectionLost:
    remedy = {
        200: "that is no ForgeSyte server: see that the port is right",
        401: "pass the server's secret: token=…",
        403: "pass the server's secret if it has one, token=…; the server's log says more",
        404: "see that a ForgeSyte server listens there, and give the url without a path",
    }.get(response.status_code, "the server's log says more")
    said = (response.body or b"")[:300].decode(errors="replace").strip()
    text = f"{url} refused the connection: HTTP {response.status_code} {response.reason_phrase}; {remedy}"
    text += f". It says: {said}" if said else ""
    return ConnectionLost(text) if response.status_code >= 500 else NoWayIn(text)


def pause_s(attempt: int, first_s: float, most_s: float) -> float:
    """Pause before attempt 1, 2, …: doubling from `first_s` to `most_s`, cut by up to half at random, so that the
    clients of a restarted server do not all come at once."""
    whole = min(first_s * 2.0 ** min(attempt - 1, 60), most_s)
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, no secret
