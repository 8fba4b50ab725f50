"""Frames that wait: in memory, then in a temporary file, then refused; what was accepted is answered."""

from __future__ import annotations

import threading
from typing import Any

from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, get, run_cell
from tests.server.conftest import WAITS

PLUGINS = (
    WAITS
    + """
@fs.plugin
def size(frame):
    return {"bytes": len(frame.bytes), "size": list(frame.size_wh)}
"""
)


def waiting_bytes(server: Any) -> dict[str, float]:
    """From `/metrics`, by place."""
    lines = get(server, "/metrics")[1].decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {"memory": float(values["forgesyte_backlog_bytes"]), "file": float(values["forgesyte_spool_bytes"])}


async def test_over_memory_to_the_file_then_refused_and_all_that_was_taken_is_answered(
    serve_on: Any, client: Connect, jpeg: bytes, gate: threading.Event
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry, gate=gate)
    room = {"queue_bytes": 5 * len(jpeg), "spool_bytes": 10 * len(jpeg)}
    server = serve_on(registry, engine="processes", workers=1, **room)
    one = await client(server)
    for number in range(10):
        await one.frame(f"waits {number}", jpeg, "waits")
    for number in range(10):
        await one.frame(f"size {number}", jpeg, "size")
    refused = [await one.terminal(f"size {number}") for number in range(5, 10)]
    assert {m["error_code"] for m in refused} == {"QUEUE_FULL"}
    assert "raise spool_bytes in the server's Settings" in refused[0]["message"]
    for number in range(5):  # in the file, and behind nobody: their lane is another engine's
        answer = await one.terminal(f"size {number}")
        assert answer["result"] == {"bytes": len(jpeg), "size": [256, 256]}
    assert waiting_bytes(server) == {"memory": 5 * len(jpeg), "file": 10 * len(jpeg)}, "the segment is still in use"
    gate.set()
    for number in range(10):
        assert (await one.terminal(f"waits {number}"))["type"] == "frame_result"
    await one.fence()
    assert waiting_bytes(server) == {"memory": 0, "file": 0}
    assert (await one.analyze("again", jpeg, "size"))["type"] == "frame_result"
