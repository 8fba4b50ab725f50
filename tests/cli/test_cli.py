"""The command line as a shell sees it: real processes, exit codes, what is on stdout and what on stderr."""

from __future__ import annotations

import http.server
import json
import re
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import SEQUENCE_PLUGIN
from tests.cli.shell import PATIENCE_S, Serving, environment, only_line, run

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
        (["--token-file", "nowhere/token"], "nowhere/token cannot be made: there is no folder nowhere; make it"),
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


@pytest.mark.parametrize("command", [["send", "x.png", "--plugin", "ocr"], ["plugins"], ["doctor"]])
def test_a_token_file_that_is_not_there(tmp_path: Path, command: list[str]) -> None:
    done = run(*command, "--token-file", "nosuch", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = "nosuch cannot be read (No such file or directory): name the file with the server's secret"
    assert said in only_line(done.stderr)
    assert "Errno" not in done.stderr


def test_output_that_a_terminal_cannot_show(folder: Path) -> None:
    done = run("plugins", cwd=folder, env=environment(PYTHONIOENCODING="ascii"))
    assert done.returncode == 0
    assert r"\u2265 2" in done.stdout
