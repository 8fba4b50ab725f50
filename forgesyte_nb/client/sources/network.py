"""Pictures by URL: live streams, multipart cameras, and files on a web server.

The answer to one HTTP request decides. A multipart answer is a camera, and is read on: many cameras serve one client.
An answer without length whose content has none is live. Everything else is a file, which FFmpeg requests by itself.
No error text, name or log has the user name, password or query of a URL.
"""

from __future__ import annotations

import time
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    Request,
    build_opener,
)

from forgesyte_nb.client.sources.base import Source
from forgesyte_nb.client.sources.camera import FFmpegConnection, open_stream, silence_limit_s
from forgesyte_nb.client.sources.live import NETWORK_TIMEOUT_S, Connection, LiveSource
from forgesyte_nb.client.sources.multipart import MultipartConnection
from forgesyte_nb.client.sources.urls import StreamAddress, parse_stream_url
from forgesyte_nb.client.sources.video import VideoFile, open_container
from forgesyte_nb.errors import SourceError

_MOST_FILE_BYTES = 256 * 1024 * 1024  # of a file that is read whole, since its server gives no parts of it
_DOWNLOAD_S = 120.0
_PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl")
_HTTP = ("http", "https")


def open_url(url: str, *, reconnect_s: float, **pace: Any) -> Source:
    """Connect to a camera or stream, or look into a video on a web server.

    Raises:
        SourceError: If it does not answer, or holds no pictures.
    """
    address = parse_stream_url(url)
    if address.scheme not in _HTTP:
        return open_stream(address.url, address.name, reconnect_s=reconnect_s, **pace)
    silence_s = silence_limit_s(reconnect_s)
    response = _request(address, NETWORK_TIMEOUT_S)
    if (connection := _live_connection(response, address.name, silence_s)) is None:
        response.close()
        return _open_file(address, pace)

    def connect(wait_s: float) -> Connection:
        limit_s = min(wait_s, silence_s)
        answer = _request(address, limit_s)
        again = _live_connection(answer, address.name, limit_s)
        if again is None:
            answer.close()
            raise SourceError(f"{address.name} is no live stream any more")
        return again

    return LiveSource(address.name, connect, first=connection, reconnect_s=reconnect_s, **pace)


def _live_connection(response: HTTPResponse, name: str, silence_s: float) -> Connection | None:
    """The answer as a live stream; None if it is a file."""
    kind = response.headers.get_content_type()
    if kind.startswith("multipart/"):
        return MultipartConnection(response, silence_s=silence_s)
    if response.length is not None or kind in _PLAYLISTS:
        return None
    try:
        container = open_container(_Readable(response), name)
    except SourceError:
        return None  # a file whose index stands at its end, or no video, which is then said
    if container.duration is not None:
        container.close()
        return None
    return FFmpegConnection(container, silence_s=silence_s, on_close=response.close)


class _Readable:
    """What FFmpeg reads: it takes what is there instead of waiting until its buffer is full."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    def read(self, size: int) -> bytes:
        return self._response.read1(size)


def _request(address: StreamAddress, timeout_s: float) -> HTTPResponse:
    """Ask for a URL, with its user name and password (Basic or Digest, RFC 7617 and 7616).

    Raises:
        SourceError: If there is no answer, or it is an error.
    """
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, address.bare_url, address.user, address.password)
    handlers = (HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords)) if address.user else ()
    reason = ""
    try:
        request = Request(address.bare_url.partition("#")[0], headers={"User-Agent": "forgesyte_nb"})  # noqa: S310
        response: HTTPResponse = build_opener(*handlers).open(request, timeout=timeout_s)
        return response
    except HTTPError as error:
        reason = f"the server answers {error.code} {error.reason}"
        if error.code in (401, 403):
            reason += f"; give its user name and password: {address.scheme}://USER:PASSWORD@…"
        error.close()
    except URLError as error:
        reason = str(getattr(error.reason, "strerror", None) or error.reason)
    except TimeoutError:
        reason = f"no answer within {timeout_s:g} s"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    # Raised outside of `except`: the error of the library may name the whole URL.
    raise SourceError(f"{address.name} cannot be read: {reason}")


def _open_file(address: StreamAddress, pace: dict[str, Any]) -> Source:
    options = {"timeout": NETWORK_TIMEOUT_S}
    try:
        return VideoFile(address.url, name=address.name, open_options=options, **pace)
    except SourceError:
        # FFmpeg finds no index at the end of a file if the server gives no parts of it (RFC 9110, section 14).
        content = _download(address)
    return VideoFile(content, name=address.name, **pace)


def _download(address: StreamAddress) -> bytes:
    response = _request(address, NETWORK_TIMEOUT_S)
    end_at, content = time.monotonic() + _DOWNLOAD_S, bytearray()
    with response:
        too_large = (response.length or 0) > _MOST_FILE_BYTES
        try:
            while not too_large and (data := response.read1(1 << 20)):
                content += data
                too_large = len(content) > _MOST_FILE_BYTES or time.monotonic() > end_at
        except (OSError, HTTPException) as error:
            raise SourceError(f"{address.name} cannot be read: {type(error).__name__} while reading") from None
    if too_large:
        raise SourceError(
            f"{address.name} cannot be read in place, since its server gives no parts of files, and is over "
            f"{_MOST_FILE_BYTES >> 20} MiB or too slow to be read whole: download it and give its path"
        )
    return bytes(content)
