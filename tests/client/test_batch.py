"""Many pictures, one table."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import pickle
import re
import signal
import threading

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.batch import to_frame
from forgesyte_nb.client.results import Result
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import registering_in
from forgesyte_nb.server.current import running_server
from tests.conftest import PATIENCE_S, wait_for


def test_a_folder_becomes_a_table_in_natural_order(server, pictures, tmp_path):
    for number, image in enumerate(pictures(12)):
        (tmp_path / f"page{number}.jpg").write_bytes(image)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"1 file of other kinds \(1 \.txt\) left out") as warned:
        table = fs.batch(tmp_path, "mean", {"k": 3}, url=server, progress=False)
    assert warned[0].filename == __file__
    assert list(table["name"]) == [f"page{number}.jpg" for number in range(12)]
    assert list(table["result.k"]) == [3] * 12
    assert list(table["result.size.w"]) == [32] * 12
    assert table["ok"].all()
    assert table["latency_ms"].gt(0).all()
    assert table["result"][0]["size"] == {"w": 32, "h": 32}


def test_what_fails_is_a_row(server, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really a PNG at all")
    things = [picture, tmp_path / "bad.png", tmp_path / "absent.png", np.zeros((3, 3, 3))]
    table = fs.batch(things, "mean", url=server.url, progress=False)
    assert list(table["ok"]) == [True, False, False, False]
    assert list(table["error_code"][1:]) == ["INVALID_IMAGE"] * 3
    assert "absent.png" in table["message"][2]
    assert "float64" in table["message"][3]
    failed = fs.batch([picture], "boom", url=server.url, progress=False)
    assert failed["error_code"][0] == "PLUGIN_ERROR"


@pytest.mark.parametrize(
    ("plugin", "options", "error", "said"),
    [
        ("maen", {}, fs.PluginNotFound, "No plugin 'maen'; did you mean 'mean'?"),
        ("mean", {"kk": 3}, fs.InvalidOptions, "mean: kk: no such option"),
    ],
)
async def test_what_no_picture_is_taken_for_ends_the_batch(server, picture, plugin, options, error, said):
    given = []

    def many():
        yield b"no picture"
        for _ in range(300):
            given.append(picture)
            yield picture

    with pytest.raises(error, match=re.escape(said)):
        await asyncio.to_thread(fs.batch, many(), plugin, options, url=server.url, progress=False)
    async with fs.Client(server.url) as client:
        with pytest.raises(error, match=re.escape(said)):
            await client.batch(many(), plugin, options)
        assert client.unanswered == 0
        assert len(given) < 300, "it ended at once, both times"
        assert len(await client.batch([picture], "mean")) == 1


def test_a_plugin_that_goes_in_the_middle_leaves_the_rows_before(start_server, picture):
    server = start_server()
    with fs.BlockingClient(server.url) as client:
        answers = client.messages("frame_result")

        def feed():
            yield picture
            next(answers)
            server.registry.unregister("mean")
            yield from [picture] * 300

        with pytest.warns(match=r"No plugin 'mean'.*; the table ends after 1 pictures"):
            table = client.batch(feed(), "mean", progress=False)
    assert list(table["ok"]) == [True]


def test_what_a_plugin_itself_refuses_is_a_row(start_server, picture):
    def picky(frame):
        raise fs.InvalidOptions(f"not for {frame.frame_id}")

    server = start_server()
    server.registry.register(define(picky, engine="threads"))
    table = fs.batch([picture] * 3, "picky", url=server.url, progress=False)
    assert list(table["error_code"]) == ["INVALID_OPTIONS"] * 3


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_a_row(server, picture, tmp_path):
    path = tmp_path / "locked.jpg"
    path.write_bytes(picture)
    path.chmod(0)
    table = fs.batch([path, picture], "mean", url=server.url, progress=False)
    assert list(table["ok"]) == [False, True]
    assert "Permission denied" in table["message"][0]


def test_the_progress_bar_is_written_by_the_calling_thread(server, pictures, capsys, monkeypatch):
    import tqdm.auto

    writers = set()
    display = tqdm.auto.tqdm.display

    def spy(bar, *args, **kwargs):
        writers.add(threading.current_thread())
        return display(bar, *args, **kwargs)

    monkeypatch.setattr(tqdm.auto.tqdm, "display", spy)
    fs.batch([*pictures(5), b"not a picture"], "mean", url=server.url)
    assert writers == {threading.current_thread()}
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "failed=1" in shown
    assert not [thread for thread in threading.enumerate() if "tqdm" in thread.name]


def test_a_truncated_video_is_a_table_and_a_warning(server, shared_data, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(shared_data("video/car-detection.mp4").read_bytes()[:600_000])
    with pytest.warns(UserWarning, match=r"cut.mp4 is .*of 377 pictures could be read"):
        table = fs.batch(path, "mean", url=server.url, progress=False)
    assert 40 < len(table) < 60
    assert table["ok"].all()


async def test_a_server_lost_for_good_keeps_the_rows_so_far(outside, pictures):
    loop = asyncio.get_running_loop()
    with fs.BlockingClient(outside.url, max_retries=1, backoff_s=0.001) as client:
        answers = client.messages("frame_result")

        def feed():
            yield from pictures(3)
            for _ in range(3):
                next(answers)
            asyncio.run_coroutine_threadsafe(outside.kill(), loop).result()
            yield from pictures(30)

        with pytest.warns(match="the table ends after"):
            table = await asyncio.to_thread(client.batch, feed(), "mean", progress=False)
        assert list(table["ok"][:3]) == [True] * 3
        assert set(table["error_code"][3:]) <= {"CONNECTION_LOST"}
        with pytest.raises(fs.ConnectionLost):
            client.batch(pictures(2), "mean", progress=False)


async def test_a_source_without_pictures_is_an_error_and_no_empty_table(server):
    def none():
        yield from ()

    for source in ([], none()):
        with pytest.raises(fs.SourceError, match="has no pictures"):
            await asyncio.to_thread(fs.batch, source, "mean", url=server, progress=False)
    async with fs.Client(server.url) as client:
        with pytest.raises(fs.SourceError, match="The source 'none' has no pictures"):
            await client.batch(none(), "mean")


def test_a_table_of_nothing_has_its_columns():
    assert list(to_frame([]).columns)[:4] == ["name", "seq", "time_s", "ok"]


def test_values_that_look_like_columns_do_not_overwrite_them():
    table = to_frame([Result("f", "p", {"ok": "no", "message": "hi", "list": [1], "deep": {"x": None}})])
    assert table.loc[0, "ok"]
    assert table.loc[0, "result.ok"] == "no"
    assert table.loc[0, "message"] is None
    assert "result.list" not in table
    assert table.loc[0, "name"] == "f"


def test_results_say_what_they_are_in_one_line():
    good = Result("f1", "ocr", {"text": "a" * 200, "confidence": 0.5}, processing_time_ms=12.34, name="page.png")
    bad = Result("f2", "ocr", error=fs.InvalidImage("Image too small (50 bytes)"))
    assert repr(good) == f"<Result ocr page.png 12.3 ms: text='{'a' * 58}…, confidence=0.5>"
    assert repr(bad) == "<Result ocr f2 INVALID_IMAGE: Image too small (50 bytes)>"
    assert Result("f", "p", error=fs.ConnectionLost("gone")).error_code == "CONNECTION_LOST"


def interrupted_at(gate, count):
    """A thread that interrupts the main thread, as a notebook's stop button does, when a plugin has so many frames."""

    def interrupt():
        gate.wait_for(count)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.fixture
