"""The kernel's file by itself: what is believed, and that it is written only where somebody will look for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.jupyter import kernel_file
from forgesyte_nb.jupyter.kernel_file import NotPublished, Untrusted, path_beside, publish, read
from tests.jupyter.conftest import ROOT

KERNEL_ID = "12345678-aaaa-bbbb-cccc-123456789012"
SAID: dict[str, Any] = {
    "server_id": "5e4d",
    "address": "127.0.0.1",
    "port": 8000,
    "pid": os.getpid(),
    "secret": "hush",
    "node": os.uname().nodename,
    "version": "0.1.0",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return path_beside(tmp_path / f"kernel-{KERNEL_ID}.json", KERNEL_ID)


@pytest.fixture
def write(path: Path) -> Callable[..., Path]:
    """Writes the file as a kernel does, with changes."""

    def written(**changes: Any) -> Path:
        path.write_text(json.dumps({**SAID, **changes}))
        path.chmod(0o600)
        return path

    return written


def test_a_file_as_it_should_be(write: Callable[..., Path]) -> None:
    said = read(write(), os.getpid())
    assert (said.server_id, said.address, said.port, said.secret) == ("5e4d", "127.0.0.1", 8000, "hush")
    assert "hush" not in repr(said)


def test_no_file(path: Path) -> None:
    with pytest.raises(NotPublished):
        read(path, os.getpid())


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666, 0o700 | 0o010])
def test_a_file_that_others_may_open(write: Callable[..., Path], mode: int) -> None:
    path = write()
    path.chmod(mode)
    with pytest.raises(Untrusted, match="mode"):
        read(path, os.getpid())


def test_a_file_of_somebody_elses(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    us = os.getuid()
    monkeypatch.setattr(kernel_file.os, "getuid", lambda: us + 1)
    with pytest.raises(Untrusted, match="belongs to user"):
        read(path, os.getpid())


def test_a_link(write: Callable[..., Path], path: Path) -> None:
    target = write().rename(path.with_name("elsewhere.json"))
    path.symlink_to(target)
    with pytest.raises(Untrusted, match="plain file"):
        read(path, os.getpid())


def test_a_pipe_does_not_hold_up_the_reader(path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(Untrusted, match="no regular file"):
        read(path, os.getpid())


def test_a_folder(path: Path) -> None:
    path.mkdir(mode=0o700)
    with pytest.raises(Untrusted, match="no regular file"):
        read(path, os.getpid())


def test_of_another_process(write: Callable[..., Path]) -> None:
    with pytest.raises(Untrusted, match="the kernel is process"):
        read(write(pid=os.getppid()), os.getpid())
    with pytest.raises(Untrusted):
        read(write(), None)


def test_of_a_process_that_the_kernels_command_started(write: Callable[..., Path]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert read(write(pid=child.pid), os.getpid()).pid == child.pid
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "192.0.2.1"},
        {"address": "localhost"},
        {"port": 0},
        {"port": 65536},
        {"port": "8000"},
        {"pid": -1},
        {"secret": "a\r\nX-More: b"},
        {"server_id": "<script>"},
        {"version": None},
    ],
    ids=str,
)
def test_a_file_that_says_something_else(write: Callable[..., Path], changes: dict[str, Any]) -> None:
    with pytest.raises(Untrusted, match="does not say"):
        read(write(**changes), os.getpid())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[]", b" " * 20_000], ids=["empty", "cut", "no text", "list", "long"]
)
def test_a_file_that_says_nothing(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(Untrusted):
        read(path, os.getpid())


def test_nothing_is_published_outside_a_kernel() -> None:
    assert publish(server_id="5e4d", port=8000) is None


def test_nothing_is_published_under_nbclient(tmp_path: Path) -> None:
    notebook = tmp_path / "some.ipynb"
    code = (
        "import forgesyte_nb as fs\nserver = fs.serve(port=0, engine='inline')\nprint(server.running)\nserver.close()"
    )
    cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": code}
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "PYTHONPATH": str(ROOT)}
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", str(notebook)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cells"][0]["outputs"][0]["text"] == ["True\n"]
    assert not list(tmp_path.rglob("forgesyte_nb-*"))
