"""Mistakes that newcomers make, and what they are told."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import forgesyte_nb as fs
from forgesyte_nb.plugins.discovery import discover, plugin_folders
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, run_cell
from tests.server.conftest import Start

PLUGINS = """
@fs.plugin
def well(frame, *, gain: int = 1):
    return {"gain": gain}
"""


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, engine="inline", workers=1)


async def test_a_websocket_to_the_bare_address_is_told_the_path(server: fs.Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{server.port}", proxy=None)
    assert refused.value.response.status_code == 404
    assert b"/ws/<client_id>" in refused.value.response.body


async def test_json_as_bytes_is_told_to_be_text(server: fs.Server, client: Connect) -> None:
    one = await client(server)
    await one.send(json.dumps({"type": "subscribe", "topic": "all"}).encode())
    answer = await one.next()
    assert answer["error_code"] == "INVALID_MESSAGE"
    assert "send JSON as text" in answer["message"]


def test_options_are_keywords_everywhere(server: fs.Server) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with fs.BlockingClient(server) as client:
        assert client.analyze(picture, "well", gain=2)["gain"] == 2
        assert [result["gain"] for result in client.stream([picture], "well", gain=3)] == [3]
    assert list(fs.batch([picture], "well", url=server, progress=False, gain=4)["result.gain"]) == [4]


def test_the_stages_of_a_frame_add_up(server: fs.Server) -> None:
    pictures = [np.zeros((64, 64, 3), np.uint8)] * 50
    with fs.BlockingClient(server) as client:
        for result in client.stream(pictures, "well"):
            timings = result.timings
            stages = timings["queue_ms"] + timings["decode_ms"] + timings["plugin_ms"]
            assert stages <= timings["total_ms"] + 0.002  # each is rounded to 1 µs


def test_its_own_server_lets_a_client_in(tmp_path: Path) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline", token="a-secret")  # noqa: S106 -- of this test alone
    with (
        fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server,
        fs.BlockingClient(server) as client,
    ):
        assert client.analyze(np.zeros((8, 8, 3), np.uint8), "well")["gain"] == 1


def test_settings_that_are_none_leave_the_running_server_alone() -> None:
    with fs.serve(port=0, engine="inline") as server:
        with pytest.raises(TypeError, match=r"fs\.Settings\(workers=1"):
            fs.serve(settings={"workers": 1})  # type: ignore[arg-type]  # the mistake
        assert server.running
        assert fs.serve(port=server.port, engine="inline") is server
        other = fs.serve(port=0, engine="threads")
        assert other.port == server.port
        other.close()


def test_what_is_no_picture_is_told_where_to_go() -> None:
    with pytest.raises(fs.InvalidImage, match=r"Frame\.from_array"):
        fs.Frame(np.zeros((4, 4, 3), np.uint8))  # type: ignore[arg-type]  # the mistake
    with pytest.raises(fs.InvalidImage, match="paths"):
        fs.Frame("page.png")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(fs.InvalidImage, match="takes pixels"):
        fs.Frame.from_array("page.png")


def test_a_default_of_the_wrong_type_is_told_in_the_cell() -> None:
    with pytest.raises(fs.PluginDefinitionError, match="the default of 'gain', 'loud', is no value for it"):
        run_cell('@fs.plugin\ndef bad(frame, *, gain: int = "loud"): return {}', Registry())


def test_a_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGESYTE_NB_PLUGINS", "/no/such/folder")
    registry = Registry()
    discover(registry, plugin_folders())
    assert "FORGESYTE_NB_PLUGINS names it" in registry.failures["/no/such/folder"]
    with pytest.raises(fs.PluginNotFound, match="/no/such/folder"):
        registry.entry("x")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"max_message_bytes": "16 MiB"}, r"max_message_bytes='16 MiB': give a whole number, such as 16777216"),
        ({"plugin_timeout_s": "30"}, r"plugin_timeout_s='30': give a number, such as 30\.0"),
        ({"workers": 2.5}, r"workers=2\.5: give a whole number"),
        ({"check_peer_uid": 0}, r"check_peer_uid=0: give False or True"),
        ({"allow_hosts": "lab.example.org"}, r"allow_hosts='lab.example.org': give a tuple of texts, such as \('lab"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused_where_it_is_written(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        fs.Settings(**setting)


def test_a_port_that_cannot_be_had_leaves_the_running_server_alone() -> None:
    with fs.serve(port=0, engine="inline") as server, socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (99_999, taken.getsockname()[1]):
            with pytest.raises(fs.ServerError, match=str(port)):
                fs.serve(port=port)
        assert server.running


def test_one_folder_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import forgesyte_nb as fs\n@fs.plugin\ndef mine(frame):\n    return {}\n")
    with fs.Server(
        port=0, plugins=str(tmp_path), plugin_registry=Registry(), settings=fs.Settings(engine="inline")
    ) as one:
        assert "mine" in [plugin.name for plugin in one.plugins]
