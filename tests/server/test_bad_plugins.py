"""Plugins that do what they should not: the frame gets its one error, its neighbours their results."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, SeedClient, get, wait_for
from tests.server.conftest import Start, log_of

PLUGINS = """
import ctypes, os, signal, sys
import numpy as np

@fs.plugin
def well(frame):
    return {"well": True}

@fs.plugin
def raises(frame):
    raise ValueError("no such colour: mauve")

@fs.plugin
def asks(frame):
    raise fs.PluginError("Choose another picture.")

@fs.plugin
def nan(frame):
    return {"values": [1.0, {"deep": float("nan")}]}

@fs.plugin
def infinite(frame):
    return {"value": np.float32("inf")}

@fs.plugin
def a_set(frame):
    return {"tags": {"a", "b"}}

@fs.plugin
def some_bytes(frame):
    return {"raw": b"123"}

@fs.plugin
def nothing(frame):
    return None

@fs.plugin
def a_list(frame):
    return [1, 2]

@fs.plugin
def numbers(frame):
    table = np.arange(6, dtype=np.uint8).reshape(2, 3)
    return {"i": np.int64(2**40), "f": np.float32(0.5), "b": np.bool_(True), "a": table, np.str_("k"): np.str_("v")}

@fs.plugin
def huge(frame):
    return {"text": "x" * 50_000_000}

@fs.plugin(timeout_s=0.5)
def loops(frame):
    while True:
        pass

@fs.plugin
def leaves(frame):
    sys.exit(3)

@fs.plugin
def exits(frame):
    os._exit(3)

@fs.plugin
def segfaults(frame):
    ctypes.string_at(0)

@fs.plugin
def killed(frame):
    os.kill(os.getpid(), signal.SIGKILL)
"""

CASES: dict[str, tuple[str, list[str]]] = {
    "raises": ("PLUGIN_ERROR", ["ValueError: no such colour: mauve (line 11 in raises)"]),
    "asks": ("PLUGIN_ERROR", ["Choose another picture."]),
    "nan": ("PLUGIN_ERROR", ["result['values'][1]['deep'] is nan: JSON has no such number; return None"]),
    "infinite": ("PLUGIN_ERROR", ["result['value'] is inf"]),
    "a_set": ("PLUGIN_ERROR", ["result['tags'] is a set, which JSON cannot say; make it a list or text"]),
    "some_bytes": ("PLUGIN_ERROR", ["result['raw'] is a bytes, which JSON cannot say; make it a list or text"]),
    "nothing": ("PLUGIN_ERROR", ["None"]),
    "a_list": ("PLUGIN_ERROR", ["list"]),
    "huge": ("PLUGIN_ERROR", ["returned 47.7 MiB of JSON, the limit is 16.0: return less"]),
    "loops": ("PROCESSING_TIMEOUT", ["loops ran longer than its limit of 0.5 s and was stopped", "timeout_s="]),
    "leaves": ("PLUGIN_ERROR", ["called sys.exit(3); raise an exception instead"]),
    "exits": ("PLUGIN_ERROR", ["exit"]),
    "segfaults": ("PLUGIN_ERROR", ["SIGSEGV"]),
    "killed": ("PLUGIN_ERROR", ["SIGKILL"]),
}


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, engine="processes")


@pytest.fixture
async def sender(server: fs.Server, client: Connect) -> SeedClient:
    return await client(server)


@pytest.mark.parametrize("plugin", CASES)
async def test_one_error_and_the_neighbours_live(
    server: fs.Server, sender: SeedClient, client: Connect, tiny: bytes, plugin: str
) -> None:
    neighbour = await client(server, "neighbour")
    order = ["well", "well", plugin, "well", "well"]
    for number, name in enumerate(order):
        await sender.frame(str(number), tiny, name)
        await neighbour.frame(f"n{number}", tiny, "well")
    answers = [await sender.terminal(str(number)) for number in range(5)]
    assert [answer["type"] for answer in answers] == ["frame_result"] * 2 + ["error"] + ["frame_result"] * 2
    for number in range(5):
        assert (await neighbour.terminal(f"n{number}"))["type"] == "frame_result"
    code, reasons = CASES[plugin]
    assert (answers[2]["error_code"], answers[2]["plugin"]) == (code, plugin)
    for reason in reasons:
        assert reason in answers[2]["message"]
    assert (await sender.analyze("after", tiny, "well"))["result"] == {"well": True}
    said = await sender.fence()
    about = [m for m in said if m["frame_id"] == "2"]
    assert [m["type"] for m in about if m["type"] != "job_update"] == ["error"], "exactly one terminal message"
    assert [m["status"] for m in about if m["type"] == "job_update"] == ["pending", "processing", "failed"]


async def test_numpy_is_fine(sender: SeedClient, tiny: bytes) -> None:
    answer = await sender.analyze("f", tiny, "numbers")
    assert answer["result"] == {"i": 2**40, "f": 0.5, "b": True, "a": [[0, 1, 2], [3, 4, 5]], "k": "v"}


async def test_the_plugins_own_traceback_is_in_the_log_and_not_on_the_wire(
    server: fs.Server, sender: SeedClient, tiny: bytes
) -> None:
    answer = await sender.analyze("traced", tiny, "raises")
    assert "Traceback" not in json.dumps(answer)
    line = next(line for line in log_of(server).splitlines() if "frame='traced'" in line)
    assert 'raise ValueError("no such colour: mauve")' in line
    assert answer["job_id"] in line


async def test_a_file_with_a_syntax_error_is_listed_as_failed_and_the_rest_load(
    client: Connect, tiny: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    good = "import forgesyte_nb as fs\n\n@fs.plugin\ndef {}(frame):\n    return {{}}\n"
    (folder / "a_first.py").write_text(good.format("first"))
    (folder / "broken.py").write_text("def broken(:\n")
    (folder / "z_last.py").write_text(good.format("last"))
    settings = fs.Settings(engine="inline")
    with fs.Server(
        port=0, plugins=[folder], settings=settings, plugin_registry=Registry(), log=tmp_path / "log"
    ) as server:
        _, listed = get(server, "/v1/plugins")
        reason = "SyntaxError: invalid syntax (broken.py, line 1)"
        assert listed["failed"] == [{"name": "broken.py", "reason": reason, "from_cell": False}]
        assert {"first", "last"} <= {plugin["name"] for plugin in listed["plugins"]}
        assert "cannot be loaded: broken.py: SyntaxError" in server.log_tail()
        asking = await client(server)
        assert (await asking.analyze("f", tiny, "last"))["type"] == "frame_result"
        (folder / "broken.py").write_text(good.format("mended"))

        def mended() -> Any:
            return get(server, "/v1/plugins")[1]["failed"] == []

        await asyncio.to_thread(wait_for, mended, "the mended file to load")
        assert (await asking.analyze("g", tiny, "mended"))["type"] == "frame_result"
