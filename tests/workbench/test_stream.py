"""`fs.stream`: a source in the background, its controls, its ledger, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.workbench.history import History
from forgesyte_nb.workbench.playback import Playback
from forgesyte_nb.workbench.stream_pass import Route
from tests.conftest import PATIENCE_S, run_cell, wait_for

PLUGINS = """
@fs.plugin
def bright(frame, *, gain: float = 1.0):
    box = {"bbox": {"x": 2, "y": 2, "width": 9, "height": 9}}
    return {"bright": float(frame.gray.mean()) * gain, "gain": gain, "box": box}

@fs.plugin
def odd_fails(frame):
    if frame.seq % 2:
        raise fs.PluginError("odd")
    return {"seq": frame.seq}

@fs.plugin
def counts(frame, *, state):
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fs.Server]:
    registry = Registry()
    run_cell(PLUGINS, registry)
    log = tmp_path_factory.mktemp("log") / "server.log"
    with fs.Server(port=0, settings=fs.Settings(engine="inline"), plugin_registry=registry, log=log) as server:
        yield server


Begin = Callable[..., fs.Stream]


@pytest.fixture
def begin(server: fs.Server) -> Iterator[Begin]:
    streams: list[fs.Stream] = []

    def begin(source: Any, plugin: str = "bright", **more: Any) -> fs.Stream:
        streams.append(fs.stream(source, plugin, **{"server": server, **more}))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


def pictures(count: int) -> list[np.ndarray]:
    return [np.full((24, 32, 3), 10 * (index % 20), np.uint8) for index in range(count)]


