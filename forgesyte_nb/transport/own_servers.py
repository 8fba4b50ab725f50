"""The running servers of this process by URL, so that its own clients find them and need no token.

One of them at a time is the server of `serve()`. A client that was created for it, without a URL or a token, follows it
to another port. URLs are compared whole: a token goes to the server it belongs to, and to no other program that listens
on its port later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forgesyte_nb.transport.local import LocalServer

_servers: dict[str, LocalServer] = {}
_line: set[str] = set()  # URLs of the present and former servers of `serve()`
_appointed = ""  # the last of them


def enter(url: str, server: LocalServer) -> None:
    """Add a running server."""
    _servers[url] = server
    _line.discard(url)  # until it is appointed, it is another one


def appoint(url: str) -> None:
    """Make the server at a URL that of `serve()`."""
    global _appointed  # noqa: PLW0603 -- of this process
    _line.add(url)
    _appointed = url


def was_appointed(url: str) -> bool:
    """True if the server at a URL is, or was last, that of `serve()`."""
    return url in _line


def appointed() -> str:
    """URL of the server of `serve()`; empty if none runs."""
    return _appointed if _appointed in _servers else ""


def leave(url: str) -> None:
    """Remove a server."""
    _servers.pop(url, None)


def find(url: str) -> LocalServer | None:
    """The running server of this process at a URL."""
    return _servers.get(url)
