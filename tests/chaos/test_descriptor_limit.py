"""A process at its limit of descriptors: a line a second in its log, none on the screen, and it goes on afterwards."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_for

SERVER = """
import resource, sys
import forgesyte_nb as fs
server = fs.Server(port=0, settings=fs.Settings(engine="inline"), log=sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(server.port, flush=True)
sys.stdin.read()
server.close()
"""
FULL = "socket.accept() out of system resource: Too many open files"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are counted as on Linux")
def test_the_screen_stays_clean_and_the_log_short(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    held = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(100)]

    def lines() -> list[str]:
        return [line for line in log.read_text().splitlines() if FULL in line]

    wait_for(lambda: len(lines()) >= 3, "three lines in the log")
    for one in held:
        one.close()

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", port), 30) as raw:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return raw.recv(100)

    wait_for(lambda: answer().startswith(b"HTTP/1.1 200"), "the server to accept again")
    _, screen = server.communicate("", timeout=PATIENCE_S)
    assert screen == ""
    seconds = [re.match(r"\S+ (\d\d:\d\d:\d\d)", line)[1] for line in lines()]  # type: ignore[index]
    assert max(map(seconds.count, seconds)) <= 2, "one a second; two may fall into one by the clock"
    assert "raise `ulimit -n`" in lines()[0]
    assert "Traceback" not in log.read_text()


WORKERS = """
import os, resource, signal, sys
import psutil
import forgesyte_nb as fs

@fs.plugin
def pid(frame):
    return {"pid": os.getpid()}

@fs.plugin(timeout_s=1.0)
def hangs(frame):
    while True:
        pass

def workers():
    return [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]

def ask(plugin="pid"):
    try:
        return client.analyze(picture, plugin).result["pid"]
    except fs.ForgeSyteError as error:
        return error

picture = open(sys.argv[2], "rb").read()
server = fs.Server(port=0, settings=fs.Settings(workers=1), log=sys.argv[1])
with fs.BlockingClient(server.url) as client:
    answer = ask()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(2):
        while len(running := workers()) < 2:  # with the spare
            ask()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # none, also of those that the dead ones free
        for one in running:
            if one.pid != answer:
                os.kill(one.pid, signal.SIGKILL)
        print("stopped:", type(ask("hangs")).__name__)
        for _ in range(2):
            print("failed:", ask())
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        while isinstance(answer := ask(), fs.ForgeSyteError):
            pass
        print("back:", answer)
server.close()
print("open:", len(os.listdir("/proc/self/fd")) < 40)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are counted as on Linux")
def test_workers_that_cannot_start_are_an_answer_and_come_back(tmp_path: Path, tiny: bytes) -> None:
    log, picture = tmp_path / "server.log", tmp_path / "picture.png"
    picture.write_bytes(tiny)
    ran = subprocess.run(
        [sys.executable, "-c", WORKERS, str(log), str(picture)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    failed = [line for line in ran.stdout.splitlines() if line.startswith("failed:")]
    assert len(failed) == 4
    for line in failed:
        assert "pid: worker processes cannot start: Too many open files; close files and connections" in line
    assert ran.stdout.count("stopped: ProcessingTimeout") == 2
    assert len(set(re.findall(r"back: \d+", ran.stdout))) == 2
    assert "open: True" in ran.stdout
    text = log.read_text()
    assert "Traceback" not in text
    said = [line[:19] for line in text.splitlines() if "plugin=processes worker processes cannot start" in line]
    assert said
    assert max(map(said.count, said)) <= 2, "one a second; two may fall into one by the clock"
