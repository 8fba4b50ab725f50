"""Cameras and streams of the network: reconnection, silence, damage, one client, and how old an answer is."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import av
import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.plugins.registry import Registry
from tests.chaos.bombs import png
from tests.client.cameras import camera, number_of, numbered
from tests.client.rtsp import rtsp_camera
from tests.conftest import PATIENCE_S, run_cell, wait_for


def numbers(source, count):
    return [number_of(frame) for frame in itertools.islice(source.frames(), count)]


@pytest.mark.parametrize("start", [b"", b"\r\n"], ids=["bare", "empty line first"])
@pytest.mark.parametrize("lengths", [True, False], ids=["lengths", "no lengths"])
def test_a_multipart_camera_is_live_and_asked_once(lengths, start):
    ended = threading.Event()

    def answer(_request, send):
        for number in range(10):
            send(numbered(number))
        ended.wait(PATIENCE_S)

    with camera(answer, lengths=lengths) as cam:
        cam.start, cam.most_clients = start, 1
        with open_source(cam.url) as source:
            assert (source.live, source.name) == (True, cam.url)
            # without lengths a picture ends where the next begins, and after the last none begins
            frames = list(itertools.islice(source.frames(), 9))
            assert [number_of(frame) for frame in frames] == list(range(9))
            assert [frame.bytes for frame in frames] == [numbered(number) for number in range(9)]
            assert all(abs(frame.captured_at - time.time()) < PATIENCE_S for frame in frames)
            assert all(frame.time_s is None for frame in frames)
        ended.set()
        assert cam.requests == 1


def test_a_camera_that_hangs_up_is_connected_to_again_and_outages_are_counted():
    def answer(request, send):
        for number in range(3):
            send(numbered(3 * (request - 1) + number))

    with camera(answer) as cam, open_source(cam.url) as source:
        assert numbers(source, 9) == list(range(9))
        assert source.status.outages == 2
        assert cam.requests == 3


def test_a_camera_that_stays_away_ends_with_the_reason():
    def answer(_request, send):
        send(numbered(7))
        cam.is_on = False

    with camera(answer) as cam, open_source(cam.url, reconnect_s=0.5) as source:
        frames, seen = [], []

        def read():
            try:
                for frame in source.frames():
                    frames.append(frame)
            except fs.SourceError as error:
                seen.append(str(error))

        reader = threading.Thread(target=read)
        reader.start()
        wait_for(lambda: source.status.state == "reconnecting" or seen, "the outage to be seen")
        reader.join(PATIENCE_S)
        assert len(frames) == 1
        assert "went away" in seen[0]
        assert "503" in seen[0]
        assert "reconnect_s=0.5" in seen[0]
        assert "1 pictures were read" in seen[0]
        assert source.status.outages == 1


def test_a_silent_camera_is_called_silent_and_closing_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr("forgesyte_nb.client.sources.live._SILENT_S", 0.2)
    monkeypatch.setattr("forgesyte_nb.client.sources.camera.NETWORK_TIMEOUT_S", 600.0)
    on = threading.Event()

    def answer(_request, send):
        send(numbered(1))
        on.wait(PATIENCE_S)

    with camera(answer) as cam, open_source(cam.url) as source:
        frames = []
        reader = threading.Thread(target=lambda: frames.extend(source.frames()))
        reader.start()
        wait_for(lambda: source.status.state == "silent", "silence")
        assert "is silent: no picture for" in source.status.message
        source.close()
        reader.join(PATIENCE_S)  # far less than the time after which a silent camera is connected to again
        assert not reader.is_alive()
        on.set()


def test_a_camera_that_is_silent_for_long_is_connected_to_again(monkeypatch):
    monkeypatch.setattr("forgesyte_nb.client.sources.camera.NETWORK_TIMEOUT_S", 0.5)
    off = threading.Event()

    def answer(request, send):
        send(numbered(request))
        off.wait(PATIENCE_S)

    with camera(answer) as cam, open_source(cam.url) as source:
        assert numbers(source, 2) == [1, 2]
        assert source.status.outages == 1
        off.set()


def test_one_picture_that_cannot_be_decoded_is_skipped_and_counted():
    whole = numbered(2)
    cut = whole[:300] + b"\xff\xd9"
    off = threading.Event()

    def answer(_request, send):
        for part in (numbered(1), b"no picture at all, only some bytes", cut, numbered(3)):
            send(part)
        off.wait(PATIENCE_S)

    with camera(answer) as cam, open_source(cam.url) as source:
        assert numbers(source, 2) == [1, 3]
        assert (source.status.damaged, source.status.outages, cam.requests) == (2, 0, 1)
        off.set()


def test_a_picture_over_the_limit_of_pixels_is_not_decoded():
    off = threading.Event()

    def answer(_request, send):
        for part in (numbered(1), png(9000, 9000), numbered(3)):
            send(part)
        off.wait(PATIENCE_S)

    with camera(answer) as cam, open_source(cam.url) as source:
        assert numbers(source, 2) == [1, 3]
        assert source.status.damaged == 1
        off.set()


def test_a_length_that_is_no_number_is_left_out_of_account():
    off = threading.Event()

    def answer(_request, send):
        send(numbered(2))
        off.wait(PATIENCE_S)

    with camera(answer) as cam:
        cam.start = b"--frame\r\nContent-Length: \xb2\r\n\r\n" + numbered(1) + b"\r\n"
        with open_source(cam.url) as source:
            assert numbers(source, 2) == [1, 2]
        off.set()


def test_a_camera_behind_a_password_is_asked_with_it_and_nobody_sees_it():
    off = threading.Event()

    def answer(_request, send):
        send(numbered(4))
        off.wait(PATIENCE_S)

    with camera(answer) as cam:
        address = cam.url.removeprefix("http://")
        url = f"HTTP://user:pa%3Ass@{address}?token=geheim#part"
        with open_source(url) as source:
            assert numbers(source, 1) == [4]
            assert source.name == cam.url
            assert "geheim" not in repr(source)
        assert cam.paths == ["/video?token=geheim"]
        off.set()


@pytest.mark.parametrize("reconnect_s", [-1, float("nan")])
def test_a_wait_that_cannot_be_is_refused(reconnect_s):
    with camera(lambda _request, send: send(numbered(1))) as cam, pytest.raises(ValueError, match="reconnect_s"):
        open_source(cam.url, reconnect_s=reconnect_s)


# Through FFmpeg: UDP


@pytest.fixture
def udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Sender:
    """Sends MPEG-TS over UDP until it is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.on = threading.Event()
        self.on.set()
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with av.open(f"udp://127.0.0.1:{self._port}?pkt_size=1316", "w", format="mpegts") as out:
            stream = out.add_stream("mpeg1video", rate=25, options={"g": "5"})
            stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
            for number in itertools.count():
                if self.stopped.wait(0.02):
                    return
                if self.on.is_set():
                    pixels = np.full((32, 64, 3), 10 * (number % 20), np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    def close(self) -> None:
        self.stopped.set()
        self._thread.join()


@pytest.fixture
def sender(udp_port: int) -> Iterator[tuple[Sender, str]]:
    made = Sender(udp_port)
    yield made, f"udp://127.0.0.1:{udp_port}"
    made.close()


def test_a_stream_over_udp_that_falls_silent_comes_back(sender, monkeypatch):
    monkeypatch.setattr("forgesyte_nb.client.sources.camera.NETWORK_TIMEOUT_S", 1.0)
    camera, url = sender
    with open_source(url) as source:
        assert source.live
        frames = source.frames()
        next(frames)
        camera.on.clear()
        back = threading.Thread(
            target=lambda: wait_for(lambda: source.status.outages, "the outage") and camera.on.set()
        )
        back.start()
        wait_for(lambda: next(frames) and source.status.outages, "the stream to come back")
        back.join()
        frames.close()


# In a stream of the notebook


PLUGINS = """
import time

@fs.plugin
def number(frame):
    return {"number": round(float(frame.gray.mean()) / 10)}

@fs.plugin
def slow(frame):
    time.sleep(0.4)
    return {"row": frame.rgb[0, 8::16, 0].tolist()}
"""


@pytest.fixture
def server(tmp_path):
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="threads", workers=1)
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        yield server