def nth_gate(start_server, module_gate, gate):
    """A server with a plugin that lets three frames through and holds the others back at the gate."""
    server = start_server(workers=1)

    def fourth(frame):
        if frame.seq >= 3:
            gate.pass_through(frame.frame_id)
        return {"seq": frame.seq}

    server.registry.register(define(fourth, engine="threads"))
    return server


@pytest.mark.skipif(os.name != "posix", reason="signals as a notebook's stop button sends them on POSIX")
@pytest.mark.parametrize("kind", ["function", "client"])
@pytest.mark.parametrize("source", ["list", "generator"])
def test_an_interrupted_batch_has_what_it_has_and_goes_on(nth_gate, pictures, gate, kind, source):
    read = []

    def once():
        for image in pictures(10):
            read.append(image)
            yield image

    things = pictures(10) if source == "list" else once()
    with contextlib.ExitStack() as stack:
        if kind == "function":
            batch = functools.partial(fs.batch, url=nth_gate)
        else:
            batch = stack.enter_context(fs.BlockingClient(nth_gate)).batch
        thread = interrupted_at(gate, 1)
        of = " of 10" if source == "list" else ""
        with pytest.warns(UserWarning, match=rf"interrupted: 3{of} pictures; resume\(\) of this table goes on"):
            table = batch(things, "fourth", progress=False, concurrency=1)
        thread.join()
        assert list(table["result.seq"]) == [0, 1, 2]
        assert f"3{of} pictures; resume()" in table._repr_html_()
        assert f"3{of} pictures; resume()" in repr(table)
        assert type(table.head(2)).__name__ == "DataFrame"
        calls = len(gate.calls)
        gate.open()
        whole = table.resume()
        assert list(whole["result.seq"]) == list(range(10))
        assert list(whole["seq"]) == list(range(10))
        assert len(set(gate.calls)) == len(gate.calls) == 7, "none was done twice"
        assert calls == 1
        assert type(whole).__name__ == "DataFrame"
        assert len(table.resume()) == 10, "once more changes nothing"
    assert len(read) == (10 if source == "generator" else 0)