def held(go: threading.Event, shown: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """A source that gives its first picture when it is told to: until then the stream may be set up."""
    assert go.wait(PATIENCE_S)
    yield from shown


def balanced(stream: fs.Stream) -> bool:
    ledger = stream.ledger
    return ledger["sent"] == sum(ledger[name] for name in ("results", "errors", "skipped", "pending"))


def test_every_picture_of_a_list_has_its_result(begin: Begin) -> None:
    stream = begin(pictures(30)).wait(PATIENCE_S)
    assert stream.status == "ended"
    assert [result.seq for result in stream.results] == list(range(30))
    assert stream.ledger == {"sent": 30, "results": 30, "errors": 0, "skipped": 0, "pending": 0}
    table = stream.to_frame()
    assert list(table["result.bright"])[:3] == [0.0, 10.0, 20.0]
    assert "30 results" in repr(stream)


def test_everything_has_a_name(begin: Begin) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield from pictures(2)

    expected = {
        "camera → bright": (camera(), "camera#0", 'fs.stream(camera(), "bright", gain=2.0)'),
        "pictures → bright": (pictures(2), "pictures#0", 'fs.stream(pictures, "bright", gain=2.0)'),
        "picture → bright": (pictures(1)[0], "picture", 'fs.stream(pictures, "bright", gain=2.0)'),
        "synthetic → bright": (fs.synthetic(32, 24, frames=2), "synthetic#0", 'fs.stream(source, "bright", gain=2.0)'),
    }
    for title, (source, name, code) in expected.items():
        stream = begin(source, gain=2.0).wait(PATIENCE_S)
        assert (stream.feed.title, stream.results[0].name, stream.code) == (title, name, code)
    stream = begin((image for image in pictures(1)), gain=2.0)
    assert stream.feed.title == "pictures → bright"


async def test_it_can_be_awaited(begin: Begin) -> None:
    stream = await asyncio.to_thread(begin, pictures(5))
    assert (await stream).ledger["results"] == 5


def test_iterating_waits_for_what_is_to_come_and_may_be_done_twice(begin: Begin) -> None:
    stream = begin(pictures(12), speed=5)
    assert [result.seq for result in stream] == list(range(12))
    assert [result.seq for result in stream] == list(range(12))


def test_errors_are_counted_and_told(begin: Begin) -> None:
    stream = begin(pictures(10), "odd_fails").wait(PATIENCE_S)
    assert stream.ledger == {"sent": 10, "results": 5, "errors": 5, "skipped": 0, "pending": 0}
    (told,) = stream.state()["failures"]
    assert (told["code"], told["message"], told["count"]) == ("PLUGIN_ERROR", "odd", 5)
    assert stream.status == "ended"


def test_pause_step_and_play(begin: Begin) -> None:
    go = threading.Event()
    stream = begin(held(go, itertools.cycle(pictures(20))), intent="every_frame").pause()
    go.set()
    stream.step(3)
    wait_for(lambda: stream.ledger["results"] >= 3 and stream.ledger["pending"] == 0, "three pictures")
    assert (stream.status, stream.ledger["results"]) == ("paused", 3)
    stream.play()
    wait_for(lambda: stream.ledger["results"] > 6, "it to go on")
    assert balanced(stream)
    stream.stop().wait(PATIENCE_S)
    assert stream.status == "stopped"
    assert stream.ledger["pending"] == 0


def test_playing_again_is_another_pass(begin: Begin) -> None:
    stream = begin(pictures(4), "counts").wait(PATIENCE_S)
    stream.play().wait(PATIENCE_S)
    assert stream.ledger["results"] == 8
    assert [result["n"] for result in stream.results] == [1, 2, 3, 4, 1, 2, 3, 4]


def test_options_change_in_mid_stream(begin: Begin) -> None:
    stream = begin("synthetic", gain=2.0, speed=4)
    wait_for(lambda: stream.ledger["results"] > 1, "results")
    stream.tune(gain=3.0)
    wait_for(lambda: stream.results[-1]["gain"] == 3.0, "the new option")
    assert stream.options == {"gain": 3.0}
    with pytest.raises(fs.InvalidOptions, match="gain"):
        stream.tune(gain="loud")
    assert stream.options == {"gain": 3.0}


def test_an_intent_set_while_it_connects_holds(begin: Begin) -> None:
    go = threading.Event()
    stream = begin(held(go, pictures(300)), intent="every_frame").set_intent("freshest")
    go.set()
    stream.wait(PATIENCE_S)
    assert stream.ledger["skipped"] > 0


def test_mistakes_are_told_in_the_cell(begin: Begin) -> None:
    with pytest.raises(fs.PluginNotFound, match="did you mean 'bright'"):
        begin(pictures(1), "brihgt")
    with pytest.raises(fs.InvalidOptions, match="gian"):
        begin(pictures(1), gian=1)
    with pytest.raises(fs.InvalidOptions, match=r"^sped: no such .*; did you mean speed=, which stream\(\) takes"):
        begin(pictures(1), sped=2)
    with pytest.raises(fs.InvalidOptions, match=r"^url: no such .*; did you mean server=, which stream\(\) takes"):
        begin(pictures(1), url="ws://127.0.0.1:9")
    with pytest.raises(fs.InvalidOptions, match=r"JSON cannot say.*; did you mean server=, which stream\(\) takes"):
        begin(pictures(1), url=object())
    with pytest.raises(fs.PluginNotFound, match=r"No plugin 'theirs'.*; did you mean server=, which stream\(\) takes"):
        begin(pictures(1), "theirs", url="ws://127.0.0.1:9")
    with pytest.raises(fs.SourceError, match="nowhere"):
        begin("nowhere.mp4")
    with pytest.raises(ValueError, match="speed"):
        begin(pictures(1), speed=0)


def test_a_source_that_breaks_fails_the_stream_with_its_reason(begin: Begin) -> None:
    def breaks() -> Iterator[np.ndarray]:
        yield from pictures(2)
        raise OSError("the disk is gone")

    stream = begin(breaks()).wait(PATIENCE_S)
    assert stream.status == "failed"
    assert "the disk is gone" in stream.problem
    assert stream.ledger["results"] == 2
    assert "the disk is gone" in repr(stream)
    stream = begin(iter([])).wait(PATIENCE_S)
    assert (stream.status, "has no pictures" in stream.problem) == ("failed", True)


def test_no_server_fails_it_with_a_remedy() -> None:
    stream = fs.stream(pictures(1), "bright", server="ws://127.0.0.1:9").wait(60)
    assert stream.status == "failed"
    assert "127.0.0.1:9" in stream.problem
    stream.close()


def test_it_goes_on_when_its_server_is_started_again_behind_a_token(begin: Begin, tmp_path: Path) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    inline = fs.Settings(engine="inline", drain_timeout_s=0.0)

    def goes_on() -> bool:
        before = stream.ledger["results"]
        wait_for(lambda: stream.ledger["results"] > before + 10, f"more results: {stream!r}")
        return stream.ledger["errors"] == 0

    with fs.Server(port=0, settings=inline, plugin_registry=registry, log=tmp_path / "log") as first:
        stream = begin(pictures(5), server=first, loop=True, history=50)
        assert goes_on()
    guarded = replace(inline, token="a-secret")  # noqa: S106 -- of the test
    with fs.Server(port=first.port, settings=guarded, plugin_registry=registry, log=tmp_path / "log"):
        assert goes_on()
        stream.stop().wait(PATIENCE_S)
        stream.play()
        assert goes_on(), "another pass knows the secret, too"
        stream.close()


def test_the_freshest_skips_and_counts(begin: Begin) -> None:
    stream = begin(pictures(300), intent="freshest").wait(PATIENCE_S)
    ledger = stream.ledger
    assert ledger["sent"] == 300
    assert ledger["skipped"] > 0
    assert ledger["pending"] == 0
    assert balanced(stream)


def test_viewers_see_pictures_results_and_the_ledger(begin: Begin) -> None:
    stream = begin(pictures(6))
    stream.wait(PATIENCE_S)
    picture = stream.feed.picture
    assert picture is not None
    assert picture.content_type == "image/jpeg"
    assert picture.about["result"]["bright"] == 50.0
    assert (picture.about["width"], picture.about["height"], picture.about["source_seq"]) == (32, 24, 5)
    state = json.loads(stream.feed.state)
    assert state["status"] == "ended"
    assert state["ledger"]["results"] == 6
    assert state["schema"]["properties"]["gain"]["default"] == 1.0
    assert set(state["latency_ms"]) == {"queue", "decode", "plugin", "total", "round_trip"}


def test_viewers_can_look_back(begin: Begin) -> None:
    stream = begin(pictures(6)).wait(PATIENCE_S)
    stream.feed.control("show", 2)
    assert stream.feed.picture is not None
    assert stream.feed.picture.about["source_seq"] == 3
    assert stream.state()["history"] == {"length": 6, "back": 2}
    with pytest.raises(ValueError, match="the last 6 pictures"):
        stream.feed.control("show", 6)
    stream.feed.control("show", None)
    assert stream.feed.picture.about["source_seq"] == 5


def test_who_looks_back_stays_there_until_it_plays_on(begin: Begin) -> None:
    go = threading.Event()
    stream = begin(held(go, pictures(8)), intent="every_frame").pause()
    go.set()
    stream.step(3)
    wait_for(lambda: stream.ledger["results"] >= 3 and stream.ledger["pending"] == 0, "three pictures")
    stream.show(1)
    shown = stream.feed.picture
    assert shown is not None
    stream.playback.step(1)  # one that comes while somebody looks back
    seen = shown.about["source_seq"]
    wait_for(lambda: stream.state()["history"]["back"] == 2, "the picture to be one further back")
    assert stream.feed.picture is shown
    stream.step(1)
    wait_for(lambda: stream.feed.picture.about["source_seq"] == seen + 3, "the newest picture")  # type: ignore[union-attr]
    assert stream.state()["history"]["back"] is None


def test_who_looks_back_as_a_result_comes_sees_the_picture_that_was_asked_for(begin: Begin) -> None:
    stream = begin(pictures(6)).wait(PATIENCE_S)
    stream.on_result(lambda _result, _at_s: stream.show(1))
    stream.play().wait(PATIENCE_S)
    assert stream.state()["history"]["back"] == 1
    assert stream.feed.picture is not None
    assert stream.feed.picture.about["source_seq"] == 4


def test_viewers_can_steer(begin: Begin) -> None:
    stream = begin("synthetic")
    stream.feed.control("pause", None)
    assert stream.status == "paused"
    stream.feed.control("speed", 2.0)
    assert stream.speed == 2.0
    assert stream.feed.control("options", {"gain": 5.0}) == {"gain": 5.0}
    stream.feed.control("intent", "freshest")
    assert stream.intent == "freshest"
    stream.feed.control("step", 2)
    stream.feed.control("play", None)
    assert stream.status == "playing"
    stream.feed.control("stop", None)
    stream.wait(PATIENCE_S)
    with pytest.raises(ValueError, match="no action 'fly'"):
        stream.feed.control("fly", None)


def test_a_snapshot_has_the_result_drawn_over_the_picture(begin: Begin) -> None:
    stream = begin(pictures(3)).wait(PATIENCE_S)
    image_rgb = np.asarray(stream.snapshot())
    assert image_rgb.shape == (24, 32, 3)
    assert image_rgb.std() > 10
    with pytest.raises(ValueError, match="3 pictures are kept"):
        stream.snapshot(3)


def test_a_snapshot_before_the_first_result_says_how_to_wait(begin: Begin) -> None:
    ready = threading.Event()

    def camera() -> Iterator[np.ndarray]:
        assert ready.wait(PATIENCE_S)
        yield from pictures(1)

    stream = begin(camera())
    said = r"no picture yet: <Stream camera .*; next\(iter\(stream\)\) waits for the first result, stream\.wait\(\)"
    with pytest.raises(ValueError, match=said):
        stream.snapshot()
    ready.set()
    next(iter(stream))
    assert stream.snapshot().size == (32, 24)
    without = begin(pictures(1), server="ws://127.0.0.1:9").wait(60)
    with pytest.raises(ValueError, match=r"no picture: <Stream .* failed: No server at .*, 0 results>$"):
        without.snapshot()


def test_results_keep_their_pictures_and_their_position_in_the_clip(begin: Begin) -> None:
    stream = begin(fs.synthetic(64, 48, frames=6, rate=4)).wait(PATIENCE_S)
    assert [result.time_s for result in stream.results] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert list(stream.to_frame()["time_s"]) == [0, 0.25, 0.5, 0.75, 1, 1.25]
    frame = stream.results[2].frame
    assert isinstance(frame, fs.Frame)
    assert (frame.seq, frame.time_s, frame.size_wh) == (2, 0.5, (64, 48))
    assert frame.gray.mean() == pytest.approx(stream.results[2]["bright"], abs=0.01)


def test_a_picture_that_is_kept_no_longer_says_so() -> None:
    history = History(frame_bytes=1_000, results=15)
    for number in range(20):
        frame = fs.Frame.from_array(np.full((8, 8, 3), number, np.uint8), frame_id=f"a#{number}", seq=number)
        history.add(Result("f", "p", seq=number, name=f"a#{number}", frame=frame), 0.0)
    kept = [result for result in history.results if isinstance(result.frame, fs.Frame)]
    assert [result.seq for result in kept] == [*range(15, 20)]  # of 192 bytes each
    for number in range(100):
        history.add(Result("f", "p", seq=number, name=f"b#{number}", frame=frame), 0.0)
        assert sum(isinstance(result.frame, fs.Frame) for result in history.results) == 5
    old = history.results[0]
    assert "the picture of b#85 is kept no longer: a stream keeps the last" in repr(old.frame)
    with pytest.raises(fs.InvalidImage, match=r"kept no longer.*on_result"):
        old.frame.pil  # noqa: B018


def test_results_are_bounded_and_the_forgotten_counted(begin: Begin) -> None:
    stream = begin(pictures(40), history=10).wait(PATIENCE_S)
    assert [result.seq for result in stream.results] == list(range(30, 40))
    assert stream.ledger["results"] == 40


def test_closing_leaves_nothing(begin: Begin) -> None:
    stream = begin("synthetic")
    wait_for(lambda: stream.ledger["results"] > 2, "results")
    stream.close()
    stream.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if stream.feed.feed_id in name]
    assert stream.notice == ""
    for again in (stream.play, stream.step):
        assert again().status == "stopped"
        assert stream.notice == "that has no effect: the stream is closed; run its cell again, or fs.stream(…)"


