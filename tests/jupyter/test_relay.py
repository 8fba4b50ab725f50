"""The relay before a kernel's real server: what it lists, what passes, what it says when there is nothing to reach."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from tests.conftest import encoded, wait_for
from tests.jupyter.conftest import ROOT, TOKEN, Jupyter, Kernel

MIB = 1024 * 1024
PLUGINS = f"""
@fs.plugin
def mean(frame) -> dict:
    return {{"mean": round(float(frame.gray.mean()))}}

@fs.plugin
def long_answer(frame) -> dict:
    return {{"text": "x" * {12 * MIB}}}
"""
OPTIONS: dict[str, Any] = {
    "additional_headers": {"Authorization": f"token {TOKEN}"},
    "max_size": None,
    "proxy": None,
    "ping_interval": None,
}


@pytest.fixture
def told(kernel: Kernel) -> Iterator[dict[str, Any]]:
    """What the file of the kernel's fresh server says."""
    yield kernel.serve()
    kernel.run("server.close()")


def test_a_server_is_listed_and_gone_when_closed(jupyter: Jupyter, kernel: Kernel) -> None:
    told = kernel.serve()
    status, _, listed = jupyter.request("/forgesyte_nb/servers")
    assert status == 200
    assert listed["refused"] == []
    assert listed["servers"] == [
        {
            "kernel_id": kernel.id,
            "server_id": told["server_id"],
            "port": told["port"],
            "version": fs.__version__,
            "name": "street.ipynb",
            "path": "street.ipynb",
            "url": f"/user/someone/forgesyte_nb/{kernel.id}/",
        }
    ]
    kernel.run("server.close()")
    assert not kernel.file.exists()
    assert jupyter.request("/forgesyte_nb/servers")[2] == {"servers": [], "refused": []}


def test_a_server_that_a_stream_started_is_published_too(jupyter: Jupyter, kernel: Kernel) -> None:
    kernel.run("import forgesyte_nb as fs; stream = fs.stream([], 'image_stats')")
    assert jupyter.request(f"{kernel.way}/healthz")[0] == 200
    kernel.run("stream.close(); fs.serve().close()")
    assert not kernel.file.exists()


def test_a_server_that_replaces_another_is_the_one_published(jupyter: Jupyter, kernel: Kernel) -> None:
    first = kernel.serve()
    second = kernel.serve(", workers=1")
    assert second["server_id"] != first["server_id"]
    assert jupyter.request(f"{kernel.way}/healthz")[2]["server_id"] == second["server_id"]
    kernel.run("server.close()")


async def test_frames_through_the_relay(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any], jpeg: bytes) -> None:
    kernel.run(PLUGINS)
    async with fs.Client(f"http://{jupyter.base}{kernel.way}", token=TOKEN) as client:
        result = await client.analyze(jpeg, "mean")
    assert 0 < result["mean"] < 255


def test_look_ups_and_the_page(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any]) -> None:
    status, headers, health = jupyter.request(f"{kernel.way}/healthz?more=1")
    assert (status, health["server_id"]) == (200, told["server_id"])
    assert headers["Content-Type"] == "application/json"

    status, headers, page = jupyter.request(f"{kernel.way}/")
    assert status == 200
    assert b"<title>ForgeSyte</title>" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]

    status, headers, script = jupyter.request(f"{kernel.way}/forgesyte.js")
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert b"export class ForgeSyteClient" in script

    status, _, body = jupyter.request(f"{kernel.way}/no/such")
    assert status == 404
    assert "/v1/plugins" in body["error"]  # the kernel's server says it

    status, headers, _ = jupyter.request(kernel.way)
    assert (status, headers["Location"]) == (302, f"/user/someone{kernel.way}/")


def test_head_has_the_headers_alone(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any]) -> None:
    _, _, script = jupyter.request(f"{kernel.way}/forgesyte.js")
    status, headers, body = jupyter.request(f"{kernel.way}/forgesyte.js", method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(script)))


async def test_large_messages_both_ways(kernel: Kernel, told: dict[str, Any]) -> None:
    kernel.run(PLUGINS)
    noise = np.random.default_rng(7).integers(0, 256, (1800, 1750, 3), np.uint8)
    image = base64.b64encode(encoded(noise, compress_level=0)).decode()
    assert 12 * MIB < len(image) < 16 * MIB
    async with connect(kernel.ws, **OPTIONS) as client:
        for plugin in ("mean", "long_answer"):
            sent = {"type": "send_frame", "frame_id": plugin, "plugin": plugin, "image_data": image}
            await client.send(json.dumps(sent))
            while (answer := json.loads(await client.recv()))["type"] not in ("frame_result", "error"):
                pass
            assert answer["type"] == "frame_result", answer
        assert len(answer["result"]["text"]) == 12 * MIB


async def test_a_message_over_the_servers_limit_ends_with_its_code(kernel: Kernel, told: dict[str, Any]) -> None:
    async with connect(kernel.ws, **OPTIONS) as client:
        with pytest.raises(ConnectionClosed):
            await client.send("x" * (17 * MIB))
            await client.recv()
        assert client.close_code == 1009


