"""Who may come in: one function, asked once for every path, before the upgrade.

The server listens on loopback and needs no token there, so three things are checked: `Host` names this machine's
loopback (a page on the web whose name was made to point here does not), `Origin` is absent or a loopback page or
a listed one (any page in a browser may open a WebSocket), and where the server is bound to more than loopback, the
token. Names are compared whole. The answer to a refused client is constant; the reason is for the log.

Sources: RFC 6454 (Origin), RFC 9110 section 7.2 (Host); what went wrong elsewhere is listed in SECURITY.md of
the projects concerned (DNS rebinding, cross-site WebSocket hijacking).
"""

from __future__ import annotations

import hmac
import re

from websockets.datastructures import Headers

from forgesyte_nb.settings import Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_HOST = "*"
"""In `allow_hosts`: any name will do; sound only where a token is asked of everyone."""

TOKEN_SUBPROTOCOL = "forgesyte.token."  # noqa: S105 -- a prefix, no secret
"""Browsers cannot set headers on a WebSocket; they offer the token as a subprotocol with this prefix."""

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.\-]+))(?::(?P<port>[0-9]{0,5}))?")
_LAST_PORT = 65535
_BEARER = "bearer "


def refusal(headers: Headers, settings: Settings) -> str | None:
    """Why a request may not pass; None if it may.

    Args:
        headers: Of the HTTP request.
        settings: `allow_hosts`, `allow_origins` and `token` are looked at.
    """
    hosts = headers.get_all("Host")
    if len(hosts) != 1 or not _host_allowed(hosts[0], settings):
        return f"Host {hosts!r} is not this server; list it in allow_hosts if it is"
    origins = headers.get_all("Origin")
    if len(origins) > 1 or (origins and not _origin_allowed(origins[0], settings)):
        return f"Origin {origins!r} may not connect; list it in allow_origins if it may"
    if settings.token is not None and not _token_matches(headers, settings.token):
        return "no token, or a wrong one"
    return None


def _host_allowed(host: str, settings: Settings) -> bool:
    name = _host_name(host)
    if name is None:
        return False
    allowed = [one.lower() for one in settings.allow_hosts]
    return name in LOOPBACK_NAMES or name in allowed or ANY_HOST in allowed


def _host_name(host: str) -> str | None:
    """The name in `name:port`, an IPv6 address without its brackets; None if it is malformed."""
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        return None
    return (match["address"] or match["name"]).lower()


def _origin_allowed(origin: str, settings: Settings) -> bool:
    if origin in settings.allow_origins:
        return True
    scheme, separator, host = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    return _host_name(host) in LOOPBACK_NAMES


def _token_matches(headers: Headers, token: str) -> bool:
    offered = [value[len(_BEARER) :] for value in headers.get_all("Authorization") if value.lower().startswith(_BEARER)]
    for line in headers.get_all("Sec-WebSocket-Protocol"):
        names = (name.strip() for name in line.split(","))
        offered += [name.removeprefix(TOKEN_SUBPROTOCOL) for name in names if name.startswith(TOKEN_SUBPROTOCOL)]
    return any(hmac.compare_digest(one.encode(), token.encode()) for one in offered)
