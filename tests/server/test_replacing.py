"""`serve()` with other arguments: the old server is closed when the new one stands, and runs on if it cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import loop
from forgesyte_nb.server.async_server import AsyncServer
from tests.conftest import get, run_cell, wait_for
from tests.server.conftest import RawSocket, log_of

URL = "FORGESYTE_NB_URL"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    fs.serve(port=0, engine="inline").close()


def test_a_server_that_cannot_start_leaves_the_old_one_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes
) -> None:
    first = fs.serve(port=0, engine="inline", log=tmp_path / "log")
    (tmp_path / "file").touch()
    engine = AsyncServer.engine

    def out_of_memory(self: AsyncServer, name: str) -> Any:
        if name == "threads":
            raise OSError(12, "Cannot allocate memory")
        return engine(self, name)

    monkeypatch.setattr(AsyncServer, "engine", out_of_memory)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for arguments, error in (
            ({"log": tmp_path / "file" / "log"}, fs.ServerError),
            ({"engine": "threads"}, OSError),
            ({"port": taken}, fs.ServerError),
            ({"host": "lab.invalid", "port": first.port, "token": "secret"}, fs.ServerError),
            ({"host": "127.0.0.1", "port": first.port, "engine": "threads"}, OSError),
            ({"plugins": [tmp_path / "missing"]}, fs.PluginDefinitionError),
        ):
            with fs.BlockingClient(first) as client:
                with pytest.raises(error):
                    fs.serve(**{"port": 0, "engine": "inline", **arguments})
                assert client.connected, "its connections stayed"
                assert client.analyze(tiny, "image_stats").ok
            assert first.running
            assert os.environ[URL] == first.url
            assert get(first, "/healthz")[0] == 200, arguments
    assert fs.serve() is first


def test_an_address_that_includes_the_old_one_on_the_same_port(tmp_path: Path, tiny: bytes) -> None:
    first = fs.serve(host="127.0.0.1", port=0, engine="inline", log=tmp_path / "log")
    second = fs.serve(host="localhost", port=first.port, engine="inline", log=tmp_path / "log")
    assert not first.running
    assert second.port == first.port
    with fs.BlockingClient(second) as client:
        assert client.analyze(tiny, "image_stats").ok


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="two addresses of loopback are needed")
def test_another_address_on_the_same_port_that_is_taken_there(tmp_path: Path, tiny: bytes) -> None:
    first = fs.serve(host="127.0.0.1", port=0, engine="inline", log=tmp_path / "log")
    with socket.create_server(("::1", first.port), family=socket.AF_INET6):
        with pytest.raises(fs.ServerError, match="cannot listen on localhost"):
            fs.serve(host="localhost", port=first.port, engine="inline")
        assert first.running
        with fs.BlockingClient(first) as client:
            assert client.analyze(tiny, "image_stats").ok, "it listens again"


def test_who_connects_meanwhile_waits_and_is_not_refused(tmp_path: Path) -> None:
    first = fs.serve(port=0, engine="inline", log=tmp_path / "log")
    refused: list[OSError] = []
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            try:
                with RawSocket(first.port):
                    pass
            except ConnectionRefusedError as error:
                refused.append(error)
            except OSError:  # the machine has no port left for the next one
                stop.wait(0.01)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        for number in range(5):
            fs.serve(port=0, engine="inline", log=tmp_path / "log", settings=fs.Settings(job_history=number))
    finally:
        stop.set()
        thread.join()
    assert refused == []


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="two addresses of loopback are needed")
def test_a_server_that_cannot_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes
) -> None:
    first = fs.serve(host="127.0.0.1", port=0, workers=1, log=tmp_path / "log")

    def fail() -> Any:
        raise OSError(24, "Too many open files")

    def left() -> tuple[int, int, int]:
        me = psutil.Process()
        return len(me.children(recursive=True)), threading.active_count(), me.num_fds()

    with socket.create_server(("::1", first.port), family=socket.AF_INET6), fs.BlockingClient(first) as client:
        assert client.analyze(tiny, "image_stats").ok
        before = left()
        for _ in range(2):
            with pytest.raises(fs.ServerError, match="cannot listen on localhost"):  # its workers run by then
                fs.serve(host="localhost", port=first.port, workers=1, log=tmp_path / "other")
        with monkeypatch.context() as patched:
            patched.setattr(loop, "loop_runner", fail)
            with pytest.raises(OSError, match="Too many open files"):
                fs.serve(host="localhost", port=0, engine="inline", log=tmp_path / "other")
        assert os.environ[URL] == first.url
        wait_for(lambda: all(now <= then for now, then in zip(left(), before, strict=True)), "all of it to end")


WHERE = """
@fs.plugin
def where(frame):
    import os
    return {"url": os.environ.get("FORGESYTE_NB_URL")}
"""


def test_workers_and_child_processes_know_the_url(tmp_path: Path, tiny: bytes) -> None:
    registry = Registry()
    run_cell(WHERE, registry)
    plugin = registry.entry("where").plugin
    for port in (0, 0):
        server = fs.serve(port=port, workers=1, log=tmp_path / "log", settings=fs.Settings(job_history=port))
        server.registry.register(plugin)
        with fs.BlockingClient(server) as client:
            assert client.analyze(tiny, "where").result == {"url": server.url}
        code = "import os; print(os.environ['FORGESYTE_NB_URL'])"
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == server.url
        server.close()
        server.registry.unregister("where")
        assert URL not in os.environ


SERVES = """
import forgesyte_nb as fs

@fs.plugin
def {name}(frame):
    return {{}}

fs.serve()
"""


def test_a_plugin_file_that_calls_serve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "early.py").write_text(SERVES.format(name="early"))
    server = fs.serve(port=0, engine="inline", log=tmp_path / "log")
    (tmp_path / "plugins" / "late.py").write_text(SERVES.format(name="late"))
    wait_for(lambda: "late.py" in server.failures, "the file to be found")
    for name in ("early.py", "late.py"):
        assert f"{name} calls serve() while it is loaded: move that under" in server.failures[name]
    assert fs.serve() is server


def test_a_plugin_folder_made_after_the_first_serve_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import forgesyte_nb as fs\n\n@fs.plugin\ndef {name}(frame):\n    return {{}}\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGESYTE_NB_PLUGINS", str(tmp_path / "named"))
    server = fs.serve(port=0, engine="inline", log=tmp_path / "log")

    def names() -> set[str]:
        return {plugin.name for plugin in server.plugins}

    try:
        assert "no such folder" in server.failures[str(tmp_path / "named")]
        for folder in ("plugins", "named"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / f"late_{folder}.py").write_text(text.format(name=f"late_{folder}"))
            wait_for(lambda folder=folder: f"late_{folder}" in names(), "the plugin")
        assert str(tmp_path / "named") not in server.failures
        (tmp_path / "elsewhere" / "plugins").mkdir(parents=True)
        (tmp_path / "elsewhere" / "plugins" / "of_cwd.py").write_text(text.format(name="of_cwd"))
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert fs.serve() is server
        assert {"of_cwd", "late_plugins", "late_named"} <= names(), "at once, where the caller is now"
        assert "plugin=of_cwd" in log_of(server)
    finally:
        for name in names() & {"of_cwd", "late_plugins", "late_named"}:
            server.registry.unregister(name)