async def test_a_server_that_closes_says_so(jupyter: Jupyter, kernel: Kernel) -> None:
    kernel.serve()
    async with connect(kernel.ws, **OPTIONS) as client:
        await asyncio.to_thread(kernel.run, "server.close()")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1001, "server closed")
    status, _, body = jupyter.request(f"{kernel.way}/healthz")
    assert status == 404
    assert "fs.serve()" in body["error"]


async def test_a_secret_is_presented_and_never_shown(jupyter: Jupyter, kernel: Kernel) -> None:
    told = kernel.serve(", token='hush-hush'")
    assert told["secret"] == "hush-hush"  # noqa: S105
    status, headers, health = jupyter.request(f"{kernel.way}/healthz")
    assert (status, health["server_id"]) == (200, told["server_id"])
    _, listed_headers, listed = jupyter.request("/forgesyte_nb/servers")
    async with connect(kernel.ws, subprotocols=["forgesyte.v2"], **OPTIONS) as client:  # type: ignore[list-item]
        hello = await client.recv()
        assert json.loads(hello)["server_id"] == told["server_id"]
        shown = [str(headers), str(health), str(listed_headers), str(listed), str(hello), str(client.response)]
    assert not [text for text in shown if "hush" in text]
    assert "hush" not in jupyter.log()
    kernel.run("server.close()")


def test_no_such_kernel(jupyter: Jupyter) -> None:
    status, _, body = jupyter.request("/forgesyte_nb/12345678-aaaa-bbbb-cccc-123456789012/healthz")
    assert status == 404
    assert "no kernel 12345678-aaaa" in body["error"]
    assert "/user/someone/forgesyte_nb/servers" in body["error"]


def test_a_file_without_its_kernel_leads_nowhere(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any]) -> None:
    other = "12345678-aaaa-bbbb-cccc-123456789012"
    copy = kernel.file.with_name(f"forgesyte_nb-{other}.json")
    copy.write_bytes(kernel.file.read_bytes())
    copy.chmod(0o600)
    assert jupyter.request(f"/forgesyte_nb/{other}/healthz")[0] == 404
    copy.unlink()


def test_nothing_listens(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    written = kernel.file.read_text()
    kernel.file.write_text(json.dumps({**told, "port": port}))
    for upgrade in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
        status, _, body = jupyter.request(
            f"{kernel.way}/ws/tester", headers={"Authorization": f"token {TOKEN}", **upgrade}
        )
        assert status == 502
        assert f"port {port}" in body["error"]
        assert "fs.serve()" in body["error"]
    kernel.file.write_text(written)


def test_what_is_not_believed(jupyter: Jupyter, kernel: Kernel, told: dict[str, Any]) -> None:
    kernel.file.chmod(0o640)
    status, _, body = jupyter.request(f"{kernel.way}/healthz")
    assert status == 502
    assert "0640" in body["error"]
    listed = jupyter.request("/forgesyte_nb/servers")[2]
    assert listed["servers"] == []
    assert listed["refused"][0]["kernel_id"] == kernel.id
    assert "0640" in listed["refused"][0]["reason"]

    kernel.file.chmod(0o600)
    assert jupyter.request(f"{kernel.way}/healthz")[0] == 200
    kernel.file.write_text(json.dumps({**told, "pid": os.getpid()}))
    status, _, body = jupyter.request(f"{kernel.way}/healthz")
    assert status == 502
    assert str(os.getpid()) in body["error"]
    kernel.file.write_text(json.dumps(told))


def test_a_restarted_kernel_publishes_anew(jupyter: Jupyter) -> None:
    kernel = jupyter.start_kernel("restarted.ipynb")
    first = kernel.serve()
    kernel.restart()
    wait_for(lambda: jupyter.request(f"{kernel.way}/healthz")[0] == 404, "the old server to be gone")
    second = kernel.serve()
    assert second["server_id"] != first["server_id"]
    assert second["pid"] != first["pid"]
    assert jupyter.request(f"{kernel.way}/healthz")[2]["server_id"] == second["server_id"]


def test_a_killed_kernel_leaves_a_file_that_is_not_believed_and_swept(jupyter: Jupyter, kernel: Kernel) -> None:
    killed = jupyter.start_kernel("killed.ipynb")
    told = killed.serve()
    os.kill(told["pid"], signal.SIGKILL)
    wait_for(lambda: jupyter.request(f"{killed.way}/healthz")[0] == 502, "the dead kernel's server to be unreachable")
    assert killed.file.exists()
    wait_for(lambda: not _alive(told["pid"]), "the dead kernel to be buried")
    kernel.serve()
    assert not killed.file.exists()
    kernel.run("server.close()")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_installing_the_package_enables_the_extension() -> None:
    folder = "forgesyte_nb/jupyter/jupyter_server_config.d"  # the tests' Jupyter Server reads it where it lies
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared[folder] == "etc/jupyter/jupyter_server_config.d"
    assert [path.name for path in (ROOT / folder).iterdir()] == ["forgesyte_nb.json"]
