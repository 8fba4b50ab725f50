"""Who may come in: one function, asked once for every path, before the upgrade.

In this order: `Host` names this machine's loopback (a page on the web whose name was made to point here does not), or
what `allow_hosts` names. `Origin` is absent (programs), the server's own page, a loopback page (any, unless
`allow_origins` narrows it), or listed: any page in a browser may open a WebSocket. A peer on loopback is a process of
our own user: the machine's other users can reach loopback too. And the token, where one is set. Only the page and its
files need none: a browser cannot present one on its way to a page, they are the same for everyone, and the page asks
for the token itself; and a preflight, to which browsers add none. Names are compared whole. The answer to a refused
client is constant; the reason is for the log.

Who is in has the seed's protocol. `forgesyte.v2`, with which feeds are watched and controlled, is for programs, the
server's own page, and pages of the Jupyter Server that started this kernel: see `may_use_feeds`.

Sources: RFC 6454 (Origin), RFC 9110 section 7.2 (Host), the Fetch standard (preflight); what went wrong elsewhere: DNS
rebinding (CVE-2025-66414), cross-site WebSocket hijacking (CVE-2025-24010), one route without the check
(CVE-2026-39987), a prefix taken for the whole (CVE-2026-40110).
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from websockets.datastructures import Headers

from forgesyte_nb.server.peer_uid import GONE, UNKNOWN, Address, peer_uid
from forgesyte_nb.settings import Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_HOST = "*"
"""In `allow_hosts`: any name will do; sound only where a token is asked of everyone."""

TOKEN_SUBPROTOCOL = "forgesyte.token."  # noqa: S105 -- a prefix, no secret
"""Browsers cannot set headers on a WebSocket; they offer the token as a subprotocol with this prefix."""

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.\-]+))(?::(?P<port>[0-9]{0,5}))?")
_LAST_PORT = 65535
_SHOWN_CHARACTERS = 400
_BEARER = "bearer "


class Ends(NamedTuple):
    """The two ends of a connection.

    Attributes:
        peer: Address and port of whoever asks.
        local: Ours.
    """

    peer: Address
    local: Address


def refusal(
    headers: Headers,
    settings: Settings,
    *,
    path: str = "",
    ends: Ends | None = None,
    page: Collection[str] = (),
    preflight: bool = False,
) -> str | None:
    """Why a request may not pass; None if it may.

    Args:
        headers: Of the HTTP request.
        settings: `allow_hosts`, `allow_origins`, `check_peer_uid` and `token` are looked at.
        path: Of the request, without its query.
        ends: Of its connection.
        page: Paths of the page and its files, which need no token.
        preflight: True if a browser asks whether it may send a request: it presents the token with that request only.
    """
    hosts = headers.get_all("Host")
    if len(hosts) != 1 or not _host_allowed(hosts[0], settings):
        return f"Host {_shown(hosts)} is not this server; list it in allow_hosts if it is"
    origins = headers.get_all("Origin")
    if len(origins) > 1 or (origins and not _origin_allowed(origins[0], hosts[0], settings)):
        return f"Origin {_shown(origins)} may not connect; list it in allow_origins if it may"
    if settings.check_peer_uid and ends is not None and (reason := foreign(ends)):
        return reason
    if (
        settings.token is not None
        and path not in page
        and not preflight
        and not _token_matches(headers, settings.token)
    ):
        return "no token, or a wrong one"
    return None


def _shown(values: list[str]) -> str:
    """The values of a header for the log, cut: whoever is refused must not fill it."""
    text = repr(values)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"


def is_preflight(method: str, headers: Headers) -> bool:
    """True if a request is a CORS preflight."""
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def may_use_feeds(headers: Headers, trusted_origins: Callable[[], Collection[str]]) -> bool:
    """True if a client may speak `forgesyte.v2`: a program, the server's own page, or a trusted page.

    Args:
        headers: Of the HTTP request; it has passed `refusal`.
        trusted_origins: Returns the origins of other pages that may.
    """
    origin, host = headers.get("Origin"), headers.get("Host", "")
    return origin is None or _is_own_page(origin, host) or origin.lower() in trusted_origins()


def foreign(ends: Ends) -> str | None:
    """Why the user of a peer on this machine is refused; None if it is this process's user, or cannot be found out."""
    if not ipaddress.ip_address(ends.peer[0]).is_loopback:
        return None
    uid = peer_uid(*ends)
    if uid is None or uid == os.getuid():
        return None
    if uid == GONE:
        return "the peer is gone, so its user cannot be told"
    if uid == UNKNOWN:
        return "the peer's user cannot be asked for: no descriptors or memory are left; close connections"
    return (
        f"the peer belongs to uid {uid}, this server to uid {os.getuid()}; "
        "to let other users of this machine in, set a token and check_peer_uid=False"
    )


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


def _origin_allowed(origin: str, host: str, settings: Settings) -> bool:
    if origin in settings.allow_origins:
        return True
    if _is_own_page(origin, host):
        return True
    page_host = _page_host(origin)
    return page_host is not None and not settings.allow_origins and _host_name(page_host) in LOOPBACK_NAMES


def _is_own_page(origin: str, host: str) -> bool:
    """True if the host of an Origin is that of the request, which has passed `_host_allowed`."""
    page_host = _page_host(origin)
    return page_host is not None and page_host.lower() == host.lower()


def _page_host(origin: str) -> str | None:
    """Host and port of an Origin; None if its scheme is not http or https."""
    scheme, separator, page_host = origin.partition("://")
    return page_host if separator and scheme in ("http", "https") else None


def _token_matches(headers: Headers, token: str) -> bool:
    offered = [value[len(_BEARER) :] for value in headers.get_all("Authorization") if value.lower().startswith(_BEARER)]
    for line in headers.get_all("Sec-WebSocket-Protocol"):
        names = (name.strip() for name in line.split(","))
        offered += [name.removeprefix(TOKEN_SUBPROTOCOL) for name in names if name.startswith(TOKEN_SUBPROTOCOL)]
    return any(hmac.compare_digest(one.encode(), token.encode()) for one in offered)