@pytest.fixture(params=["multipart", "rtsp", "udp", "device"])
def switched(request, udp_port, tmp_path, monkeypatch):
    """A camera of each kind that sends pictures, as a source, and a function that switches it on and off."""
    monkeypatch.setattr("forgesyte_nb.client.sources.camera.NETWORK_TIMEOUT_S", 1.0)
    with contextlib.ExitStack() as stack:
        if request.param == "multipart":

            def answer(_request, send):
                while cam.is_on:
                    send(numbered(5))
                    time.sleep(0.02)

            cam = stack.enter_context(camera(answer))
            yield cam.url, lambda on: setattr(cam, "is_on", on)
        elif request.param == "rtsp":
            rtsp = stack.enter_context(rtsp_camera())
            yield rtsp.url, lambda on: rtsp.is_on.set() if on else rtsp.is_on.clear()
        elif request.param == "udp":
            udp = stack.enter_context(contextlib.closing(Sender(udp_port)))
            yield f"udp://127.0.0.1:{udp_port}", lambda on: udp.on.set() if on else udp.on.clear()
        else:
            # No machine of tests has a camera: FFmpeg's virtual device, which a file plugs in and out.
            there, away = tmp_path / "there.mkv", tmp_path / "away.mkv"
            write_clip(there)
            device = (f"movie={there}", {"format": "lavfi"})
            monkeypatch.setattr("forgesyte_nb.client.sources.camera.device_of", lambda _device: device)
            yield "camera:0", lambda on: away.rename(there) if on else there.rename(away)


def write_clip(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg1video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 64, 3), 50, np.uint8), format="rgb24")))
        out.mux(stream.encode(None))


