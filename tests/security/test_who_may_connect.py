"""Every Origin with every Host, token and path, over real sockets; what is expected is reckoned here, apart."""

from __future__ import annotations

import errno
import itertools
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import gate, peer_uid
from tests.conftest import PATIENCE_S, wait_for
from tests.figures import Figures
from tests.server.conftest import RawSocket, log_of, upgrade

TOKEN = "correct-horse-battery"  # noqa: S105 -- of this test alone
LAB = "https://lab.example.org"
PAGE = {"/", "/page.js", "/forgesyte.js", "/page.css"}
PATHS = [*sorted(PAGE), "/ws/x", "/v1/plugins", "/v1/jobs", "/healthz", "/metrics", "/nothing"]
GOOD_HOSTS = ["localhost", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"]
BAD_HOSTS = ["localhost.evil.example", "evil.example", "127.0.0.1.evil.example:{port}", "localhost@evil.example",
             "0.0.0.0", "[::]", "127.1", ""]  # fmt: skip
LOOPBACK_PAGES = [
    "http://localhost",
    "https://localhost:3000",
    "http://127.0.0.1:8888",
    "http://[::1]",
    "http://LOCALHOST:1",
]
BAD_PAGES = ["null", "", "http://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example",
             "http://evil.example/localhost", "http://localhost@evil.example", "http://evil.example@localhost",
             "http://evil.example#localhost", "localhost", "//localhost", "file://localhost", "ftp://localhost",
             "ws://localhost", "http://localhost:x", "http://localhost/path", "http:localhost", "http://127.0.0.2",
             LAB + ".evil.example", "http://lab.example.org", LAB + ":444", "https://xlab.example.org",
             "*"]  # fmt: skip
FORBIDDEN = b'{"error":"forbidden; the server\'s log says why"}'
ORIGINS = [None, LAB, *LOOPBACK_PAGES, *BAD_PAGES]
TOKENS = {"none": [], "wrong": [("Authorization", "Bearer wrong")], "right": [("Authorization", f"Bearer {TOKEN}")]}


def start(folder: Path, **settings: Any) -> fs.Server:
    chosen = fs.Settings(engine="inline", **settings)
    return fs.Server(port=0, settings=chosen, plugin_registry=Registry(), log=folder / "server.log")


@pytest.fixture(params=["open", "token", "narrowed"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[fs.Server]:
    settings: dict[str, Any] = {"open": {}, "token": {"token": TOKEN}, "narrowed": {"allow_origins": (LAB,)}}
    with start(tmp_path, **settings[request.param]) as running:
        yield running


def may(settings: fs.Settings, host: str, origin: str | None, shown: str, path: str) -> bool:
    page = origin is None or (origin == LAB if settings.allow_origins else origin in LOOPBACK_PAGES)
    own = origin is not None and origin.lower() == f"http://{host}".lower()
    opened = settings.token is None or shown == "right" or path in PAGE
    return host in GOOD_HOSTS and (page or own) and opened


class Request(NamedTuple):
    """One line of the table."""

    origin: str | None
    host: str
    token: str
    path: str

    def headers(self, port: int) -> list[tuple[str, str]]:
        """Of the HTTP request."""
        headers = [("Host", self.host.replace("{port}", str(port))), *TOKENS[self.token]]
        headers += [("Origin", self.origin)] if self.origin is not None else []
        return headers + (upgrade() if self.path.startswith("/ws/") else [])


def table(server: fs.Server) -> list[Request]:
    """Every Origin with every Host, token state and path."""
    assert (len(ORIGINS), len(GOOD_HOSTS + BAD_HOSTS)) == (30, 12)
    tokens = list(TOKENS) if server.settings.token else ["none"]
    return list(itertools.starmap(Request, itertools.product(ORIGINS, GOOD_HOSTS + BAD_HOSTS, tokens, PATHS)))


def kind_of(server: fs.Server) -> str:
    return "with a token" if server.settings.token else "allow_origins" if server.settings.allow_origins else "as it is"


def test_the_table(server: fs.Server, figures: Figures) -> None:
    counts: Counter[str] = Counter()
    for one in table(server):
        with RawSocket(server.port) as raw:
            status, body = raw.request(one.path, one.headers(server.port))
        expected = may(server.settings, one.host, one.origin, one.token, one.path)
        assert (status != 403) is expected, (one, status)
        assert expected or body == FORBIDDEN
        counts["let in" if expected else "refused"] += 1
    assert TOKEN not in log_of(server)
    for what, count in counts.items():
        figures.add("who may connect", f"own user, {kind_of(server)}: {what}, as the rules say", count)
    figures.add("who may connect", f"own user, {kind_of(server)}: against the rules", 0, 0)


TABLE_AS_ANOTHER = """
import encodings.idna, json, os, socket, sys
os.setgid(65534); os.setuid(65534)
for line in sys.stdin:
    raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
    raw.sendall(json.loads(line).encode("latin-1"))
    answer = b"".join(iter(lambda: raw.recv(65536), b""))
    print(json.dumps(answer.decode("latin-1")))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux can become another user")
def test_the_table_as_another_user_of_the_machine(server: fs.Server, figures: Figures) -> None:
    requests = table(server)[:: 1 if figures.soak else 13]
    lines = []
    for one in requests:
        head = [f"GET {one.path} HTTP/1.1", *(f"{name}: {value}" for name, value in one.headers(server.port)), "", ""]
        lines.append(json.dumps("\r\n".join(head)))
    command = [sys.executable, "-I", "-S", "-c", TABLE_AS_ANOTHER, str(server.port)]
    text = "\n".join(lines)
    asked = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600, check=True)
    answers = [json.loads(line).encode("latin-1") for line in asked.stdout.splitlines()]
    assert len(answers) == len(requests)
    let_in = [one for one, answer in zip(requests, answers, strict=True) if not answer.startswith(b"HTTP/1.1 403 ")]
    assert let_in == []
    assert all(answer.endswith(FORBIDDEN) for answer in answers)
    figures.add("who may connect", f"another user, {kind_of(server)}: refused", len(answers))
    figures.add("who may connect", f"another user, {kind_of(server)}: let in", len(let_in), 0)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT"])
def test_no_other_method_opens_anything(tmp_path: Path, method: str) -> None:
    answers = []
    with start(tmp_path) as running:
        for host in ("localhost", "evil.example"):
            with socket.create_connection(("127.0.0.1", running.port), 30) as raw:
                raw.sendall(f"{method} /v1/plugins HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answers.append(b"".join(iter(lambda: raw.recv(65536), b"")))
    assert answers[0].startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET" in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 403 ")


AS_ANOTHER = """
import encodings.idna, os, socket, sys
os.setgid(65534); os.setuid(65534)
raw = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
raw.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
print(raw.recv(65536).split()[1].decode())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux can become another user")
@pytest.mark.parametrize(("check", "status"), [(True, "403"), (False, "200")])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_another_user_of_the_machine(tmp_path: Path, check: bool, status: str, address: str) -> None:
    with start(tmp_path, check_peer_uid=check) as running:
        command = [sys.executable, "-I", "-S", "-c", AS_ANOTHER, address, str(running.port)]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert asked.stdout.strip() == status, asked.stderr
        assert ("the peer belongs to uid 65534, this server to uid 0" in log_of(running)) is check


SILENT_AS_ANOTHER = """
import encodings.idna, os, select, socket, sys
os.setgid(65534); os.setuid(65534)
silent = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30) for _ in range(300)]
print(len(silent), flush=True)
sys.stdin.read()
print(len(select.select(silent, [], [], 0)[0]))  # those that have been closed
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux can become another user")
def test_another_user_cannot_take_the_descriptors(tmp_path: Path) -> None:
    with start(tmp_path, handshake_timeout_s=60.0) as running:
        command = [sys.executable, "-I", "-S", "-c", SILENT_AS_ANOTHER, str(running.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "300\n"
            with RawSocket(running.port) as raw:
                assert raw.request("/healthz", [("Host", "localhost")])[0] == 200
            closed, _ = other.communicate("", timeout=60)
        assert int(closed) == 300 - 64
        assert "connections of other users: 64 are open" in log_of(running)
        with RawSocket(running.port) as raw:
            raw.open()


def test_where_the_kernel_does_not_tell_the_check_is_skipped_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_uid.sys, "platform", "darwin")
    with start(tmp_path) as running:
        for _ in range(3):
            with RawSocket(running.port) as raw:
                assert raw.request("/healthz", [("Host", "localhost")])[0] == 200
        assert log_of(running).count("does not tell whose a connection is") == 1


def test_a_stranger_and_a_peer_that_is_gone_are_refused_whatever_else_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, token=TOKEN) as running:
        cases = {os.getuid() + 1: "belongs to uid", peer_uid.GONE: "is gone", peer_uid.UNKNOWN: "no descriptors"}
        for uid, reason in cases.items():
            monkeypatch.setattr(gate, "peer_uid", lambda *_, uid=uid: uid)
            for path in PATHS:
                with RawSocket(running.port) as raw:
                    assert raw.request(path, [("Host", "localhost"), *TOKENS["right"]])[0] == 403
                assert reason in log_of(running).splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells on Linux alone")
def test_without_descriptors_to_ask_with_nobody_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with start(tmp_path) as running:
        monkeypatch.setattr(peer_uid, "by_netlink", full)
        monkeypatch.setattr(peer_uid, "by_proc", full)
        with RawSocket(running.port) as raw:
            assert raw.request("/healthz", [("Host", "localhost")]) == (403, FORBIDDEN)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells on Linux alone")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_the_uid_of_a_peer(family: int) -> None:
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as listening:
        listening.bind((address, 0))
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2]) as peer:
            served, _ = listening.accept()
            with served:
                ends = served.getpeername()[:2], served.getsockname()[:2]
                asked = (peer_uid.peer_uid, peer_uid.by_netlink, peer_uid.by_proc)
                assert [ask(*ends) for ask in asked] == [os.getuid()] * 3
                peer.close()
                assert [ask(*ends) for ask in asked] == [peer_uid.GONE] * 3
        nobody = (address, 1), listening.getsockname()[:2]
        assert [ask(*nobody) for ask in asked] == [peer_uid.GONE] * 3
        itself = listening.getsockname()[:2], (address, 1)
        assert peer_uid.by_netlink(*itself) == peer_uid.GONE, "a listener on the peer's port is not the peer"


def test_more_connections_than_there_may_be_are_answered_503(tmp_path: Path) -> None:
    def asked() -> int:
        with RawSocket(running.port) as raw:
            return raw.request("/ws/later", [("Host", "localhost"), *upgrade()])[0]

    with start(tmp_path, max_connections=2) as running:
        with RawSocket(running.port) as one, RawSocket(running.port) as two:
            one.open()
            two.open()
            assert asked() == 503
        wait_for(lambda: asked() == 101, "room again")


def test_one_address_has_a_share_of_the_connections(tmp_path: Path) -> None:
    def asked(host: str) -> tuple[int, bytes]:
        with RawSocket(running.port, host) as raw:
            return raw.request("/ws/later", [("Host", "localhost"), *upgrade()])

    with start(tmp_path, max_peer_connections=2) as running:
        raw = [RawSocket(running.port) for _ in range(2)]
        for one in raw:
            one.open()
        status, body = asked("127.0.0.1")
        assert status == 503
        assert b"too many connections from this address; see max_peer_connections" in body
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", running.port))
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200"), "another address has its own"
        for one in raw:
            one.socket.close()
        wait_for(lambda: asked("127.0.0.1")[0] == 101, "room again")


def test_a_connection_that_asks_for_nothing_ends(tmp_path: Path) -> None:
    with (
        start(tmp_path, handshake_timeout_s=0.05) as running,
        socket.create_connection(("127.0.0.1", running.port), 30) as silent,
    ):
        assert silent.recv(100) == b""
