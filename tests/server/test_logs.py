"""The log: one line an event whatever clients and plugins write, bounded, and at hand in a notebook."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import logs
from tests.conftest import PATIENCE_S, Connect, run_cell, wait_for
from tests.server.conftest import log_of

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) .+")
EVIL = "x\n2026-01-01 00:00:00,000 ERROR forged\r\x1b[31mred\x00\x7f\x85\u2028\u2029\u202eend\\n"
UNSEEN = "\u200b\u200d\u2066\u2069\ufeff\u00ad\u034f\u3164\U000e0041\u061c\u180e\ufe0f"
EVIL += UNSEEN

PLUGINS = """
@fs.plugin
def says(frame, *, text: str):
    raise ValueError(text)

@fs.plugin
def logs(frame, *, ctx, text: str):
    ctx.log(text)
    return {}
"""


def check_lines(server: fs.Server) -> list[str]:
    """All lines, each of them an event, none with a control character."""
    lines = log_of(server).split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert LINE.fullmatch(line), line
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", line), line
        assert not set(UNSEEN) & set(line), line
    return lines


async def test_what_clients_and_plugins_write_cannot_forge_an_event(
    serve_on: Any, client: Connect, tiny: bytes, raw: Any
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    server = serve_on(registry)
    one = await client(server)
    await one.frame(EVIL, tiny, EVIL)
    await one.send({"type": EVIL, "frame_id": EVIL})
    await one.send({"type": "subscribe", "topic": EVIL})
    await one.analyze(EVIL, tiny, "says", {"text": EVIL})
    await one.analyze(EVIL, tiny, "logs", {"text": EVIL})
    raw(server).request("/ws/x", [("Host", "evil\x85")])
    await one.fence()
    rude = await client(server)
    await rude.socket.close(1011, "\u202eworn\u200b out")
    wait_for(lambda: "1011" in log_of(server) or "left client" in log_of(server), "the end of the connection")
    lines = check_lines(server)
    assert not [line for line in lines if "ERROR" in line.split()[2:3]], "no such event"
    assert sum("forged" in line for line in lines) >= 5, "but all of it is there to read"


async def test_a_frame_id_of_a_megabyte_is_cut(serve_on: Any, client: Connect, tiny: bytes) -> None:
    server = serve_on()
    one = await client(server)
    await one.frame("n" * 1_000_000, tiny, "no such plugin")
    await one.send({"type": "subscribe", "topic": "t" * 1_000_000})
    await one.fence()
    assert max(len(line) for line in check_lines(server)) < 1000


async def test_coming_and_going_is_logged(serve_on: Any, client: Connect) -> None:
    server = serve_on()
    one = await client(server, "anna")
    await one.socket.close()
    server.close()
    text = "\n".join(check_lines(server))
    for event in ("listening on ws://localhost:", "connected client=anna session=", "left client=anna", "INFO closed"):
        assert event in text
    assert server.log_tail(1).endswith("closed")


def test_the_file_rotates_and_the_old_ones_are_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 2000)
    log = logs.open_log(tmp_path / "sub" / "server.log", "test")
    for number in range(200):
        log.info("event %d %s", number, "x" * 50)
    logs.flush_log(log)
    files = sorted((tmp_path / "sub").iterdir())
    assert [file.name for file in files] == ["server.log", "server.log.1", "server.log.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert "event 199 " in logs.tail(files[0], 1)
    logs.close_log(log)
    log.info("after the end")
    assert "after the end" not in files[0].read_text()


def test_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert logs.tail(path, 5) == ""
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert logs.tail(path, 2) == "line 998\nline 999"
    assert logs.tail(path, 0) == ""
    path.write_text("first\n" + "long " * 5000 + "\nlast\n")
    assert logs.tail(path, 3).startswith("first\nlong long "), "a line may be a whole traceback"
    path.write_bytes(b"caf\xc3\xa9\n\xff\n")
    assert logs.tail(path, 2) == "café\n\ufffd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, caf\u00e9, \u6f22\u5b57, \U0001f600", "plain, caf\u00e9, \u6f22\u5b57, \U0001f600"),
        ("a\u202eb\u200bc\u2066d", "a\\u202eb\\u200bc\\u2066d"),
        ("\x1b[2J\x9b", "\\x1b[2J\\x9b"),
        ("\U000e0041\ud800", "\\U000e0041\\ud800"),
        ("a\u00a0b\u2800c", "a\\xa0b\\u2800c"),
    ],
)
def test_what_does_not_show_is_written_as_an_escape(text: str, shown: str) -> None:
    assert logs.visible(text) == shown


class Blocked(io.StringIO):
    """A file that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.gate.wait(PATIENCE_S)
        return super().write(text)


