"""The log: one line an event whatever clients and plugins write, bounded, and at hand in a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import logs
from tests.conftest import Connect, run_cell
from tests.server.conftest import log_of

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) .+")
EVIL = "x\n2026-01-01 00:00:00,000 ERROR forged\r\x1b[31mred\x00\x7f\x85\u2028\u2029\u202eend\\n"

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
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line), line
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
