"""A real Jupyter kernel of this Python, as a notebook has it: cells go in, what they print comes out.

`DemoKernel` is used in an `async with` and never outlives it: whatever happens inside, the kernel process is shut
down, by force if need be, and its folder is removed. A kernel that dies ends every cell that waits with `DemoError`.
It runs in a folder of its own, so that neither plugins nor start-up files of the user get into the demo.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from forgesyte_nb.demo import DemoError

START_TIMEOUT_S = 60.0
CELL_TIMEOUT_S = 60.0
_POLL_S = 0.2

SPIN = """\
import json, time
spins, began, deadline = 0, time.time(), time.monotonic() + {longest_s}
try:
    print("spinning", flush=True)  # inside: the interrupt may come as soon as this is seen
    while time.monotonic() < deadline:
        for _ in range(100_000):
            spins += 1
except KeyboardInterrupt:
    pass
print(json.dumps({{"spins": spins, "began": began, "ended": time.time()}}))
"""
"""A cell that keeps the kernel busy in pure Python until it is interrupted, then says from when to when (seconds since
the epoch) and how far it counted."""


class Cell:
    """A cell that was sent to the kernel.

    Attributes:
        text: What it has printed so far.
        printed: Set once it has printed anything.
        ended: Its printed text when it is done, or the error that ended it.
    """

    def __init__(self) -> None:
        """A cell that has not begun."""
        self.text = ""
        self.printed = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda future: future.cancelled() or future.exception())  # seen, even if unasked

    def fail(self, reason: str, *, in_cell: bool = True) -> None:
        """It ended with an error, unless it has ended already."""
        if not self.ended.done():
            self.ended.set_exception(DemoError(f"a cell failed in the kernel: {reason}" if in_cell else reason))


class DemoKernel:
    """A kernel process and the channels to it."""

    def __init__(self) -> None:
        """Made stopped; `async with` starts it."""
        self._folder = tempfile.TemporaryDirectory(prefix="forgesyte-demo-", ignore_cleanup_errors=True)
        self._manager: Any = None
        self._client: Any = None
        self._cells: dict[str, Cell] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._start()
        except BaseException as error:
            last_words = self._last_words()
            await self.close()
            if isinstance(error, (RuntimeError, OSError, TimeoutError)):
                raise DemoError(
                    f"the Jupyter kernel did not start: {error or 'it did not answer in time'}. Try "
                    f"`{sys.executable} -m ipykernel_launcher`.{last_words}"
                ) from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self) -> None:
        try:
            from jupyter_client.kernelspec import KernelSpecManager
            from jupyter_client.manager import AsyncKernelManager
        except ImportError as error:
            raise DemoError(f"{error}: run `pip install jupyter-client ipykernel`") from error
        folder = Path(self._folder.name)
        # No folder of kernel specs: "python3" is then ipykernel of this very Python, whatever the user has installed.
        self._manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(folder / "kernel.json"),
        )
        left_out = ("FORGESYTE_NB_PLUGINS", "PYTHONSTARTUP")
        env = {name: value for name, value in os.environ.items() if name not in left_out}
        env["IPYTHONDIR"] = str(folder / "ipython")
        with (folder / "kernel.log").open("wb") as log:
            await self._manager.start_kernel(cwd=str(folder), env=env, stdout=log, stderr=log)
        self._client = self._manager.client()
        self._client.start_channels()
        await self._client.wait_for_ready(timeout=START_TIMEOUT_S)
        for work in (self._read_outputs(), self._read_replies(), self._watch()):
            self._tasks.append(asyncio.create_task(work))

    @property
    def pid(self) -> int:
        """Process id of the kernel."""
        return int(self._manager.provisioner.pid)

    def begin(self, code: str) -> Cell:
        """Send a cell, without waiting for it."""
        cell = Cell()
        self._cells[self._client.execute(code, store_history=False, allow_stdin=False, stop_on_error=False)] = cell
        return cell

    async def run(self, code: str) -> str:
        """Run a cell; what it printed.

        Raises:
            DemoError: If it raised, took too long, or the kernel died.
        """
        return await self.result(self.begin(code))

    async def result(self, cell: Cell) -> str:
        """Wait for a cell; what it printed.

        Raises:
            DemoError: If it raised, took too long, or the kernel died.
        """
        try:
            async with asyncio.timeout(CELL_TIMEOUT_S):
                return await asyncio.shield(cell.ended)
        except TimeoutError:
            raise DemoError(f"the kernel did not finish a cell within {CELL_TIMEOUT_S:g} s") from None

    async def spin(self, longest_s: float) -> Cell:
        """Begin the cell that keeps the kernel busy; it is running when this returns.

        Raises:
            DemoError: If it does not begin.
        """
        cell = self.begin(SPIN.format(longest_s=longest_s))
        waiting = asyncio.create_task(cell.printed.wait())
        first: set[asyncio.Future[Any]] = {waiting, cell.ended}
        await asyncio.wait(first, timeout=CELL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not cell.printed.is_set():
            raise DemoError(f"the long cell did not begin{self._last_words()}")
        return cell

    async def interrupt(self) -> None:
        """What a notebook's stop button does."""
        await self._manager.interrupt_kernel()

    async def close(self) -> None:
        """Shut the kernel down, by force if it does not go; twice is once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        client, self._client = self._client, None
        manager, self._manager = self._manager, None
        if client is not None:
            client.stop_channels()
        if manager is not None and manager.has_kernel:
            await manager.shutdown_kernel(now=False)
        self._folder.cleanup()

    # What the kernel says

    async def _read_outputs(self) -> None:
        while True:
            message = await self._client.get_iopub_msg()
            cell = self._cells.get(message["parent_header"].get("msg_id", ""))
            kind, content = message["msg_type"], message["content"]
            if cell is None or cell.ended.done():
                continue
            if kind == "stream" and content["name"] == "stdout":
                cell.text += content["text"]
                cell.printed.set()
            elif kind == "error":
                cell.fail(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                cell.ended.set_result(cell.text)  # all it printed has come before this

    async def _read_replies(self) -> None:
        while True:
            message = await self._client.get_shell_msg()
            cell = self._cells.get(message["parent_header"].get("msg_id", ""))
            content = message["content"]
            if cell is not None and content.get("status") != "ok":
                cell.fail(f"{content.get('ename', 'aborted')}: {content.get('evalue', '')}")

    async def _watch(self) -> None:
        while await self._manager.is_alive():
            await asyncio.sleep(_POLL_S)
        for cell in self._cells.values():
            cell.fail(f"the kernel died{self._last_words()}", in_cell=False)

    def _last_words(self) -> str:
        log = Path(self._folder.name) / "kernel.log"
        said = log.read_text(errors="replace").strip()[-1000:] if log.exists() else ""
        return f"\nIts last words:\n{said}" if said else ""
