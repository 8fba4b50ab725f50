"""Waiting for the end of a stream, and ending one that something blocks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S, run_cell, wait_for

PICTURE = np.zeros((8, 8, 3), np.uint8)
PLUGINS = """
@fs.plugin
def well(frame):
    return {"seq": frame.seq}

@fs.plugin
def ill(frame):
    raise fs.PluginError(f"ill {frame.seq % 2}")

@fs.plugin(engine="threads")
def together(frame):
    barrier.wait(60)
    return {}
"""
TOGETHER = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fs.Server]:
    registry = Registry()
    run_cell(PLUGINS, registry, barrier=threading.Barrier(TOGETHER))
    log = tmp_path_factory.mktemp("log") / "server.log"
    settings = fs.Settings(engine="inline", workers=TOGETHER)
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=log) as server:
        yield server


def test_awaiting_an_endless_stream_can_be_cancelled(server: fs.Server) -> None:
    stream = fs.stream("synthetic", "well", server=server, loop=True)

    async def main() -> None:
        async def forever() -> None:
            await stream

        waiting = asyncio.create_task(forever())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())  # it waits for executor threads
    stream.close()


async def test_a_stream_can_be_awaited_by_several_and_by_those_who_come_late(server: fs.Server) -> None:
    go = threading.Event()

    def source() -> Iterator[Any]:
        assert go.wait(60)
        yield from [PICTURE] * 3

    stream = fs.stream(source(), "well", server=server)

    async def awaited() -> fs.Stream:
        return await stream

    waiting = [asyncio.create_task(awaited()) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*waiting) == [stream] * 3
    assert (await stream).status == "ended"
    stream.close()


def test_closing_a_stream_that_is_connecting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forgesyte_nb.transport.connecting._OPEN_TIMEOUT_S", 600)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        stream = fs.stream([PICTURE], "well", server=f"ws://127.0.0.1:{silent.getsockname()[1]}")
        stream.close()
        stream.wait(PATIENCE_S)
        assert (stream.status, stream.problem) == ("stopped", "")


def test_closing_a_stream_whose_source_blocks_ends(server: fs.Server) -> None:
    reading, go = threading.Event(), threading.Event()

    def camera() -> Iterator[Any]:
        yield PICTURE
        reading.set()
        go.wait(100)

    stream = fs.stream(camera(), "well", server=server)
    assert reading.wait(60)
    stream.close()
    assert stream.wait(PATIENCE_S).status == "stopped"
    assert stream.ledger["results"] == 1
    go.set()


def test_a_table_of_a_running_stream_says_how_many_there_are(server: fs.Server) -> None:
    go = threading.Event()

    class Held:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            assert go.wait(60)
            return PICTURE

    stream = fs.stream([PICTURE, PICTURE, Held(), PICTURE], "well", server=server)
    wait_for(lambda: stream.ledger["results"] == 2, "two results")
    with pytest.warns(UserWarning, match=r"^pictures: 2 of 4 pictures so far; stream\.wait\(\) or 'await"):
        assert len(stream.to_frame()) == 2
    stream.pause()
    with pytest.warns(UserWarning, match=r"2 of 4 pictures so far; play\(\) goes on"):
        stream.to_frame()
    stream.play()
    go.set()
    assert len(stream.wait(60).to_frame()) == 4, "and it warns no more"
    stream.close()
    endless = fs.stream("synthetic", "well", server=server, loop=True)
    next(iter(endless))
    assert len(endless.to_frame()), "without a warning: there is no end to be waited for"
    endless.close()


def test_failures_are_counted_exactly_though_only_the_last_are_kept(server: fs.Server) -> None:
    stream = fs.stream([PICTURE] * 301, "ill", server=server).wait(60)
    assert {told["message"]: told["count"] for told in stream.state()["failures"]} == {"ill 0": 151, "ill 1": 150}
    assert stream.ledger["errors"] == 301
    panel = fs.PluginPanel("ill", server=server)
    assert {told["message"]: told["count"] for told in panel.target.state()["failures"]} == {"ill 0": 151, "ill 1": 150}
    panel.target.close()
    stream.close()


def test_as_many_pictures_are_under_way_as_concurrency_says(server: fs.Server) -> None:
    stream = fs.stream([PICTURE] * TOGETHER, "together", server=server, concurrency=TOGETHER).wait(60)
    assert stream.ledger["results"] == TOGETHER, "they met"
    stream.close()
    table = fs.batch([PICTURE] * TOGETHER, "together", url=server, concurrency=TOGETHER, progress=False)
    assert table["ok"].all()


def test_results_are_not_parsed_on_the_loop_while_a_table_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    import orjson

    from forgesyte_nb.workbench.job_board import JobBoard
    from forgesyte_nb.workbench.monitor import Monitor

    parsed: list[str] = []

    def watched(loads: Any) -> Any:
        def watching(text: Any) -> Any:
            if "a long result" in str(text):
                parsed.append(threading.current_thread().name)
            return loads(text)

        return watching

    registry = Registry()
    run_cell("@fs.plugin\ndef talks(frame):\n    return {'said': 'a long result'}", registry)
    with fs.Server(
        port=0, settings=fs.Settings(engine="inline"), plugin_registry=registry, log=tmp_path / "log"
    ) as own:
        monitor, board = Monitor(["all"], server=own), JobBoard(server=own)
        with fs.BlockingClient(own) as client:
            monkeypatch.setattr(json, "loads", watched(json.loads))
            monkeypatch.setattr(orjson, "loads", watched(orjson.loads))
            client.analyze(PICTURE, "talks")
        wait_for(lambda: monitor.total == 4 and board.counts["completed"] == 1, "the messages")
        on_the_loop = [name for name in parsed if name.startswith("forgesyte-server")]
        assert monitor.messages[2]["result"] == {"said": "a long result"}
        assert on_the_loop == []
        assert "MainThread" in parsed
        monitor.close()
        board.close()


def test_a_topic_that_the_server_refuses_is_not_among_those_of_a_monitor(tmp_path: Path) -> None:
    from forgesyte_nb.workbench.monitor import Monitor

    settings = fs.Settings(engine="inline", max_topics=1)
    with fs.Server(port=0, settings=settings, plugin_registry=Registry(), log=tmp_path / "log") as own:
        monitor = Monitor(["all"], server=own)
        monitor.subscribe("plugin_x")
        wait_for(lambda: monitor.total == 1, "the refusal")
        assert monitor.topics == ["all"]
        assert "the limit" in monitor.messages[0]["message"]
        monitor.close()
        with pytest.raises(ValueError, match="history=-1"):
            Monitor(["all"], server=own, history=-1)
