"""The servers that run in this process, by their URL, and their secrets: its own clients need not be told them.

One of them at a time is that of `serve()`. Whoever was made for it, and was given neither a URL nor
a secret, goes where its successor is, on whatever port.

A server enters itself before it lets anyone in and leaves when it is closed. Whoever comes back to a URL finds here
what the server that has it by then asks for. URLs are compared whole: a secret goes to the server it belongs to, and to
nobody who has its port after it. A process that is forked from this one goes on with what was known until then.
"""

from __future__ import annotations

_secrets: dict[str, str | None] = {}
_line: set[str] = set()  # where the servers of `serve()` are and were, one after the other
_appointed = ""  # the last of them


def enter(url: str, secret: str | None) -> None:
    """A server of this process is at `url` from now on, and asks for `secret`."""
    _secrets[url] = secret
    _line.discard(url)  # until it is appointed, it is another one


def appoint(url: str) -> None:
    """The one that has entered at `url` is that of `serve()` from now on."""
    global _appointed  # noqa: PLW0603 -- of this process
    _line.add(url)
    _appointed = url


def was_appointed(url: str) -> bool:
    """Whether what is there is, or was last, that of `serve()`."""
    return url in _line


def appointed() -> str:
    """Where the server of `serve()` is; empty if none runs."""
    return _appointed if _appointed in _secrets else ""


def leave(url: str) -> None:
    """None is there any longer."""
    _secrets.pop(url, None)


def secret_of(url: str) -> str | None:
    """What the server of this process at `url` asks for; None if there is none, or it asks for nothing."""
    return _secrets.get(url)
