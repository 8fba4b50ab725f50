"""A server at its limit of descriptors: a line a second in its log, none on the screen, and it goes on afterwards."""

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