@pytest.mark.parametrize(
    ("more", "words"), [({"intent": "fresh"}, "choose 'every_frame'"), ({"history": -1}, "1 or more")]
)
def test_what_it_cannot_do_is_refused_at_once(begin: Begin, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        begin("synthetic", **more)


def test_where_the_pictures_go_tells_no_secret() -> None:
    assert "hidden" not in repr(Route("ws://192.0.2.1:8000", "hidden", "bright"))  # tracebacks may show it


def test_playing_while_it_closes_begins_no_other_pass(begin: Begin) -> None:
    heard, go_on = threading.Event(), threading.Event()

    def hold(_result: fs.Result, _at_s: float) -> None:
        heard.set()
        go_on.wait(PATIENCE_S)

    stream = begin("synthetic")
    stream.on_result(hold)
    assert heard.wait(PATIENCE_S)
    closing = threading.Thread(target=stream.close)
    closing.start()
    wait_for(lambda: stream.status == "stopped", "it to be closing")
    stream.play()
    stream.options = {"gain": 2.0}
    assert "the stream is closed" in stream.notice
    go_on.set()
    closing.join(PATIENCE_S)
    stream.wait(PATIENCE_S)
    assert (stream.status, bool(stream.feed.ended)) == ("stopped", True)


def test_who_waited_for_its_end_finds_it_in_the_feed(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    stream = begin(held(go, pictures(1)), intent="every_frame")
    tell = stream._tell

    def slow() -> None:
        if stream.status == "ended":
            time.sleep(0.1)
        tell()

    monkeypatch.setattr(stream, "_tell", slow)
    go.set()
    stream.wait(PATIENCE_S)
    assert json.loads(stream.feed.state)["status"] == "ended"


def test_one_that_has_ended_and_that_nobody_holds_goes_and_its_feed_with_it(server: fs.Server) -> None:
    stream = fs.stream(pictures(2), "bright", server=server).wait(PATIENCE_S)
    feed, held_weakly = stream.feed, weakref.ref(stream)
    del stream
    wait_for(lambda: (gc.collect(), held_weakly() is None)[1], "it to go")
    assert "the stream is gone" in feed.ended
    with pytest.raises(ValueError, match="the stream is gone"):
        feed.control("play", None)


def test_closing_gives_up_what_is_not_answered_soon(tmp_path: Path) -> None:
    slow = "@fs.plugin\ndef slow(frame, ctx):\n    while not ctx.cancelled:\n        time.sleep(0.01)\n    return {}"
    registry, settings = Registry(), fs.Settings(engine="threads", workers=1, plugin_timeout_s=600)
    run_cell(f"import time\n{slow}", registry)
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        stream = fs.stream(pictures(20), "slow", server=server)
        wait_for(lambda: stream.ledger["pending"] > 1, "pictures under way")
        stream.close()
        assert stream.ledger["pending"] == stream.ledger["results"] == 0
        assert {result.error_code for result in stream.results} == {"CONNECTION_LOST"}
        assert stream.status == "stopped"
        wait_for(lambda: server.stats()["active"] == 0, "the server to let go of them")


def test_a_slow_speed_holds_the_next_picture_back_until_it_is_changed() -> None:
    playback = Playback(open_source(pictures(4)), speed=0.0001)  # of 10 pictures a second: one in 1,000 s
    seen: list[int] = []
    taken = threading.Thread(target=lambda: [seen.append(picture.seq) for picture in playback.frames()])
    taken.start()
    wait_for(lambda: seen == [0], "the first picture")
    playback.set_speed(None)
    taken.join()
    assert seen == [0, 1, 2, 3]


def test_a_script_may_end_while_a_stream_goes_on() -> None:
    script = "import forgesyte_nb as fs; fs.serve(port=0, engine='inline'); s = fs.stream('synthetic', 'image_stats')"
    script += "; next(iter(s)); print('done')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
