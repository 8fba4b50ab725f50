"""URLs of network streams: a name without secrets for people, the rest for libraries alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

_PORT = re.compile(r"(?:[^:]*|\[[^\]]*\])(?::\d*)?")  # host, or host and port


@dataclass(frozen=True)
class StreamAddress:
    """A URL taken apart.

    Attributes:
        name: Scheme, host, port and path. User name, password, query and fragment, which may be secrets, are left out.
        scheme: Such as "rtsp", in lower case.
        url: The whole URL with the scheme in lower case, as FFmpeg needs it; may hold secrets.
        bare_url: The URL without user name and password; may hold secrets in its query.
        user: User name, decoded; empty if there is none.
        password: Password, decoded; empty if there is none.
    """

    name: str
    scheme: str
    url: str = field(repr=False)
    bare_url: str = field(repr=False)
    user: str = field(repr=False)
    password: str = field(repr=False)


def parse_stream_url(url: str) -> StreamAddress:
    """Take a URL apart.

    A password may hold `/`, `?` or `#` that were not encoded: what stands in the place of a port, and is no number, is
    taken for the start of one.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    end = _end_of_host(rest, 0)
    if "@" in rest[end:] and _PORT.fullmatch(rest[:end]) is None and "@" not in rest[:end]:
        end = _end_of_host(rest, rest.index("@", end))
    host, path = rest[:end], rest[end:]
    login, at, host = host.rpartition("@")
    user, _, password = login.partition(":")
    bare = f"{scheme}://{host}{path}"
    shown = re.split(r"[?#]", path, maxsplit=1)[0]
    return StreamAddress(
        f"{scheme}://{host}{shown}",
        scheme,
        f"{scheme}://{login}{at}{host}{path}",
        bare,
        unquote(user),
        unquote(password),
    )


def _end_of_host(rest: str, start: int) -> int:
    return min((at for mark in "/?#" if (at := rest.find(mark, start)) >= 0), default=len(rest))


def is_stream_url(text: str) -> bool:
    """True if a text is a URL with a host: `scheme://…`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def without_secrets(text: str) -> str:
    """A URL as people may see it; any other text as it is."""
    if not is_stream_url(text):
        return text
    return parse_stream_url(text).name
