"""`forgesyte-nb send` as a shell sees it: a line of JSON for each frame on stdout, what went wrong on stderr."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from tests.cli.shell import COMMAND, PATIENCE_S, Serving, environment, lines, only_line, run


def test_send_prints_a_line_a_frame_in_the_order_given(serving: Serving, folder: Path) -> None:
    done = run("send", "pictures/b.png", "pictures/a.png", "--plugin", "count", "--url", serving.url, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    told = lines(done)
    assert [line["name"] for line in told] == ["pictures/b.png", "pictures/a.png"]
    assert [line["result"]["n"] for line in told] == [0, 1], "images named together are one stream"
    assert len({line["frame_id"] for line in told}) == 2
    for line in told:
        assert line["ok"] is True
        assert line["latency_ms"] >= line["processing_time_ms"] > 0


def test_send_takes_folders_globs_and_videos(serving: Serving, folder: Path) -> None:
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for index in range(5):
            pixels = np.full((48, 64, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    done = run("send", "clip.mp4", "pictures", "pictures/*.png", "--plugin", "count", "--url", serving.url, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    told = [(line["name"], line["result"]["n"]) for line in lines(done)]
    pictures = [("a.png", 0), ("b.png", 1), ("c.png", 2)]
    assert told == [(f"clip.mp4#{n}", n) for n in range(5)] + pictures + pictures, "each is a stream of its own"


def test_send_parses_options(serving: Serving, folder: Path) -> None:
    options = ["--option", "start=7", "--option", "word=a=b"]
    done = run("send", "pictures/a.png", "--plugin", "count", *options, "--url", serving.url, cwd=folder)
    assert lines(done)[0]["result"] == {"n": 7, "word": "a=b"}
    done = run("send", "pictures/a.png", "--plugin", "count", "--option", "start", "--url", serving.url, cwd=folder)
    assert done.returncode == 2
    assert "NAME=VALUE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--plugin", "image_stat"], "PLUGIN_NOT_FOUND", "did you mean 'image_stats'?"),
        (["--plugin", "image_stats", "--option", "bins=1000"], "INVALID_OPTIONS", "bins: 1000 is greater than 256"),
        (["--plugin", "image_stats", "--option", "bims=8"], "INVALID_OPTIONS", "did you mean 'bins'?"),
    ],
)
def test_send_with_a_frame_that_fails(
    serving: Serving, folder: Path, arguments: list[str], code: str, said: str
) -> None:
    done = run("send", "pictures/a.png", *arguments, "--url", serving.url, cwd=folder)
    assert done.returncode == 1
    (line,) = lines(done)
    assert (line["ok"], line["error_code"]) == (False, code)
    assert said in line["message"]
    assert only_line(done.stderr).startswith("forgesyte-nb send: ended, since every frame would be refused: ")
    assert said in done.stderr


def test_send_goes_on_after_a_damaged_picture(serving: Serving, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    files = [folder / "pictures/a.png", "damaged.png", folder / "pictures/b.png"]
    done = run("send", *files, "--plugin", "image_stats", "--url", serving.url, cwd=tmp_path)
    assert done.returncode == 1
    assert [line["ok"] for line in lines(done)] == [True, False, True]
    assert lines(done)[1]["error_code"] == "INVALID_IMAGE"


@pytest.mark.parametrize("missing", ["nowhere.png", "none/*.png", "~nosuchuser/a.png", "empty", "no_clip.mp4"])
def test_send_goes_on_after_a_file_that_cannot_be_read(serving: Serving, folder: Path, missing: str) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "no_clip.mp4").write_text("no clip")
    files = ["pictures/a.png", missing, "pictures/b.png"]
    done = run("send", *files, "--plugin", "count", "--url", serving.url, cwd=folder)
    assert done.returncode == 1
    told = lines(done)
    assert [line["name"] for line in told] == files
    assert [line["ok"] for line in told] == [True, False, True]
    assert [line["result"]["n"] for line in told if line["ok"]] == [0, 1], "they are one stream all the same"
    assert told[1]["error_code"] == "INVALID_IMAGE"
    assert missing in told[1]["message"]
    assert f"1 of 3 frames failed; {missing}: " in only_line(done.stderr)


@pytest.mark.parametrize("arguments", [["--plugin", "cuont"], ["--plugin", "count", "--option", "strat=1"]])
def test_send_ends_at_the_first_if_every_frame_would_be_refused(
    serving: Serving, folder: Path, arguments: list[str]
) -> None:
    done = run("send", *["pictures/*.png"] * 50, *arguments, "--url", serving.url, cwd=folder)
    assert done.returncode == 1
    assert len(lines(done)) == 1
    assert "did you mean" in only_line(done.stderr)


def test_what_failed_before_the_end_is_told_with_it(serving: Serving, folder: Path) -> None:
    done = run("send", "nope.png", "pictures/a.png", "--plugin", "cuont", "--url", serving.url, cwd=folder)
    assert done.returncode == 1
    ended, failed = done.stderr.splitlines()
    assert "ended, since every frame would be refused: No plugin 'cuont'" in ended
    assert "1 of 2 frames failed; nope.png: " in failed


def test_send_to_nobody(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run("send", "pictures/a.png", "--plugin", "ocr", "--url", f"ws://127.0.0.1:{port}", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "start one with `forgesyte-nb serve`, or pass the --url" in only_line(done.stderr)
    done = run("send", "pictures/a.png", "--plugin", "ocr", "--url", "ftp://there", cwd=folder)
    assert done.returncode == 2
    assert "give the address of a server, such as --url ws://localhost:8000" in only_line(done.stderr)


def test_send_into_a_closed_pipe(serving: Serving, folder: Path) -> None:
    sending = subprocess.Popen(
        [COMMAND, "send", *["pictures/a.png"] * 500, "--plugin", "count", "--url", serving.url],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert sending.stdout is not None
    assert sending.stderr is not None
    assert json.loads(sending.stdout.readline())["ok"]
    sending.stdout.close()
    with sending.stderr:
        assert sending.stderr.read() == ""
    assert sending.wait(PATIENCE_S) == 141


def test_send_to_a_server_whose_plugin_file_is_broken(serving: Serving, folder: Path) -> None:
    done = run("send", "pictures/a.png", "--plugin", "nosuch", "--url", serving.url, cwd=folder)
    assert "Could not be loaded: broken.py (`forgesyte-nb plugins --url …` says why)" in only_line(done.stderr)
