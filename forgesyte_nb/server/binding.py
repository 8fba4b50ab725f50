"""Sockets bound to a port: both loopback addresses or neither, the next free port or a clear refusal."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from forgesyte_nb.errors import ServerError

DEFAULT_PORT = 8000
_PORTS_TRIED = 100
_LARGEST_PORT = 65535
_BACKLOG = 1024
_OTHER_PORT = "choose another port, or leave port out and the next free one is taken"


def bind(host: str, port: int | None) -> list[socket.socket]:
    """Sockets that listen on one port: both loopback addresses for "localhost", where the machine has both.

    Args:
        host: "localhost", or an address or name of this machine.
        port: The port; None for `DEFAULT_PORT` or the next that is free, 0 for any.

    Raises:
        ServerError: If the port that was asked for is taken, forbidden or none, if the host is not of this machine, or
            if none of the ports tried is free.
    """
    if port is not None:
        if not hasattr(port, "__index__") or not 0 <= port <= _LARGEST_PORT:
            raise ServerError(f"port={port}: a port is a number from 0 to {_LARGEST_PORT}; {_OTHER_PORT}")
        try:
            return _bind_all(host, port)
        except OSError as error:
            raise ServerError(_why_not(host, port, error)) from error
    reason: OSError | None = None
    for candidate in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        try:
            return _bind_all(host, candidate)
        except OSError as error:
            if _is_elsewhere(error):
                raise ServerError(_why_not(host, candidate, error)) from error
            reason = error
    raise ServerError(
        f"no free port from {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS_TRIED - 1} on {host}: {reason}; "
        "name one with port="
    )


def _is_elsewhere(error: OSError) -> bool:
    """Whether it is the host that is wrong, whatever the port."""
    return isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL


def _why_not(host: str, port: int, error: OSError) -> str:
    reason = error.strerror or error
    if _is_elsewhere(error):
        return f"host {host!r} is no name or address of this machine ({reason}); 'localhost' always is"
    cause = "Another program (or another notebook's server) has it"
    if isinstance(error, PermissionError):
        cause = "This user may not have it: ports of low numbers, as a rule those below 1024, are the administrator's"
    return f"cannot listen on {host}:{port}: {reason}. {cause}; {_OTHER_PORT}"


def _bind_all(host: str, port: int) -> list[socket.socket]:
    addresses = ["127.0.0.1", "::1"] if host == "localhost" else [host]
    if host == "localhost" and not _has_ipv6_loopback():
        addresses = ["127.0.0.1"]
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound.append(_bind_one(address, bound[0].getsockname()[1] if bound else port))
    except OSError:
        for one in bound:
            one.close()
        if port == 0 and len(bound) == 1:
            return _bind_all(host, port)  # the port was free on one address only: take another
        raise
    return bound


def _bind_one(address: str, port: int) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(target)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _has_ipv6_loopback() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False
