"""Who may come in: Host, Origin and token, on every path, before the upgrade; the reason is for the log alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.datastructures import Headers

import forgesyte_nb as fs
from forgesyte_nb.errors import ServerError
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.gate import refusal
from forgesyte_nb.server.lookups import PAGE_PATHS
from forgesyte_nb.settings import Settings
from tests.conftest import Connect
from tests.server.conftest import RawSocket, Start, log_of, upgrade

TOKEN = "correct-horse-battery"  # noqa: S105 -- of this test alone
PATHS = ["/ws/x", "/", "/v1/plugins", "/v1/jobs", "/v1/jobs/job_1", "/healthz", "/metrics", "/forgesyte.js", "/nothing"]
FORBIDDEN = b'{"error":"forbidden; the server\'s log says why"}'

HOSTS_IN = [
    "localhost",
    "localhost:{port}",
    "127.0.0.1",
    "127.0.0.1:{port}",
    "[::1]",
    "[::1]:{port}",
    "LocalHost:1",
    "LOCALHOST",
    "localhost:65535",
    "localhost:",
]
HOSTS_OUT = ["localhost.evil.example", "127.0.0.1.evil.example", "evil.example", "evil.example:{port}",
             "evil.example/localhost", "localhost/", "localhost@evil.example", "evil.example@localhost",
             "localhost:80@evil.example", "x:y@localhost", "@localhost", "localhost.", "127.0.0.2", "127.1", "0.0.0.0",
             "[::]", "[::2]", "[::1", "::1]", "[::1].evil.example", "[::1]evil.example", "[localhost]",
             "localhost:" + "9" * 5000,
             "2130706433", "0x7f000001", "localhost:port",
             "localhost:99999", "localhost:-1", "localhost evil.example", "localhost,evil.example", "", ":{port}",
             "http://localhost", "localhost\\@evil.example", "xlocalhost", "localhostx", "\xe4", "*"]  # fmt: skip
ORIGINS_IN = [
    "http://localhost",
    "https://localhost",
    "http://localhost:3000",
    "http://127.0.0.1:{port}",
    "http://[::1]:8888",
    "http://LOCALHOST",
]
ORIGINS_OUT = ["null", "", "http://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example",
               "http://evil.example/localhost", "http://localhost@evil.example", "http://evil.example@localhost",
               "http://evil.example:80#localhost", "http://evil.example?http://localhost", "localhost", "//localhost",
               "file://localhost", "ftp://localhost", "ws://localhost", "chrome-extension://localhost", "http://localhost:x",
               "http://[::1].evil.example",
               "http://localhost/path", "http://localhost http://evil.example", "http:localhost", "http://", "http://127.0.0.2",
               "https://lab.example.org.evil.example", "http://lab.example.org", "https://lab.example.org:444",
               "https://xlab.example.org", "javascript://localhost", "http://\xe4", "*"]  # fmt: skip


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module("", engine="inline")


@pytest.fixture(scope="module")
def narrowed(start_for_module: Start) -> fs.Server:
    """One that names the pages that may connect."""
    return start_for_module("", engine="inline", allow_origins=("https://lab.example.org",))


@pytest.fixture(scope="module")
def guarded(start_for_module: Start) -> fs.Server:
    """One with a token."""
    return start_for_module("", engine="inline", token=TOKEN)


Ask = Callable[..., tuple[int, bytes]]


@pytest.fixture
def ask() -> Ask:
    """`ask(server, path, headers)`: status and body; asks for a WebSocket where the path is one's."""

    def one(server: fs.Server, path: str, headers: list[tuple[str, str]], *subprotocols: str) -> tuple[int, bytes]:
        headers = [(name, value.replace("{port}", str(server.port))) for name, value in headers]
        if path.startswith("/ws/"):
            headers += upgrade(*subprotocols)
        with RawSocket(server.port) as raw:
            return raw.request(path, headers)

    return one


def answer_of(path: str) -> int:
    """What a path answers to one who may come in."""
    return 101 if path.startswith("/ws/") else 404 if "job_1" in path or path == "/nothing" else 200


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_behind_the_gate(server: fs.Server, guarded: fs.Server, ask: Ask, path: str) -> None:
    local, page = ("Host", "localhost:{port}"), ("Origin", "http://localhost:3000")
    evil_host, evil_page = ("Host", "evil.example"), ("Origin", "http://evil.example")
    assert ask(server, path, [local])[0] == answer_of(path)
    assert ask(server, path, [local, page])[0] == answer_of(path)
    assert ask(guarded, path, [local, page, ("Authorization", f"Bearer {TOKEN}")])[0] == answer_of(path)
    refused = [
        (server, [evil_host]),
        (server, [evil_host, page]),
        (server, [local, evil_page]),
        (server, [page]),
        (guarded, [evil_host, ("Authorization", f"Bearer {TOKEN}")]),
        (guarded, [local, evil_page, ("Authorization", f"Bearer {TOKEN}")]),
    ]
    if path in PAGE_PATHS:
        assert ask(guarded, path, [local])[0] == 200, "a browser cannot present a token on its way to a page"
    else:
        refused += [(guarded, [local]), (guarded, [local, ("Authorization", "Bearer wrong")])]
    for which, headers in refused:
        assert ask(which, path, headers) == (403, FORBIDDEN), headers