def test_logging_does_not_wait_for_the_disk_and_what_waits_is_bounded_and_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "QUEUE_RECORDS", 50)
    log = logs.open_log(tmp_path / "server.log", "test")
    (handler,) = log.handlers
    assert isinstance(handler, logs.QueuedLog)
    real, slow = handler.file.stream, Blocked()
    monkeypatch.setattr(handler.file, "stream", slow)
    threads: list[str] = []
    format_exception = logs.OneLine.formatException

    def formatted(self: logs.OneLine, info: Any) -> str:
        threads.append(threading.current_thread().name)
        return format_exception(self, info)

    monkeypatch.setattr(logs.OneLine, "formatException", formatted)
    try:
        raise ValueError("on purpose")
    except ValueError:
        log.exception("event 0")
    assert slow.reached.wait(PATIENCE_S)
    for number in range(1, 1000):
        log.info("event %d", number)
    log.info("%s", "x" * 1_000_000)
    assert "event 1 " not in slow.getvalue(), "nothing has been written yet, and nobody waited"
    slow.gate.set()
    logs.flush_log(log)
    text = slow.getvalue()
    assert "ValueError: on purpose" in text
    assert threads
    assert threading.current_thread().name not in threads, "tracebacks are formatted by the thread that writes"
    assert "event 50\n" in text
    assert "event 51\n" not in text
    assert "950 lines were lost: they came faster than they could be written" in text
    monkeypatch.setattr(handler.file, "stream", real)
    log.info("%s the last", "x" * 1_000_000)
    logs.close_log(log)
    last = (tmp_path / "server.log").read_text().splitlines()[-1]
    assert last.endswith("… (1000009 characters)"), "it was written before the file was closed, and cut"
    assert len(last) < 2 * logs.MAX_CHARACTERS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_costs_lines_and_says_so_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = logs.open_log(Path("/dev/full"), "test")
    for number in range(100):
        log.info("event %d", number)
    logs.flush_log(log)
    (handler,) = log.handlers
    assert isinstance(handler, logs.QueuedLog)
    handler.file.baseFilename = str(tmp_path / "server.log")  # there is room again
    log.info("event 100")
    logs.close_log(log)
    assert capfd.readouterr().err == "/dev/full cannot be written (No space left on device); its lines are lost\n"
    lost, written = (tmp_path / "server.log").read_text().splitlines()
    assert "WARNING 100 lines were lost: No space left on device" in lost
    assert written.endswith("INFO event 100")


FILLS = """
import resource, sys
from pathlib import Path
from forgesyte_nb.server import logs
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = logs.open_log(Path(sys.argv[1]), "test")
for number in range(20):
    log.info("event %d %s", number, "x" * 100)
logs.flush_log(log)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.info("event 20")
logs.close_log(log)
"""


@pytest.mark.skipif(os.name != "posix", reason="files are limited as on POSIX")
def test_a_line_that_the_disk_has_half_the_room_for_is_lost_whole(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    subprocess.run([sys.executable, "-c", FILLS, str(path)], stderr=subprocess.DEVNULL, timeout=60, check=True)
    lines = path.read_text().splitlines()
    for line in lines:
        assert LINE.fullmatch(line)
        assert len(re.findall(r"\d\d:\d\d:\d\d,\d{3}", line)) == 1, "no line continues another"
    written = sum("event" in line for line in lines)
    assert lines[-2].endswith(f" WARNING {21 - written} lines were lost: File too large")
    assert lines[-1].endswith(" INFO event 20")


def test_long_tracebacks_and_refused_headers_are_cut(serve_on: Any, raw: Any) -> None:
    server = serve_on()
    server._log.error("on purpose", exc_info=ValueError("x" * 5_000_000))
    hosts = [("Host", "h" * 8000)] * 7
    assert raw(server).request("/ws/x", hosts)[0] == 403
    lines = check_lines(server)
    assert len(next(line for line in lines if "on purpose" in line)) < 3 * logs.MAX_CHARACTERS
    assert len(next(line for line in lines if "refused at the gate" in line)) < 1000


@pytest.mark.skipif(os.name != "posix", reason="links and owners are those of POSIX")
@pytest.mark.parametrize("what", ["file", "link that leads nowhere", "link", "folder that all can write"])
def test_another_user_cannot_take_the_folder_of_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = logs.default_path(1).parents[1]
    assert own.parent == tmp_path
    shutil.rmtree(own)
    if what == "file":
        own.touch()
    elif what == "folder that all can write":
        own.mkdir()
        own.chmod(0o777)
    else:
        own.symlink_to(tmp_path if what == "link" else "nowhere")
    path = logs.default_path(1)
    assert own not in path.parents
    assert path.parents[1].stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_server_whose_disk_is_full_works_and_closes(
    capfd: pytest.CaptureFixture[str], tiny: bytes, serve_on: Any
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    with (
        fs.Server(port=0, settings=fs.Settings(engine="inline"), plugin_registry=registry, log="/dev/full") as server,
        fs.BlockingClient(server) as one,
        pytest.raises(fs.ForgeSyteError, match="bad"),
    ):
        one.analyze(tiny, "says", text="bad")
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err


FORKS = """
import os, sys, time, forgesyte_nb as fs
server = fs.Server(port=0, settings=fs.Settings(engine="inline"), log=sys.argv[1])
for number in range(2000):  # the thread is at work, and may hold its locks
    server._log.info("event %d", number)
child = os.fork()
if child == 0:
    server._log.warning("of the child")
    server.close()
    sys.exit(7)  # with all that runs at the end of an interpreter
_, status = os.waitpid(child, 0)
server.close()
print(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_ends_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "server.log")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert (ended.stdout, ended.stderr) == ("7\n", "")
    text = (tmp_path / "server.log").read_text()
    assert text.count(" event ") == 2000
    assert text.count("INFO closed") == 1
    assert "of the child" not in text
