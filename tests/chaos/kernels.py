"""A real Jupyter kernel with a server in it, restarted, interrupted and killed as its user's tools do it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Self

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.chaos.apart import workers_of
from tests.conftest import PATIENCE_S, wait_for


class Kernel:
    """A kernel on the machine.

    Attributes:
        port: Of its server; the same after a restart.
    """

    def __init__(self, folder: Path, cell: str) -> None:
        """Start it, and a server in it.

        Args:
            folder: Where it is at home.
            cell: What is run before the server is started, now and after each restart.
        """
        self.port = 0
        self._cell = cell
        places = {name: str(folder) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
        self._manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
        self._manager.start_kernel(env={**os.environ, **places, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}, cwd=folder)
        self._client: BlockingKernelClient = self._manager.blocking_client()
        self._client.start_channels()
        self.serve()

    def serve(self) -> None:
        """Run the cell, and start the server on its port."""
        self._client.wait_for_ready(timeout=PATIENCE_S)
        self.run(self._cell)
        self.port = int(self.run(f"import forgesyte_nb as fs\nprint(fs.serve(port={self.port}).port)"))

    @property
    def pid(self) -> int:
        """Its process; it leads a process group of its own."""
        provisioner: Any = self._manager.provisioner
        pid: int = provisioner.pid
        return pid

    @property
    def family(self) -> list[psutil.Process]:
        """Its process and all that it has started."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    @property
    def workers(self) -> list[int]:
        """Its worker processes, the spare included."""
        return workers_of(self.pid)

    def run(self, code: str) -> str:
        """Run a cell; what it printed.

        Raises:
            RuntimeError: With the traceback, if the cell fails.
        """
        said: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                said.append(message["content"]["text"])

        reply = self._client.execute_interactive(code, timeout=PATIENCE_S, output_hook=hear)["content"]
        if reply["status"] != "ok":
            raise RuntimeError("\n".join(reply["traceback"]))
        return "".join(said)

    def start(self, code: str) -> None:
        """Begin to run a cell."""
        self._client.execute(code, stop_on_error=False)  # else the cell after its end may be aborted

    def interrupt(self) -> None:
        """As the stop button does it, to the whole process group; returns when the cell has ended with it."""
        self._manager.interrupt_kernel()
        reply = self._client.get_shell_msg(timeout=PATIENCE_S)["content"]
        assert reply.get("ename") == "KeyboardInterrupt", reply

    def restart(self, *, by_force: bool) -> None:
        """As the restart button does it; by force, as when the kernel does not answer. Nothing is served then."""
        self._manager.restart_kernel(now=by_force)

    def kill(self) -> None:
        """As the system does for want of memory."""
        process = psutil.Process(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "the kernel to end")

    def close(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.context.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
