"""Streams whose server is replaced: on the same port, behind a token, on another port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry, registry
from tests.conftest import PATIENCE_S, run_cell, wait_for

PLUGIN = "@fs.plugin(engine='inline')\ndef passes(frame):\n    return {'seq': frame.seq}"

Begin = Callable[..., fs.Stream]


@pytest.fixture
def kernel() -> Iterator[Callable[..., fs.Server]]:
    """`fs.serve` with a plugin, on any port unless one is named."""
    run_cell(PLUGIN, registry())
    servers: list[fs.Server] = []

    def serve(**arguments: Any) -> fs.Server:
        settings = fs.Settings(engine="inline", drain_timeout_s=0.0)
        servers.append(fs.serve(**{"port": 0, "settings": settings, **arguments}))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
    registry().unregister("passes")


@pytest.fixture
def begin() -> Iterator[Begin]:
    streams: list[fs.Stream] = []

    def begin(**more: Any) -> fs.Stream:
        pictures = [np.full((24, 32, 3), 10 * index, np.uint8) for index in range(5)]
        streams.append(fs.stream(pictures, "passes", loop=True, history=50, **more))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


def goes_on(stream: fs.Stream) -> bool:
    before = stream.ledger["results"]
    wait_for(lambda: stream.ledger["results"] > before + 10, f"more results: {stream!r}")
    return stream.ledger["errors"] == 0


def accepted(server: fs.Server) -> int:
    return int(server.stats()["accepted"])


def free_port(tmp_path: Path) -> int:
    with fs.Server(port=0, plugin_registry=Registry(), log=tmp_path / "other.log") as other:
        return other.port


def test_it_follows_its_kernels_server_to_another_port(
    kernel: Callable[..., fs.Server], begin: Begin, tmp_path: Path
) -> None:
    first = kernel()
    of_kernel, of_server = begin(), begin(server=first)
    client = fs.BlockingClient(first)
    assert goes_on(of_kernel)
    assert goes_on(of_server)
    second = kernel(port=free_port(tmp_path), token="a-secret")  # noqa: S106 -- of the test
    assert second.port != first.port
    assert goes_on(of_kernel)
    assert goes_on(of_server)
    assert client.analyze(np.zeros((8, 8, 3), np.uint8), "passes")["seq"] == 0
    assert client.url == second.url
    client.close()
    of_kernel.stop().wait(PATIENCE_S)
    assert goes_on(of_kernel.play()), "another pass finds it, too"
    second.close()
    third = kernel()
    assert goes_on(of_kernel), "a server that was closed before has a successor, too"
    assert accepted(third)


def test_who_was_given_a_url_stays_there(kernel: Callable[..., fs.Server], begin: Begin, tmp_path: Path) -> None:
    elsewhere = Registry()
    run_cell(PLUGIN, elsewhere)
    inline = fs.Settings(engine="inline")
    first = kernel()
    with fs.Server(port=0, settings=inline, plugin_registry=elsewhere, log=tmp_path / "log") as other:
        streams = begin(server=other.url), begin(server=other), begin(server=first.url)
        for stream in streams:
            assert goes_on(stream)
        second = kernel(port=free_port(tmp_path))
        wait_for(lambda: str(first.port) in streams[2].trouble, "the server that is gone to be missed")
        assert all(goes_on(stream) for stream in streams[:2])
        assert accepted(second) == 0


def test_a_server_of_its_own_at_the_kernels_old_port_is_no_successor(
    kernel: Callable[..., fs.Server], begin: Begin, tmp_path: Path
) -> None:
    first = kernel()
    stream = begin()
    assert goes_on(stream)
    second = kernel(port=free_port(tmp_path))
    assert goes_on(stream)
    inline = fs.Settings(engine="inline")
    with fs.Server(port=first.port, settings=inline, plugin_registry=Registry(), log=tmp_path / "log") as other:
        assert goes_on(stream)
        assert accepted(other) == 0
        with fs.BlockingClient(other) as client:
            assert client.url == other.url
    assert accepted(second)


def test_a_secret_that_was_given_is_for_the_server_it_was_given_for(
    kernel: Callable[..., fs.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kernel(token="of-the-first")  # noqa: S106 -- of the test
    monkeypatch.setenv("FORGESYTE_NB_URL", first.url)
    given = [fs.Client(url, token="of-the-first") for url in (None, first)]  # noqa: S106
    second = kernel(port=free_port(tmp_path))
    monkeypatch.setenv("FORGESYTE_NB_URL", first.url)
    given.append(fs.Client(token="of-the-first"))  # noqa: S106
    assert [client.url for client in given] == [first.url] * 3
    second.close()


def test_who_comes_when_nothing_runs_looks_where_it_is_told(
    kernel: Callable[..., fs.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kernel()
    second = kernel(port=free_port(tmp_path))
    second.close()
    monkeypatch.setenv("FORGESYTE_NB_URL", first.url)
    assert fs.Client().url == first.url, "not where the last server was: somebody else may listen there"
