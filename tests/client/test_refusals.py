"""What a user gives by mistake is refused in words: what was given, what is allowed, what to do."""

from __future__ import annotations

import base64
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

PLUGIN = """
@fs.plugin
def bright(frame, *, threshold: float = 0.5):
    return {"bright": float(frame.gray.mean()) > threshold}
"""
NOISE = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
TEXT = base64.b64encode(fs.Frame.from_array(NOISE, lossless=True).bytes).decode()
BLACK = np.zeros((8, 8, 3), np.uint8)
LONGEST = 300  # characters


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fs.Server]:
    registry = Registry()
    run_cell(PLUGIN, registry)
    log = tmp_path_factory.mktemp("log") / "log"
    with fs.Server(port=0, settings=fs.Settings(engine="inline"), plugin_registry=registry, log=log) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: fs.Server) -> Iterator[fs.BlockingClient]:
    with fs.BlockingClient(server) as made:
        yield made


def message_of(call: Callable[..., object], kind: type[BaseException], *arguments: Any, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **more)
    assert len(str(caught.value)) < LONGEST
    return str(caught.value)


PICTURES: dict[str, tuple[Any, str]] = {
    "base64": (TEXT, "is base64 text: give base64.b64decode(text)"),
    "data URL": (f"data:image/png;base64,{TEXT}", "is base64 text: give base64.b64decode(text.partition(',')[2])"),
    "base64 as bytes": (TEXT.encode(), "bytes of base64 text, not of an image file: give base64.b64decode(…)"),
    "URL": ("https://example.com/cat.jpg?token=secret", "https://example.com/cat.jpg is a URL, not a path: download"),
    "uint16": (np.zeros((8, 8), np.uint16), "Array of uint16: a frame is uint8, 0–255; for 16 bits use (array >> 8)"),
    "no file": ("no.png", "no.png: No such file or directory; give the path of an image file, or its bytes"),
    "no text": ("", "'': Is a directory; give the path of an image file, or its bytes"),
    "nothing": (None, "NoneType is no picture: give bytes of an image file, a path, a uint8 array (H, W, 3)"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture(client: fs.BlockingClient, name: str) -> None:
    picture, said = PICTURES[name]
    message = message_of(client.analyze, fs.ForgeSyteError, picture, "bright")
    assert said in message
    assert "secret" not in message
    assert "nothing to send" not in message


@pytest.mark.parametrize("name", ["base64", "data URL"])
def test_base64_text_is_no_source(server: fs.Server, name: str) -> None:
    text, said = PICTURES[name]
    assert said in message_of(fs.open_source, fs.SourceError, text)
    assert said in message_of(fs.stream, fs.SourceError, text, "bright", server=server)


def test_a_text_too_long_for_a_path_is_no_file() -> None:
    with pytest.raises(fs.SourceError, match=r"^No file '"):
        fs.open_source("é" * 5000)


CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no such option": (
        *("analyze", (BLACK, "bright"), {"thresold": 1}, fs.InvalidOptions),
        "thresold: no such option; did you mean 'threshold'?",
    ),
    "options as a list": (
        *("analyze", (BLACK, "bright", ["threshold"]), {}, TypeError),
        "options of type list: give a dict, such as {'threshold': 0.8}, or the options as keywords",
    ),
    "options as text": ("batch", ([BLACK], "bright", "threshold=1"), {}, TypeError, "options of type str: give a dict"),
    "no such plugin": (
        *("analyze", (BLACK, "brigth"), {}, fs.PluginNotFound),
        "No plugin 'brigth'; did you mean 'bright'?",
    ),
    "arguments in the wrong order": (
        *("analyze", ("bright", BLACK), {}, TypeError),
        "plugin of type ndarray: give the plugin's name, which comes after the picture or source, such as 'ocr'",
    ),
    "a function as plugin": ("analyze", (BLACK, message_of), {}, TypeError, "or source, such as 'message_of'"),
    "no such intent": (
        *("stream", ([BLACK], "bright"), {"intent": "newest"}, ValueError),
        "intent='newest': choose 'every_frame' (nothing is skipped) or 'freshest'",
    ),
    "every as text": (
        *("stream", ([BLACK], "bright"), {"every": "2"}, ValueError),
        "every='2': give a whole number, 1 or more",
    ),
    "fps as text": (
        *("stream", ([BLACK], "bright"), {"fps": "2"}, ValueError),
        "fps='2': give a number greater than 0",
    ),
    "reconnect_s as None": (
        *("stream", ([BLACK], "bright"), {"reconnect_s": None}, ValueError),
        "reconnect_s=None: give a number, 0 or more",
    ),
    "topic as None": (
        *("subscribe", (None,), {}, fs.InvalidMessage),
        "topic None is none of 'all', 'job_<job_id>', 'plugin_<plugin_name>'",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_asked(client: fs.BlockingClient, name: str) -> None:
    method, arguments, more, kind, said = CALLS[name]
    assert said in message_of(getattr(client, method), kind, *arguments, **more)


@pytest.mark.parametrize("url", [8000, "8000", "ws://localhost:99999", "ftp://localhost", "ws://", "ws://localhost:x"])
def test_what_is_no_url_of_a_server(url: Any) -> None:
    said = message_of(fs.Client, ValueError, url)
    assert said == f"url={str(url)!r}: give the address of a server, such as 'ws://localhost:8000'"


def test_secrets_and_names_of_the_wrong_type() -> None:
    said = message_of(fs.Client, TypeError, token=3)
    assert said == "token of type int: give the server's secret as a str, or a Path to its file"
    assert message_of(fs.Client, ValueError, client_id=3).startswith("client_id=3:")


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that is no ForgeSyte server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a page."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def test_where_no_server_of_ours_is(tmp_path: Path) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        said = message_of(fs.BlockingClient, fs.ConnectionLost, url)
    assert said.startswith(f"No server at {url} (")
    assert "start one with fs.serve(), or pass the url of the one that runs" in said
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        said = message_of(fs.BlockingClient, fs.ConnectionLost, f"ws://localhost:{other.server_port}")
        other.shutdown()
        thread.join()
    assert "that is no ForgeSyte server: see that the port is right" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = message_of(fs.Server, fs.ServerError, port=port, log=tmp_path / "log")
    assert f"cannot listen on localhost:{port}: Address already in use" in said
    assert "choose another port" in said


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_server_with_another_secret(tmp_path: Path, token: str | None) -> None:
    settings = fs.Settings(engine="inline", token="right")  # noqa: S106 -- of this test alone
    with fs.Server(port=0, settings=settings, log=tmp_path / "log") as guarded:
        said = message_of(fs.BlockingClient, fs.ConnectionLost, guarded.url, token=token)
    assert "403 Forbidden; pass the server's secret if it has one, token=…" in said
    assert "wrong" not in said
