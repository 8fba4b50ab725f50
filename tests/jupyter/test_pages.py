"""The pages of the Jupyter Server that started a kernel may use its feeds; pages of other ports may not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forgesyte_nb.jupyter import pages
from tests.jupyter.conftest import Jupyter, Kernel
from tests.server.conftest import RawSocket, upgrade


def selected(port: int, origin: str) -> str | None:
    """The subprotocol that a page of an origin gets."""
    with RawSocket(port) as raw:
        headers = [("Host", f"localhost:{port}"), ("Origin", origin), *upgrade("forgesyte.v2", "forgesyte.v1")]
        assert raw.request("/ws/page", headers)[0] == 101
        protocol = raw.headers["Sec-WebSocket-Protocol"]
        assert isinstance(protocol, str)
        return protocol


def test_pages_of_this_kernels_jupyter_server(jupyter: Jupyter, kernel: Kernel) -> None:
    port = kernel.serve()["port"]
    for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST"):
        assert selected(port, f"http://{host}:{jupyter.port}") == "forgesyte.v2"
        for other in (f"http://{host}:{jupyter.port + 1}", f"https://{host}:{jupyter.port}", f"http://{host}"):
            assert selected(port, other) == "forgesyte.v1", other
    kernel.run("server.close()")


INFO = {"port": 8888, "hostname": "localhost", "secure": False, "pid": 77, "token": "x", "base_url": "/"}
HERE = {f"http://{host}:8888" for host in ("localhost", "127.0.0.1", "[::1]")}


@pytest.mark.parametrize(
    ("change", "mode", "origins"),
    [
        ({}, 0o600, HERE),
        ({"hostname": "Lab"}, 0o600, HERE | {"http://lab:8888"}),
        ({"secure": True}, 0o600, {origin.replace("http", "https") for origin in HERE}),
        ({"secure": True, "port": 443}, 0o600, {"https://localhost", "https://127.0.0.1", "https://[::1]"}),
        ({"port": "no number"}, 0o600, set()),
        ({}, 0o644, set()),
        ({}, 0o660, set()),
    ],
)
def test_the_file_of_the_jupyter_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], mode: int, origins: set[str]
) -> None:
    monkeypatch.setattr(pages, "own_connection_file", lambda: tmp_path / "kernel-1.json")
    path = tmp_path / "jpserver-77.json"
    path.write_text(json.dumps({**INFO, **change}))
    path.chmod(mode)
    monkeypatch.setenv("JPY_PARENT_PID", "77")
    assert pages.jupyter_origins() == origins


def test_without_a_jupyter_server_there_are_no_such_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pages.jupyter_origins() == set(), "this process is no kernel"
    monkeypatch.setattr(pages, "own_connection_file", lambda: tmp_path / "kernel-1.json")
    for pid in ("", "no number", "77", "../77", str(os.getpid())):
        monkeypatch.setenv("JPY_PARENT_PID", pid)
        assert pages.jupyter_origins() == set()
    (tmp_path / "jpserver-77.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "elsewhere.json").write_text(json.dumps(INFO))
    monkeypatch.setenv("JPY_PARENT_PID", "77")
    assert pages.jupyter_origins() == set()
