"""The command line as a shell sees it: real processes, exit codes, what is on stdout and what on stderr."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image

PATIENCE_S = 60.0
COMMAND = str(Path(sys.executable).with_name("forgesyte-nb"))
BROKEN_PLUGIN = 'import forgesyte_nb as fs\n\n\ndef broken(:\n    """\x1b[31mred"""\n'
SEQUENCE_PLUGIN = '''
import forgesyte_nb as fs


@fs.plugin
def count(frame, *, word: str = "", start: int = 0, state: dict) -> dict:
    """Counts the frames of a stream. \x1b[31m"""
    state["n"] = state.get("n", start - 1) + 1
    return {"n": state["n"], "word": word}
'''


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FORGESYTE_")} | more


def run(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Serving:
    """A `forgesyte-nb serve` that has said where it is."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--log", str(folder / "server.log"), *map(str, arguments)],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        while not self.said.endswith("Ctrl-C stops it.\n"):
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.said} {self.process.communicate()}"
            self.said += line
        self.url = re.search(r"ws://\S+", self.said)[0]  # type: ignore[index]

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Signal it; its exit code, and what it said after its greeting."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures a.png … c.png in pictures/, one plugin in mine/, and one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "pictures").mkdir()
    for index, name in enumerate("cab"):
        Image.new("RGB", (32 + index, 24), (80 * index, 20, 20)).save(folder / "pictures" / f"{name}.png")
    (folder / "mine").mkdir()
    (folder / "mine" / "count.py").write_text(SEQUENCE_PLUGIN)
    (folder / "mine" / "broken.py").write_text(BROKEN_PLUGIN)
    return folder


@pytest.fixture(scope="module")
def serving(folder: Path) -> Iterator[Serving]:
    server = Serving(folder, "--plugins", "mine", "--workers", "1")
    yield server
    code, stdout, stderr = server.stop()
    assert (code, stdout, stderr) == (0, "closed\n", "")


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def only_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


# serve