@pytest.mark.skipif(os.name != "posix", reason="signals as a notebook's stop button sends them on POSIX")
def test_a_partial_table_that_is_dropped_closes_source_and_client(nth_gate, pictures, gate):
    closed = threading.Event()

    def source():
        try:
            yield from pictures(100)
        finally:
            closed.set()

    thread = interrupted_at(gate, 1)
    with pytest.warns(UserWarning, match="interrupted: 3 pictures"):
        table = fs.batch(source(), "fourth", url=nth_gate, progress=False, concurrency=1)
    thread.join()
    copied = pickle.loads(pickle.dumps(table))  # noqa: S301 -- our own
    with pytest.raises(fs.ForgeSyteError, match=r"does not know its batch any more: call fs\.batch"):
        copied.resume()
    gate.open()
    del table
    gc.collect()
    assert closed.wait(PATIENCE_S)
    wait_for(lambda: not nth_gate.clients(), "the client to leave")


@pytest.mark.skipif(os.name != "posix", reason="signals as a notebook's stop button sends them on POSIX")
def test_an_interrupt_before_the_first_result_is_raised(nth_gate, picture, gate):
    thread = interrupted_at(gate, 1)
    with pytest.raises(KeyboardInterrupt):
        fs.batch([picture] * 5, "gated", url=nth_gate, progress=False)
    thread.join()
    gate.open()
    wait_for(lambda: not nth_gate.clients(), "the client to leave")


def test_a_batch_uses_this_kernels_server_and_no_other(server, picture, monkeypatch):
    monkeypatch.setenv("FORGESYTE_NB_URL", server.url)  # another notebook's, which has `mean`
    try:
        with pytest.raises(fs.PluginNotFound, match="No plugin 'mean'"):
            fs.batch([picture], "mean", progress=False)
        mine = running_server()
        assert mine is not None
        assert mine.url != server.url
        with registering_in(mine.registry):
            own = fs.plugin("own", engine="inline")(lambda frame: {"mine": True})
        assert list(fs.batch([picture], own, progress=False)["result.mine"]) == [True]
        mine.registry.unregister("own")
    finally:
        running_server().close()
