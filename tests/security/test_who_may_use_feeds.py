"""`forgesyte.v2` is for programs, the server's own page and trusted pages; other pages get the seed's protocol."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import forgesyte_nb as fs
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.server import server as server_module
from tests.figures import Figures
from tests.security.test_who_may_connect import GOOD_HOSTS, LAB, LOOPBACK_PAGES, ORIGINS, TOKEN, TOKENS, start
from tests.server.conftest import RawSocket, upgrade

JUPYTER = "http://localhost:8888"
OFFERS = [(), ("forgesyte.v2",), ("forgesyte.v2", "forgesyte.v1"), ("forgesyte.v1",), ("forgesyte.v3",)]
MORE_PAGES = [
    JUPYTER,
    "http://LOCALHOST:8888",
    "http://localhost:8889",
    "https://localhost:8888",
    "http://localhost:888",
]
PAGES = [*ORIGINS, *MORE_PAGES]


@pytest.fixture(params=["open", "token", "narrowed"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.Server]:
    monkeypatch.setattr(server_module, "trusted_pages", [lambda: {JUPYTER}])
    settings = {"open": {}, "token": {"token": TOKEN}, "narrowed": {"allow_origins": (LAB, JUPYTER)}}
    with start(tmp_path, **settings[request.param]) as running:
        yield running


def selected(server: fs.Server, origin: str | None, host: str, *offer: str) -> str | None:
    """The subprotocol that the server selects; it must be let in."""
    headers = [("Host", host.replace("{port}", str(server.port)))]
    headers += [("Origin", origin)] if origin is not None else []
    headers += TOKENS["right"] if server.settings.token else []
    with RawSocket(server.port) as raw:
        assert raw.request("/ws/x", [*headers, *upgrade(*offer)])[0] == 101
        return raw.headers["Sec-WebSocket-Protocol"]


def test_the_table(server: fs.Server, figures: Figures) -> None:
    pages = [*(page for page in PAGES if allowed(server, page)), "own"]
    count = 0
    for page, host, offer in itertools.product(pages, GOOD_HOSTS, OFFERS):
        own = f"http://{host.replace('{port}', str(server.port))}".lower()
        origin = own if page == "own" else page
        trusted = origin is None or origin.lower() in (own, own.replace("http:", "https:"), JUPYTER)
        protocol = "forgesyte.v2" if trusted and "forgesyte.v2" in offer else None
        expected = protocol or ("forgesyte.v1" if "forgesyte.v1" in offer else None)
        assert selected(server, origin, host, *offer) == expected, (origin, host, offer)
        count += 1
    figures.add("who may use feeds", "handshakes, all as the rules say", count)
    figures.add("who may use feeds", "against the rules", 0, 0)


def allowed(server: fs.Server, page: str | None) -> bool:
    """Whether a page that is not the server's own may connect at all."""
    narrowed = server.settings.allow_origins
    return page is None or (page in narrowed if narrowed else page in LOOPBACK_PAGES or page in MORE_PAGES)


MESSAGES = [
    {"type": "watch", "feed": "FEED"},
    {"type": "control", "feed": "FEED", "action": "poke", "value": 1, "request_id": "r"},
    {"type": "ack", "feed": "FEED", "seq": 1},
    {"type": "unwatch", "feed": "FEED"},
]


@pytest.mark.parametrize("offer", OFFERS, ids=str)
def test_a_page_of_another_origin_neither_watches_nor_controls(tmp_path: Path, offer: tuple[str, ...]) -> None:
    poked: list[object] = []
    feed = feed_book().open("test", "a feed", control=lambda action, value: poked.append((action, value)))
    feed.tell({"secret": "state"})
    with start(tmp_path) as running, RawSocket(running.port) as raw:
        page = [("Host", "localhost"), ("Origin", "http://localhost:5173"), *upgrade(*offer)]
        assert raw.request("/ws/x", page)[0] == 101
        for message in MESSAGES:
            raw.send_frame(1, json.dumps(message).replace("FEED", feed.feed_id).encode())
        for _ in MESSAGES:
            answer = json.loads(raw.next_frame()[1])
            assert answer["type"] == "error", answer
            assert "feeds are for clients that speak forgesyte.v2" in answer["message"]
    assert poked == []
    feed.close()