def test_a_stream_shows_that_its_camera_is_away_and_goes_on_when_it_is_back(server, switched):
    source, switch = switched
    stream = fs.stream(source, "number", server=server)
    assert stream.intent == "freshest"
    wait_for(lambda: stream.ledger["results"] >= 1, "a picture")
    switch(False)
    wait_for(lambda: stream.source_status.state == "reconnecting" and stream.ledger["pending"] == 0, "the outage")
    assert f"reconnecting to {source}" in stream.notice
    assert "reconnecting" in repr(stream)
    before, state = stream.ledger["results"], stream.state()
    assert state["source_state"] == "reconnecting"
    assert state["outages"] == stream.source_status.outages >= 1
    assert "reconnecting" in state["problem"]
    assert stream.status == "playing"
    switch(True)
    wait_for(lambda: stream.ledger["results"] > before, "a picture after the outage")
    stream.close()


def test_a_stream_whose_camera_stays_away_fails_with_the_reason(server, switched):
    source, switch = switched
    secret = "?key=geheim" if str(source).startswith("http") else ""
    stream = fs.stream(source + secret, "number", server=server, reconnect_s=0.5)
    wait_for(lambda: stream.ledger["results"] >= 1, "a picture")
    switch(False)
    stream.wait(PATIENCE_S)
    assert stream.status == "failed"
    assert f"{source} went away (" in stream.problem
    assert "did not come back within reconnect_s=0.5" in stream.problem
    assert stream.source_status.outages >= 1
    assert stream.ledger["results"] == len([result for result in stream.results if result.ok]) >= 1
    for text in (stream.problem, repr(stream), stream.code, str(stream.state()), str(stream.results)):
        assert "geheim" not in text
    stream.close()


def test_a_client_gives_up_a_camera_after_the_same_time(server, switched):
    source, switch = switched
    with fs.BlockingClient(server) as client:
        stream = client.stream(source, "number", reconnect_s=0.5)
        assert next(stream).ok
        switch(False)
        with pytest.warns(UserWarning, match=r"did not come back within reconnect_s=0\.5"):
            assert all(result.ok for result in stream)
        assert stream.source.status.outages >= 1


def test_a_batch_of_a_camera_ends_with_it(server):
    with camera(lambda _request, send: [send(numbered(number)) for number in range(3)]) as cam:
        cam.most_requests = 1
        with pytest.warns(UserWarning, match="went away"):
            table = fs.batch(cam.url, "number", url=server, reconnect_s=0, progress=False)
        assert list(table["result.number"])[-1] == 2  # the pictures that came too fast for it are left out


# RTSP


def test_an_rtsp_camera_that_falls_silent_is_connected_to_again(monkeypatch):
    monkeypatch.setattr("forgesyte_nb.client.sources.camera.NETWORK_TIMEOUT_S", 1.0)
    with rtsp_camera() as cam, open_source(cam.url) as source:
        assert (source.live, source.fps) == (True, 25)
        frames = source.frames()
        assert [number_of(next(frames)) for _ in range(10)] == list(range(10))
        assert next(frames).time_s is None
        cam.is_sending.clear()
        cam.when_played = cam.is_sending.set
        wait_for(lambda: next(frames) and source.status.outages, "the camera to come back")
        assert (source.status.outages, cam.plays) == (1, 2)
        frames.close()


def test_an_rtsp_camera_is_given_its_password_and_nobody_sees_it():
    with rtsp_camera() as cam:
        cam.login = "user:geheim"
        address = cam.url.removeprefix("rtsp://")
        with open_source(f"rtsp://user:geheim@{address}") as source:
            assert number_of(next(source.frames())) == 0
            assert "geheim" not in repr(source)
        for login in ("", "user:falsch@"):
            with pytest.raises(fs.SourceError) as caught:
                open_source(f"rtsp://{login}{address}")
            assert "401" in str(caught.value)
            assert "rtsp://USER:PASSWORD@" in str(caught.value)
            assert "falsch" not in str(caught.value)


def test_a_camera_that_does_not_answer_is_no_damaged_file():
    with rtsp_camera() as cam:
        url = cam.url
    with pytest.raises(fs.SourceError, match="Connection refused; see that it is switched on and reached from here"):
        open_source(url)


def binary(number: int) -> np.ndarray:
    """A picture whose columns, of 16 pixels each, are the bits of a number."""
    bits = [255 * (number >> bit & 1) for bit in range(16)]
    return np.broadcast_to(np.repeat(np.array(bits, np.uint8), 16)[None, :, None], (32, 256, 3))


def test_an_answer_is_of_a_picture_at_most_three_plugin_times_old(server):
    """By the numbers in the pictures: a camera of 60 a second, a plugin of 0.4 s, so 72 pictures at the most."""
    sent, off = [0], threading.Event()

    def answer(_request, send):
        while not off.wait(1 / 60):
            sent[0] += 1
            send(fs.Frame.from_array(binary(sent[0])).bytes)

    with camera(answer) as cam:
        ages = []
        stream = fs.stream(cam.url, "slow", server=server)

        def measure(result, _at_s):
            number = sum(1 << bit for bit, value in enumerate(result.result["row"]) if value > 127)
            ages.append(sent[0] - number)

        stream.on_result(measure)
        wait_for(lambda: len(ages) >= 6, "six answers")
        stream.close()
        off.set()
    assert max(ages) <= 3 * 0.4 * 60
