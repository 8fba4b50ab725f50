"""A plugin that waits for the end of its cell, and that a client over a socket uses before."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.errors import PluginNotFound
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import get, run_cell

WAITS = """
import os, time

@fs.plugin
def plain(frame): return {"plain": True}

value = mark
@fs.plugin
class p:
    def setup(self, ctx):
        while not os.path.exists(PATH):
            time.sleep(0.005)
    def process(self, frame): return {"waited": value is not None}
value = mark
"""
FAILS = """
helper = None
@fs.plugin
class p:
    def setup(self, ctx): raise OSError(f"no weights {helper}")
    def process(self, frame): return {}
helper = 1
"""


class Mark:
    """Notes in which threads it is pickled."""

    threads: list[str] = []

    def __reduce__(self) -> Any:
        Mark.threads.append(threading.current_thread().name)
        return (int, ())


@pytest.mark.parametrize("engine", ["threads", "processes"])
async def test_it_is_packed_and_set_up_beside_the_loop_while_its_clients_messages_wait_in_order(
    client: Any, serve_on: Any, tiny: bytes, tmp_path: Path, engine: str
) -> None:
    registry = Registry()
    server = serve_on(registry, engine=engine)
    run_cell(WAITS, registry, mark=Mark(), PATH=str(tmp_path / "open"))
    Mark.threads.clear()
    one, other = await client(server, "one"), await client(server, "other")
    await one.frame("first", tiny, "p")
    await one.frame("second", tiny, "plain")
    await one.send({"type": "no such type", "frame_id": "third"})
    assert (await other.analyze("beside", tiny, "plain"))["result"] == {"plain": True}
    (tmp_path / "open").touch()
    assert (await one.terminal("first"))["result"] == {"waited": True}
    assert (await one.terminal("second"))["result"] == {"plain": True}
    assert (await one.terminal("third"))["error_code"] == "INVALID_MESSAGE"
    taken = [message["frame_id"] for message in one.heard if message.get("status") == "pending"]
    assert taken == ["first", "second"]
    assert Mark.threads
    assert not any(name.startswith("forgesyte-server") for name in Mark.threads), Mark.threads
    assert registry.entry("p").plugin.revision == 1


async def test_one_that_cannot_be_set_up_does_not_come_into_force(client: Any, serve_on: Any, tiny: bytes) -> None:
    registry = Registry()
    server = serve_on(registry, engine="threads")
    run_cell(FAILS, registry)
    answer = await (await client(server)).analyze("frame", tiny, "p")
    assert answer["error_code"] == "PLUGIN_NOT_FOUND"
    assert "'p' could not be loaded: revision 1 cannot be loaded" in answer["message"]
    assert "no weights" in answer["message"]
    with pytest.raises(PluginNotFound):
        registry.entry("p")


async def test_clients_that_connect_and_ask_for_the_plugins_do_not_register_it(client: Any, serve_on: Any) -> None:
    registry = Registry()
    server = serve_on(registry, engine="threads")
    run_cell(FAILS, registry)
    newcomer = await client(server, subprotocols=["forgesyte.v2"])
    assert "p" in (await newcomer.next())["plugins"]
    _, listed = await asyncio.to_thread(get, server, "/v1/plugins")
    assert [one["revision"] for one in listed["plugins"] if one["name"] == "p"] == [0]
    assert registry.is_due("p")


async def test_what_waits_is_bounded_and_answered_when_the_server_closes(
    client: Any, serve_on: Any, tiny: bytes, tmp_path: Path
) -> None:
    registry = Registry()
    server = serve_on(registry, engine="threads", queue_bytes=2000, drain_timeout_s=0.0, setup_timeout_s=30.0)
    run_cell(WAITS, registry, mark=None, PATH=str(tmp_path / "open"))
    one = await client(server)
    names = [str(number) for number in range(40)]
    for name in names:
        await one.frame(name, tiny, "p")
    refused = await one.until(lambda message: message["type"] == "error")
    assert refused["error_code"] == "QUEUE_FULL"
    assert "wait for a plugin that is being loaded" in refused["message"]
    closing = threading.Thread(target=server.close)
    closing.start()
    codes = {(await one.terminal(name))["error_code"] for name in names}
    assert codes == {"QUEUE_FULL"}
    (tmp_path / "open").touch()
    closing.join()
