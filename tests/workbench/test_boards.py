"""What the kernel keeps for its tables: messages, jobs, the server's state, the options of a plugin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.workbench.job_board import JobBoard
from forgesyte_nb.workbench.listening import Listening
from forgesyte_nb.workbench.monitor import Monitor
from forgesyte_nb.workbench.panel import OptionsBoard
from forgesyte_nb.workbench.server_board import ServerBoard
from forgesyte_nb.workbench.ticking import Ticker
from tests.conftest import run_cell, wait_for

PLUGINS = """
@fs.plugin
def well(frame, *, gain: int = 1):
    \"\"\"Says what it was told.\"\"\"
    return {"gain": gain}

@fs.plugin
def ill(frame):
    raise fs.PluginError("ill")
"""
PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def server(tmp_path: Any) -> Iterator[fs.Server]:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        yield server


def analyze(server: fs.Server, plugin: str, count: int = 1, client_id: str = "sender") -> None:
    with fs.BlockingClient(server, client_id=client_id) as client:
        assert len(list(client.stream([PICTURE] * count, plugin))) == count


def test_a_monitor_counts_keeps_and_forgets(server: fs.Server) -> None:
    monitor = Monitor(["plugin_well"], server=server, history=6)
    analyze(server, "well", 2)
    analyze(server, "ill")
    wait_for(lambda: monitor.total == 8, "four messages for each frame of one plugin")
    assert monitor.counts == {"job_update": 6, "frame_result": 2}
    assert monitor.forgotten == 2
    table = monitor.to_frame()
    assert list(table["plugin"].unique()) == ["well"]
    assert list(table["client_id"].unique()) == ["sender"]
    assert len(table) == 6
    assert str(table["received_at"].dt.tz) == "UTC"
    assert "6 job_update" in repr(monitor)
    monitor.close()


def test_topics_come_and_go(server: fs.Server) -> None:
    monitor = Monitor(["plugin_ill"], server=server)
    monitor.subscribe("plugin_well")
    monitor.unsubscribe("plugin_ill")
    assert monitor.topics == ["plugin_well"]
    analyze(server, "ill")
    analyze(server, "well")
    wait_for(lambda: monitor.total == 4, "the messages of one plugin")
    assert {message["plugin"] for message in monitor.messages} == {"well"}
    with pytest.raises(fs.InvalidMessage, match="nonsense"):
        monitor.subscribe("nonsense")
    monitor.close()


def test_viewers_of_a_monitor_see_rows_and_ask_for_whole_messages(server: fs.Server) -> None:
    monitor = Monitor(["all"], server=server)
    analyze(server, "well")
    wait_for(lambda: monitor.total == 4, "messages")
    state = monitor.state()
    assert state["messages"][0]["status"] == "completed"
    result = next(row for row in state["messages"] if row["type"] == "frame_result")
    assert monitor.feed.control("message", result["number"])["result"] == {"gain": 1}
    assert monitor.feed.control("subscribe", "plugin_well") == ["all", "plugin_well"]
    monitor.feed.control("clear", None)
    wait_for(lambda: json.loads(monitor.feed.state)["total"] == 0, "the state to be published")
    analyze(server, "well")
    wait_for(lambda: monitor.total == 4, "messages")
    assert [row["number"] for row in monitor.state()["messages"]] == [8, 7, 6, 5], "a number is of one message"
    for action, value in (("message", 99), ("fly", None)):
        with pytest.raises(ValueError, match=r"kept no longer|no action"):
            monitor.feed.control(action, value)
    monitor.close()


def test_it_listens_on_when_the_server_is_replaced() -> None:
    first = fs.serve(port=0, engine="inline")
    monitor = Monitor(["all"])
    second = fs.serve(port=0, engine="threads")
    try:
        assert second is not first
        with fs.BlockingClient(second) as client:
            client.analyze(PICTURE, "image_stats")
        wait_for(lambda: monitor.counts.get("frame_result") == 1, "a message of the new server")
    finally:
        monitor.close()
        second.close()


def test_jobs_have_a_row_each(server: fs.Server) -> None:
    board = JobBoard(server=server)
    analyze(server, "well", 3)
    analyze(server, "ill")
    wait_for(lambda: board.counts["failed"] == 1, "the jobs")
    assert board.counts == {"pending": 0, "processing": 0, "completed": 3, "failed": 1}
    newest = board.state()["jobs"][0]
    assert newest["status"] == "failed"
    assert newest["error"] == "PLUGIN_ERROR: ill"
    assert newest["client_id"] == "sender"
    assert board.to_frame()["processing_time_ms"].notna().sum() == 3
    board.feed.control("clear", None)
    assert board.state()["jobs"] == []
    board.close()


def test_the_jobs_of_the_past_are_there_from_the_beginning(server: fs.Server) -> None:
    analyze(server, "well", 3)
    analyze(server, "ill")
    board = JobBoard(server=server)
    rows = json.loads(board.feed.state)["jobs"]
    assert [(row["plugin"], row["status"]) for row in rows] == [("ill", "failed"), *[("well", "completed")] * 3]
    assert {row["client_id"] for row in rows} == {"sender"}
    assert rows[0]["error"] == "PLUGIN_ERROR: ill"
    assert all(row["processing_time_ms"] >= 0 for row in rows[1:])
    assert [row["progress_percent"] for row in rows[1:]] == [100] * 3
    analyze(server, "well")
    wait_for(lambda: board.counts["completed"] == 4, "a job of the present")
    assert board.counts["failed"] == 1
    assert [row["plugin"] for row in board.state()["jobs"]] == ["well", "ill", "well", "well", "well"]
    board.close()


def test_as_many_jobs_of_the_past_as_the_server_keeps(tmp_path: Any) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline", job_history=2)
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        analyze(server, "well", 5)
        board = JobBoard(server=server)
        assert board.counts["completed"] == 2
        board.close()


@pytest.mark.parametrize("late", [False, True])
def test_each_job_counts_once_where_the_past_meets_the_present(
    late: bool, server: fs.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Any, ...]] = []
    receive, recent_jobs = Listening._received, server.recent_jobs

    def jobs_after_more_have_ended(most: int) -> Any:
        analyze(server, "well", 3)
        analyze(server, "ill")
        return recent_jobs(most)

    monkeypatch.setattr(server, "recent_jobs", jobs_after_more_have_ended)
    released = threading.Event()
    if late:

        def hold(*message: Any) -> None:
            receive(*message) if released.is_set() else held.append(message)

        monkeypatch.setattr(Listening, "_received", hold)
    board = JobBoard(server=server)
    released.set()
    for message in held:
        receive(*message)
    monkeypatch.undo()
    analyze(server, "ill")
    wait_for(lambda: board.counts["failed"] == 2, "the last job")
    assert board.counts == {"pending": 0, "processing": 0, "completed": 3, "failed": 2}
    table = board.to_frame()
    assert list(table["status"]) == ["completed"] * 3 + ["failed"] * 2
    assert list(table["error"].notna()) == list(table["processing_time_ms"].isna()) == [False] * 3 + [True] * 2
    board.close()


def test_a_server_at_a_glance(server: fs.Server) -> None:
    board = ServerBoard(server)
    monitor = Monitor(["all"], server=server)
    analyze(server, "ill")
    with fs.BlockingClient(server, client_id="a_program") as client:
        client.analyze(PICTURE, "well")
        state = board.state()
    assert (state["clients"], state["displays"]) == ([{"client_id": "a_program", "frames": 1}], 1)
    assert "ill\n    Traceback (most recent call last):\n" in state["log"]
    monitor.close()
    assert state["running"]
    assert state["stats"]["results"] == 1
    assert {"name": "well", "revision": 1, "about": "Says what it was told."} in state["plugins"]
    server.close()
    assert not board.state()["running"]
    board.close()


def test_options_are_checked_told_as_code_and_taken_by_running_streams(server: fs.Server) -> None:
    board = OptionsBoard("well", server, {"gain": 2})
    stream = fs.stream("synthetic", "well", server=server)
    board.feed.control("options", {"gain": 5})
    wait_for(lambda: stream.results and stream.results[-1]["gain"] == 5, "the new option")
    assert board.code == 'fs.stream("street.mp4", "well", gain=5)'
    assert board.state()["streams"] == 1
    with pytest.raises(fs.InvalidOptions, match="gain"):
        board.options = {"gain": "loud"}
    assert board.options == {"gain": 5}
    with pytest.raises(fs.PluginNotFound):
        OptionsBoard("wel", server, {})
    stream.close()
    assert board.state()["streams"] == 0
    board.close()


def test_the_thread_of_the_tables_ends_and_begins_with_its_viewers() -> None:
    ticker = Ticker(interval_s=0.001)
    calls: list[int] = []

    def tick() -> bool:
        calls.append(1)
        return len(calls) % 3 != 0

    ticker.start(tick)
    wait_for(lambda: len(calls) == 3, "three ticks")
    wait_for(lambda: not ticker._runs, "the thread to end")
    ticker.start(tick)
    wait_for(lambda: len(calls) == 6, "three more")
    wait_for(lambda: not ticker._runs, "the thread to end")


def test_a_table_that_is_watched_again_while_it_is_called_is_called_again() -> None:
    """Its last viewer leaves, and another comes before the thread has taken it off its list."""
    ticker = Ticker(interval_s=0.001)
    calls: list[int] = []

    def tick() -> bool:
        calls.append(1)
        if len(calls) == 1:
            ticker.start(tick)
        return False

    ticker.start(tick)
    wait_for(lambda: len(calls) == 2, "a second call")
    wait_for(lambda: not ticker._runs, "the thread to end")
