"""A real Jupyter Server in a process of its own, with folders of its own, and kernels started through its REST API."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.conftest import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef"  # noqa: S105 -- of a server that lives as long as a test
SERVE = "import forgesyte_nb as fs; server = fs.serve(port=0, engine='inline', log={log!r}{more})"

AUTHORIZER = """
from jupyter_server.auth import Authorizer


class AsTheRequestSays(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return handler.request.headers.get("X-May-Not") != f"{action} {resource}"


c.ServerApp.authorizer_class = AsTheRequestSays
"""


class Kernel:
    """A kernel of the Jupyter Server; cells go to it directly."""

    def __init__(self, jupyter: Jupyter, session: dict[str, Any]) -> None:
        self.jupyter = jupyter
        self.session_id = session["id"]
        self.id: str = session["kernel"]["id"]
        self.connection_file = jupyter.runtime / f"kernel-{self.id}.json"
        self.file = jupyter.runtime / f"forgesyte_nb-{self.id}.json"
        self._client: BlockingKernelClient | None = None
        self._connect()

    @property
    def way(self) -> str:
        """Its path in the relay, under the base URL."""
        return f"/forgesyte_nb/{self.id}"

    @property
    def ws(self) -> str:
        """Its WebSocket in the relay."""
        return f"ws://{self.jupyter.base}{self.way}/ws/tester"

    def _connect(self) -> None:
        self._client = BlockingKernelClient(connection_file=str(self.connection_file))
        self._client.load_connection_file()
        self._client.start_channels(hb=False)  # by the heartbeat, a kernel that starts slowly is dead after a second
        self._client.wait_for_ready(timeout=PATIENCE_S)

    def run(self, code: str) -> str:
        """Run a cell; what it printed."""
        said: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                said.append(message["content"]["text"])

        assert self._client is not None
        reply = self._client.execute_interactive(code, output_hook=hear, timeout=PATIENCE_S)
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
        return "".join(said)

    def serve(self, more: str = "") -> dict[str, Any]:
        """Start a server there; what its file says."""
        self.run(SERVE.format(log=str(self.jupyter.folder / "server.log"), more=more))
        told: dict[str, Any] = json.loads(self.file.read_text())
        return told

    def restart(self) -> None:
        """As the notebook's button does."""
        self._stop_client()
        status, _, _ = self.jupyter.request(f"/api/kernels/{self.id}/restart", method="POST")
        assert status == 200
        self._connect()

    def _stop_client(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client.context.destroy()
            self._client = None

    def end(self) -> None:
        """Shut it down as closing its notebook does."""
        self._stop_client()
        self.jupyter.request(f"/api/sessions/{self.session_id}", method="DELETE")


class Jupyter:
    """The Jupyter Server's process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "runtime"
        self.kernels: list[Kernel] = []
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY"))}
        environment |= {
            "HOME": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "JUPYTER_CONFIG_PATH": str(ROOT / "forgesyte_nb" / "jupyter"),  # the file that the wheel installs
            "PYTHONPATH": str(ROOT),
        }
        (folder / "notebooks").mkdir()
        (folder / "config").mkdir()
        (folder / "config" / "jupyter_server_config.py").write_text(AUTHORIZER)
        self._log = (folder / "jupyter.log").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
                f"--ServerApp.root_dir={folder / 'notebooks'}",
                f"--IdentityProvider.token={TOKEN}",
                "--ServerApp.base_url=/user/someone/",
            ],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.info_file = self.runtime / f"jpserver-{self.process.pid}.json"

    def wait_until_ready(self) -> None:
        """Wait until it answers; on a busy machine its imports alone take half a minute."""
        wait_for(lambda: self.process.poll() is not None or self._ready(), "it to listen")
        assert self.process.poll() is None, self.log()

    def _ready(self) -> bool:
        match = re.search(r"http://127\.0\.0\.1:(\d+)/user/someone/", self.log())
        if match is None:
            return False
        self.port = int(match[1])
        try:
            return self.request("/api/status")[0] == 200
        except ConnectionRefusedError:
            return False

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "jupyter.log").read_text(errors="replace")

    @property
    def base(self) -> str:
        """Where it is, without a scheme."""
        return f"127.0.0.1:{self.port}/user/someone"

    def request(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """Status, headers and body (parsed if it is JSON) under the base URL; by default with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = {"Authorization": f"token {TOKEN}"} if headers is None else headers
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/user/someone{path}", body=text, headers=sent)
            answer = connection.getresponse()
            said = answer.read()
            kind = answer.headers.get("Content-Type") or ""
            return answer.status, answer.headers, json.loads(said) if said and "json" in kind else said
        finally:
            connection.close()

    def cookie(self) -> str:
        """What a browser presents once it has logged in with the token."""
        _, headers, _ = self.request(f"/?token={TOKEN}", headers={})
        cookies = [line.partition(";")[0] for line in headers.get_all("Set-Cookie") or []]
        assert cookies, self.log()
        return "; ".join(cookies)

    def start_kernel(self, notebook: str = "street.ipynb") -> Kernel:
        """A fresh kernel, as for a notebook."""
        wanted = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
        status, _, session = self.request("/api/sessions", method="POST", body=wanted)
        assert status == 201, session
        kernel = Kernel(self, session)
        self.kernels.append(kernel)
        return kernel

    def close(self) -> None:
        """End it and its kernels; nothing is left."""
        for kernel in self.kernels:
            kernel.end()
        left = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self._log.close()
        _, alive = psutil.wait_procs(left, timeout=PATIENCE_S)
        assert not alive, f"left behind: {alive}"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A Jupyter Server under `/user/someone/`, with a token."""
    server = Jupyter(tmp_path_factory.mktemp("jupyter"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def kernel(jupyter: Jupyter) -> Kernel:
    """A kernel that the tests of a module share."""
    return jupyter.start_kernel()
