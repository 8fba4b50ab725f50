"""What pages of other origins may read over HTTP (CORS), and that a request with a body gets an answer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from forgesyte_nb.server.lookups import PAGE_PATHS
from tests.conftest import PATIENCE_S
from tests.security.test_who_may_connect import LAB, TOKEN, TOKENS, start
from tests.server.conftest import RawSocket, log_of

PAGE = "http://localhost:5173"
SHARED = ["/v1/plugins", "/v1/jobs", "/v1/jobs/job_1", *sorted(path for path in PAGE_PATHS if path.endswith(".js"))]
NOT_SHARED = ["/", "/page.css", "/healthz", "/metrics", "/nothing"]
ASKS = [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "authorization")]
HOST = ("Host", "localhost")


def test_pages_that_may_connect_may_read_scripts_and_v1_alone(tmp_path: Path) -> None:
    with start(tmp_path) as running:
        for path in [*SHARED, *NOT_SHARED]:
            for origin in (PAGE, None):
                with RawSocket(running.port) as raw:
                    status, _ = raw.request(path, [HOST, *([("Origin", origin)] if origin else [])])
                assert status in (200, 404)
                readable = origin if path in SHARED else None
                assert raw.headers["Access-Control-Allow-Origin"] == readable, path
                assert raw.headers["Vary"] == ("Origin" if path in SHARED else None), path


@pytest.mark.parametrize("path", ["/v1/plugins", "/forgesyte.js"])
@pytest.mark.parametrize(("origin", "narrow"), [("http://evil.example", ()), (PAGE, (LAB,)), ("null", ())])
def test_pages_that_may_not_connect_read_nothing(
    tmp_path: Path, path: str, origin: str, narrow: tuple[str, ...]
) -> None:
    with start(tmp_path, allow_origins=narrow) as running:
        for method, more in (("GET", []), ("OPTIONS", ASKS)):
            with RawSocket(running.port) as raw:
                assert raw.request(path, [HOST, ("Origin", origin), *more], method)[0] == 403
            assert not [name for name in raw.headers if name.lower().startswith("access-control")]


def test_a_page_may_present_the_token(tmp_path: Path) -> None:
    with start(tmp_path, token=TOKEN) as running:
        with RawSocket(running.port) as raw:
            assert raw.request("/v1/plugins", [HOST, ("Origin", PAGE), *ASKS], "OPTIONS") == (204, b"")
        assert raw.headers["Access-Control-Allow-Origin"] == PAGE
        assert raw.headers["Access-Control-Allow-Methods"] == "GET"
        assert raw.headers["Access-Control-Allow-Headers"] == "Authorization"
        assert raw.headers["Vary"] == "Origin"
        for shown, status in (("right", 200), ("wrong", 403), ("none", 403)):
            with RawSocket(running.port) as raw:
                assert raw.request("/v1/plugins", [HOST, ("Origin", PAGE), *TOKENS[shown]])[0] == status
        for path in ("/healthz", "/ws/x"):
            with RawSocket(running.port) as raw:
                assert raw.request(path, [HOST, ("Origin", PAGE), *ASKS], "OPTIONS")[0] == 405, "nothing to ask for"


BIG = b"x" * 20_000_000


@pytest.mark.parametrize(
    ("announced", "body"),
    [
        ([("Content-Length", "2")], b"{}"),
        ([("content-length", str(len(BIG)))], BIG),
        ([("Content-Length", "5"), ("Expect", "100-continue")], b""),
        ([("Transfer-Encoding", "chunked")], b"2\r\n{}\r\n0\r\n\r\n"),
        ([("Content-Length", "60")], b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ],
    ids=["short", "long", "expect", "chunked", "request"],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_request_with_a_body_is_answered_once(
    tmp_path: Path, method: str, announced: list[tuple[str, str]], body: bytes
) -> None:
    with start(tmp_path) as running:
        for host, status in (("localhost", 405), ("evil.example", 403)):
            with RawSocket(running.port) as raw:
                answered, said = raw.request("/v1/analyze", [("Host", host), *announced], method, body)
                assert answered == status
                assert raw.headers["Allow"] == ("GET" if status == 405 else None)
                assert b"HTTP/1.1" not in said, "the body is not read as a request"
        with RawSocket(running.port) as raw:
            assert raw.request("/v1/plugins", [HOST, *announced], sent=body)[0] == 400
        assert "Traceback" not in log_of(running)


HEADS = {
    b"POST /v1/plugins HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}": b"HTTP/1.1 405 ",
    b"GET /v1/plugins HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n": b"HTTP/1.1 200 ",
    b"GET /v1/plugins HTTP/1.1\r\nX: content-length: 5\r\nHost: localhost\r\n\r\n": b"HTTP/1.1 200 ",
    b"GET /\xc3\xbc HTTP/1.1\r\nHost: localhost\r\n\r\n": b"HTTP/1.1 400 ",
    b"no request\r\n\r\n": b"HTTP/1.1 400 ",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n": b"HTTP/1.1 431 ",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 15 + b"\r\n": b"HTTP/1.1 431 ",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 15: b"HTTP/1.1 431 ",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 7 + b"\r\n": b"HTTP/1.1 200 ",
    b"GET /v1/plugins HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n": b"HTTP/1.1 404 ",
}


@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
@pytest.mark.parametrize("portion", [1, 7, 1_000_000])
def test_heads_cut_anywhere(tmp_path: Path, head: bytes, portion: int) -> None:
    if portion == 1 and len(head) > 1000:
        portion = 1000
    with start(tmp_path) as running, socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(head), portion):
            raw.sendall(head[at : at + portion])
        assert b"".join(iter(lambda: raw.recv(65536), b"")).startswith(HEADS[head])