def test_serve_says_where_and_what(serving: Serving, folder: Path) -> None:
    page = re.search(r"page +(\S+)", serving.said)[1]  # type: ignore[index]
    with urllib.request.urlopen(page, timeout=PATIENCE_S) as answer:  # noqa: S310
        assert answer.status == 200
    assert re.search(r"plugins +.*\bcount\b.*\bocr\b", serving.said)
    assert re.search(r"failed +broken.py: SyntaxError: .*line 4", serving.said)
    assert "processes, 1 workers" in serving.said
    assert str(folder / "server.log") in serving.said
    assert "listening on" in (folder / "server.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_closes_cleanly(tmp_path: Path, number: int) -> None:
    server = Serving(tmp_path, "--workers", "1")
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert server.stop(number) == (0, "closed\n", "")
    assert psutil.wait_procs(children, timeout=PATIENCE_S)[1] == []
    assert "closed" in (tmp_path / "server.log").read_text()


def test_serve_on_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert f"cannot listen on localhost:{port}" in only_line(done.stderr)
    assert "choose another --port, or leave it out" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--plugins", "nowhere"], "no plugin folder 'nowhere'; make it, or name another with --plugins"),
        (["--token-file", "nowhere/token"], "nowhere/token"),
        (["--log", "/proc/no/such/server.log"], "/proc/no"),
    ],
)
def test_serve_says_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run("serve", "--port", "0", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in only_line(done.stderr)
    assert only_line(done.stderr).startswith("forgesyte-nb serve: error: ")
    assert done.stdout == ""


@pytest.mark.parametrize("port", ["http", "-1", "65536"])
def test_serve_takes_only_ports(tmp_path: Path, port: str) -> None:
    done = run("serve", f"--port={port}", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no port" in done.stderr


@pytest.mark.parametrize("number", ["few", "-1", "1.5"])
def test_serve_takes_only_numbers_of_workers(tmp_path: Path, number: str) -> None:
    done = run("serve", f"--workers={number}", cwd=tmp_path)
    assert done.returncode == 2
    assert "argument --workers" in done.stderr
    assert "0 for one per processor" in done.stderr


def test_a_token_is_asked_for_and_never_shown(folder: Path, tmp_path: Path) -> None:
    secret = "s3cret-of-the-test"  # noqa: S105
    (tmp_path / "token").write_text(f"{secret}\n")
    refused = run("serve", "--token-file", "token", cwd=tmp_path)
    assert refused.returncode == 2
    assert "can be read by other users of this machine (mode 644): chmod 600 token" in only_line(refused.stderr)
    (tmp_path / "token").chmod(0o600)
    server = Serving(tmp_path, "--token-file", "token", "--workers", "1")
    send = ["send", folder / "pictures", "--plugin", "image_stats", "--url", server.url]
    try:
        without = run(*send, cwd=tmp_path)
        by_file = run(*send, "--token-file", "token", cwd=tmp_path)
        by_environment = run(*send, cwd=tmp_path, env=environment(FORGESYTE_NB_TOKEN=secret))
        listed_without = run("plugins", "--url", server.url, cwd=tmp_path)
        listed = run("plugins", "--url", server.url, "--token-file", "token", cwd=tmp_path)
    finally:
        code, stdout, stderr = server.stop()
    assert without.returncode == 2
    assert "with --token-file" in only_line(without.stderr)
    assert "token=" not in without.stderr
    assert (by_file.returncode, by_environment.returncode) == (0, 0)
    assert listed_without.returncode == 2
    assert "--token-file" in only_line(listed_without.stderr)
    assert "ocr" in listed.stdout
    assert (code, stderr) == (0, "")
    assert secret not in server.said + stdout + (tmp_path / "server.log").read_text()


# send


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
    assert "1 of 1 frames failed" in only_line(done.stderr)


def test_send_goes_on_after_a_damaged_picture(serving: Serving, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    files = [folder / "pictures/a.png", "damaged.png", folder / "pictures/b.png"]
    done = run("send", *files, "--plugin", "image_stats", "--url", serving.url, cwd=tmp_path)
    assert done.returncode == 1
    assert [line["ok"] for line in lines(done)] == [True, False, True]
    assert lines(done)[1]["error_code"] == "INVALID_IMAGE"


@pytest.mark.parametrize("missing", ["nowhere.png", "none/*.png"])
def test_send_looks_at_every_file_first(serving: Serving, folder: Path, missing: str) -> None:
    done = run("send", "pictures/a.png", missing, "--plugin", "count", "--url", serving.url, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert missing in only_line(done.stderr)


def test_send_to_nobody(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run("send", "pictures/a.png", "--plugin", "ocr", "--url", f"ws://127.0.0.1:{port}", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "start one with `forgesyte-nb serve`, or pass the --url" in only_line(done.stderr)
    done = run("send", "pictures/a.png", "--plugin", "ocr", "--url", "ftp://there", cwd=folder)
    assert done.returncode == 2
    assert "expected something like --url ws://localhost:8000" in only_line(done.stderr)


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


# doctor


def test_the_doctor_speaks_as_the_command_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run("doctor", "--url", f"ws://127.0.0.1:{port}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "→ `forgesyte-nb serve`, which says where it listens" in done.stdout
    assert "`forgesyte-nb serve` names the file" in done.stdout
    assert "fs." not in done.stdout
    assert "1 problem at" in done.stdout


# plugins


def test_plugins_found_here(folder: Path) -> None:
    done = run("plugins", "--plugins", "mine", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PLUGIN")
    assert re.search(r"^count +– +1 +yes +ok$", done.stdout, re.MULTILINE)
    assert re.search(r"^    bins +integer, ≥ 2, ≤ 256, default 16 – Bars", done.stdout, re.MULTILINE)
    assert "failed  broken.py: SyntaxError" in done.stdout
    assert "\x1b" not in done.stdout, "a plugin's text must not steer the terminal"


def test_plugins_of_a_running_server(serving: Serving, folder: Path) -> None:
    assert (
        run("plugins", "--url", serving.url, cwd=folder).stdout
        == run("plugins", "--plugins", "mine", cwd=folder).stdout
    )
    listed = json.loads(run("plugins", "--url", serving.url, "--json", cwd=folder).stdout)
    assert [one["name"] for one in listed["failed"]] == ["broken.py"]
    here = json.loads(run("plugins", "--plugins", "mine", "--json", cwd=folder).stdout)
    assert [one.keys() for one in here["failed"]] == [one.keys() for one in listed["failed"]]
    assert here["plugins"][0]["health"].keys() == listed["plugins"][0]["health"].keys()
    count = next(one for one in listed["plugins"] if one["name"] == "count")
    assert count["stateful"] is True
    assert count["options"]["properties"]["start"]["default"] == 0


def test_plugins_as_json_from_files_that_print(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(f"print('noise')\n{SEQUENCE_PLUGIN}")
    done = run("plugins", "--plugins", ".", "--json", cwd=tmp_path)
    assert "count" in [one["name"] for one in json.loads(done.stdout)["plugins"]]
    assert "noise" in done.stderr


def test_plugins_of_what_is_no_such_server(tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    done = run("plugins", "--url", f"http://127.0.0.1:{server.server_port}", cwd=tmp_path)
    thread.join(PATIENCE_S)
    server.server_close()
    assert done.returncode == 2
    assert "not as a ForgeSyte server" in only_line(done.stderr)
    done = run("plugins", "--url", f"http://127.0.0.1:{server.server_port}", cwd=tmp_path)
    assert done.returncode == 2
    assert "No server at" in only_line(done.stderr)


def test_plugins_from_one_place_at_a_time(tmp_path: Path) -> None:
    assert run("plugins", "--url", "localhost", "--plugins", ".", cwd=tmp_path).returncode == 2
    assert run("plugins", "--plugins", "nowhere", cwd=tmp_path).returncode == 2


# All


def test_usage(tmp_path: Path) -> None:
    assert run(cwd=tmp_path).returncode == 2
    assert run("sned", cwd=tmp_path).returncode == 2
    assert run("--version", cwd=tmp_path).stdout.startswith("forgesyte_nb ")
    shown = run("--help", cwd=tmp_path).stdout
    assert all(command in shown for command in ("serve", "send", "plugins", "demo"))


def test_no_command_takes_a_secret_as_an_argument(tmp_path: Path) -> None:
    for command in ("serve", "send", "plugins"):
        done = run(command, "x", "--plugin", "x", "--token", "s3cret", cwd=tmp_path)
        assert done.returncode == 2
        assert "unrecognized arguments" in done.stderr


def test_output_that_a_terminal_cannot_show(folder: Path) -> None:
    done = run("plugins", cwd=folder, env=environment(PYTHONIOENCODING="ascii"))
    assert done.returncode == 0
    assert r"\u2265 2" in done.stdout
