"""A JupyterLab process of its own: nothing of the user's settings, kernels or notebooks, and nothing left at its end.

Everything Jupyter keeps lies in one folder. Kernels run this very Python and import the package under test, wherever
that lies (a checkout, a worktree, site-packages); older ipykernels come from the folders that `make setup` filled.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import psutil

import forgesyte_nb
from tests.conftest import PATIENCE_S

KERNELS = Path(sys.prefix) / "kernels"  # `make setup` installs older ipykernels there, a folder each

# It ends when its standard input does, so also with tests that are killed before they can end it.
LAUNCHER = """
import os, signal, sys, threading
from jupyterlab.labapp import main

def end_with_the_tests():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_the_tests, daemon=True).start()
sys.exit(main())
"""
SERVER_CONFIG = {
    "ServerApp": {
        "allow_root": True,
        "jpserver_extensions": {"forgesyte_nb": True},  # a wheel's own setting lies where a checkout has none
        "open_browser": False,
        "port": 0,
    },
    "LabApp": {"expose_app_in_browser": True, "extension_manager": "readonly"},
}
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


class JupyterLab:
    """One `jupyter lab`, started in `folder` and ended by `close()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self._token = secrets.token_hex(16)
        self._environment = self._lay_out()
        self._log = (folder / "jupyter.log").open("wb")
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(self.notebooks)],
            cwd=self.notebooks,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what tests send to their own process group does not reach it
        )
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.close()
            raise

    def _lay_out(self) -> dict[str, str]:
        """Write the settings and kernel specs; the environment that names them."""
        names = ("home", "config", "settings", "workspaces", "runtime", "share", "ipython", "matplotlib")
        folders = {name: self.folder / name for name in names}
        for path in (*folders.values(), self.notebooks):
            path.mkdir()
        folders["runtime"].chmod(0o700)
        (folders["config"] / "jupyter_server_config.json").write_text(json.dumps(SERVER_CONFIG))
        overrides = folders["config"] / "labconfig" / "default_setting_overrides.json"
        overrides.parent.mkdir()
        overrides.write_text(json.dumps(LAB_SETTINGS))
        package = str(Path(forgesyte_nb.__file__).parents[1])
        for name, first in kernels().items():
            path = os.pathsep.join([*([str(first)] if first else []), package])
            spec = {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": name,
                "language": "python",
                "env": {"PYTHONPATH": path},
                "metadata": {"debugger": False},
            }
            kernel = folders["share"] / "kernels" / name / "kernel.json"
            kernel.parent.mkdir(parents=True)
            kernel.write_text(json.dumps(spec))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
        return {
            **inherited,
            "HOME": str(folders["home"]),
            "IPYTHONDIR": str(folders["ipython"]),
            "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
            "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
            "JUPYTER_CONFIG_DIR": str(folders["config"]),
            "JUPYTER_DATA_DIR": str(folders["home"]),
            "JUPYTER_PATH": str(folders["share"]),  # looked at before the environment's own kernels
            "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
            "JUPYTER_TOKEN": self._token,
            "MPLCONFIGDIR": str(folders["matplotlib"]),
            "PYTHONPATH": package,
        }

    def _wait_for_url(self) -> str:
        note = self.folder / "runtime" / f"jpserver-{self._process.pid}.json"
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self._process.poll() is None:
            if note.exists():
                try:
                    url = str(json.loads(note.read_text())["url"])
                    self._ask(url + "api/status")
                    return url
                except json.JSONDecodeError:
                    pass  # it is being written just now
                except (urllib.error.URLError, ConnectionError):
                    pass  # it is written shortly before the first answer
            time.sleep(0.05)
        raise AssertionError(f"JupyterLab did not answer within {PATIENCE_S:g} s; its log ends:\n{self._last()}")

    def ensure_running(self) -> None:
        """Start it again if it has ended, saying so: one test fails by that, and not all that come after it."""
        code = self._process.poll()
        if code is not None:
            told = f"JupyterLab has ended with {code} and is started again; its log ends:\n{self._last()}"
            self._start()
            self.url = self._wait_for_url()
            warnings.warn(told, stacklevel=2)

    def _last(self) -> str:
        return (self.folder / "jupyter.log").read_text(errors="replace")[-3000:]

    def _ask(self, url: str, method: str = "GET", body: Any = None) -> Any:
        """The answer of Jupyter's REST interface."""
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, method=method, data=sent)  # noqa: S310
        request.add_header("Authorization", f"token {self._token}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """What `/api/<path>` answers. It blocks, so call it from a thread or between awaits that are not urgent."""
        return self._ask(f"{self.url}api/{path}", method, body)

    def end_kernel(self, notebook: str) -> None:
        """End the kernel of a notebook; it is well if there is none."""
        for session in self.api("sessions"):
            if session["path"] == notebook:
                self.api(f"sessions/{session['id']}", "DELETE")

    def address(self, notebook: str) -> str:
        """Where JupyterLab shows a notebook, in a workspace of its own; with the token, which then becomes a cookie."""
        return f"{self.url}lab/workspaces/{Path(notebook).stem}/tree/{notebook}?token={self._token}"

    def processes(self) -> list[psutil.Process]:
        """JupyterLab, its kernels and their workers, as far as they live."""
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End it and all that it started."""
        started = self.processes()
        assert self._process.stdin is not None
        self._process.stdin.close()
        _, alive = psutil.wait_procs(started, timeout=10)
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass  # it ended by itself just now
        psutil.wait_procs(alive, timeout=10)
        self._process.wait(PATIENCE_S)
        self._log.close()


def kernels() -> dict[str, Path | None]:
    """The kernel specs: name, and the folder that its ipykernel comes from (none: the one of this environment)."""
    found = sorted(path for path in KERNELS.glob("ipykernel-*") if (path / "ipykernel").is_dir())
    return {"python3": None, **{path.name: path for path in found}}