@pytest.mark.parametrize("host", HOSTS_IN)
def test_hosts_that_are_this_machine(server: fs.Server, ask: Ask, host: str) -> None:
    assert ask(server, "/ws/x", [("Host", host)])[0] == 101


@pytest.mark.parametrize("host", HOSTS_OUT)
def test_hosts_that_are_not(server: fs.Server, ask: Ask, host: str) -> None:
    assert ask(server, "/ws/x", [("Host", host)]) == (403, FORBIDDEN)
    last = log_of(server).splitlines()[-1]
    assert "refused at the gate" in last
    assert "Host [" in last
    assert "list it in allow_hosts if it is" in last


def test_no_host_and_two_hosts(server: fs.Server, ask: Ask) -> None:
    assert ask(server, "/ws/x", []) == (403, FORBIDDEN)
    assert "Host [] is not this server" in log_of(server).splitlines()[-1]
    assert ask(server, "/ws/x", [("Host", "localhost"), ("Host", "localhost")]) == (403, FORBIDDEN)
    assert ask(server, "/ws/x", [("Host", "localhost"), ("Host", "evil.example")]) == (403, FORBIDDEN)


@pytest.mark.parametrize("origin", ORIGINS_IN)
def test_pages_that_may_connect(server: fs.Server, ask: Ask, origin: str) -> None:
    assert ask(server, "/ws/x", [("Host", "localhost"), ("Origin", origin)])[0] == 101


@pytest.mark.parametrize("origin", ORIGINS_OUT)
def test_pages_that_may_not(server: fs.Server, ask: Ask, origin: str) -> None:
    assert ask(server, "/ws/x", [("Host", "localhost"), ("Origin", origin)]) == (403, FORBIDDEN)
    last = log_of(server).splitlines()[-1]
    assert "Origin [" in last
    assert "list it in allow_origins if it may" in last


def test_allow_origins_narrows_loopback_pages_to_those_named_and_the_servers_own(narrowed: fs.Server, ask: Ask) -> None:
    for origin in ("https://lab.example.org", "http://localhost:{port}", "http://LOCALHOST:{port}"):
        assert ask(narrowed, "/ws/x", [("Host", "localhost:{port}"), ("Origin", origin)])[0] == 101, origin
    for origin in (*ORIGINS_OUT, "http://localhost", "http://localhost:3000", "http://127.0.0.1:{port}",
                   "http://localhost:{port}1", "https://lab.example.org/", "https://LAB.example.org"):  # fmt: skip
        answer = ask(narrowed, "/ws/x", [("Host", "localhost:{port}"), ("Origin", origin)])
        assert answer == (403, FORBIDDEN), origin
    assert ask(narrowed, "/ws/x", [("Host", "localhost:{port}")])[0] == 101, "programs have no origin"


def test_two_origins_are_refused(server: fs.Server, ask: Ask) -> None:
    two = [("Origin", "http://localhost"), ("Origin", "http://localhost")]
    assert ask(server, "/ws/x", [("Host", "localhost"), *two]) == (403, FORBIDDEN)


TOKENS: list[tuple[list[tuple[str, str]], list[str], bool]] = [
    ([("Authorization", f"Bearer {TOKEN}")], [], True),
    ([("Authorization", f"bearer {TOKEN}")], [], True),
    ([], [f"forgesyte.token.{TOKEN}"], True),
    ([], ["forgesyte.v2", f"forgesyte.token.{TOKEN}"], True),
    ([], [], False),
    ([("Authorization", "Bearer")], [], False),
    ([("Authorization", "Bearer ")], [], False),
    ([("Authorization", f"Bearer {TOKEN}x")], [], False),
    ([("Authorization", f"Bearer {TOKEN[:-1]}")], [], False),
    ([("Authorization", f"Bearer {TOKEN.upper()}")], [], False),
    ([("Authorization", f"Basic {TOKEN}")], [], False),
    ([("Authorization", "Bearer t\xf6ken")], [], False),
    ([("Cookie", f"token={TOKEN}")], [], False),
    ([], [TOKEN], False),
    ([], ["forgesyte.token."], False),
    ([], ["forgesyte.token.wrong"], False),
    ([], ["forgesyte.token." + TOKEN[:-1]], False),
]


@pytest.mark.parametrize(("headers", "subprotocols", "good"), TOKENS, ids=range(len(TOKENS)))
def test_tokens(guarded: fs.Server, ask: Ask, headers: Any, subprotocols: list[str], good: bool) -> None:
    answer = ask(guarded, "/ws/x", [("Host", "localhost"), *headers], *subprotocols)
    assert answer == ((101, b"") if good else (403, FORBIDDEN))
    if not good:
        assert log_of(guarded).splitlines()[-1].endswith("no token, or a wrong one")


def test_a_token_in_the_url_opens_nothing(guarded: fs.Server, ask: Ask) -> None:
    assert ask(guarded, f"/ws/x?token={TOKEN}", [("Host", "localhost")]) == (403, FORBIDDEN)
    assert ask(guarded, f"/healthz?token={TOKEN}", [("Host", "localhost")]) == (403, FORBIDDEN)


async def test_the_token_shows_nowhere(guarded: fs.Server, client: Connect) -> None:
    opened = await client(guarded, additional_headers={"Authorization": f"Bearer {TOKEN}"})
    await opened.fence()
    await opened.send({"type": "subscribe", "topic": "nonsense"})
    shown = [repr(guarded), str(guarded), guarded.url, guarded.page_url, repr(guarded.settings), str(guarded.stats())]
    assert [text for text in shown if TOKEN in text] == []
    assert TOKEN not in log_of(guarded)
    assert TOKEN not in json.dumps(await opened.fence())
    assert "token=<hidden>" in repr(guarded.settings)


@pytest.fixture
def elsewhere(tmp_path: Any) -> Iterator[Callable[..., fs.Server]]:
    """Starts servers at other addresses than localhost, all of them still loopback."""
    servers: list[fs.Server] = []

    def start(host: str, **settings: Any) -> fs.Server:
        settings = {"engine": "inline", "token": TOKEN, **settings}
        server = fs.Server(
            host=host, port=0, settings=fs.Settings(**settings), plugin_registry=Registry(), log=tmp_path / "log"
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "127.0.0.2", "192.0.2.7", "lab.example.org"])
def test_beyond_loopback_a_token_is_needed(host: str, tmp_path: Any) -> None:
    with pytest.raises(ServerError) as refused:
        fs.Server(host=host, port=0, plugin_registry=Registry(), log=tmp_path / "log")
    assert str(refused.value) == (
        f"host={host!r} can be reached from other machines: serve(host={host!r}, token=Path('…')) makes a "
        "secret in that file, which clients then present; or stay on host='localhost'"
    )
    assert not (tmp_path / "log").exists(), "nothing was begun"


def test_another_address_answers_to_its_own_name_and_only_with_the_token(elsewhere: Callable[..., fs.Server]) -> None:
    server = elsewhere("127.0.0.2", allow_hosts=("Lab.Example.org",))
    bearer = ("Authorization", f"Bearer {TOKEN}")
    for host, status in (("127.0.0.2", 200), ("localhost", 200), ("lab.example.org:80", 200), ("evil.example", 403)):
        for headers, expected in (([("Host", host), bearer], status), ([("Host", host)], 403)):
            with RawSocket(server.port, "127.0.0.2") as raw:
                assert raw.request("/healthz", headers)[0] == expected, (host, headers)


def test_where_the_server_listens_everywhere_any_name_will_do_but_not_without_the_token() -> None:
    """`refusal` alone: no test listens beyond loopback."""
    settings = Settings(token=TOKEN, allow_hosts=("*",))
    assert refusal(Headers([("Host", "lab.example.org"), ("Authorization", f"Bearer {TOKEN}")]), settings) is None
    assert refusal(Headers([("Host", "lab.example.org")]), settings) == "no token, or a wrong one"
    evil = Headers([("Host", "a.b"), ("Origin", "http://evil.example"), ("Authorization", f"Bearer {TOKEN}")])
    assert "Origin" in str(refusal(evil, settings))


@pytest.mark.parametrize(
    "path", ["//[", "/ws//x", "//evil.example/ws/x", "/../v1/plugins", "/%", "/\x7f", "/" + "x" * 4000]
)
def test_strange_paths_are_answered_with_404(server: fs.Server, ask: Ask, path: str) -> None:
    status, body = ask(server, path, [("Host", "localhost")])
    assert status == 404, body
    assert "error" in json.loads(body)
