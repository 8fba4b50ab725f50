"""A kernel that is asked to end closes its server first, while the worker processes are still there.

ipykernel answers a shutdown or restart by ending all processes of the kernel, workers with the frames they are at, and
only then lets the interpreter end, with which a server closes by itself. So the server is closed before that. Jupyter
does not wait longer than half of `KernelManager.shutdown_wait_time`, 2.5 s, for a kernel: frames get less than that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any

from forgesyte_nb.server.server import Server

DRAIN_S = 1.0
"""Time that frames in flight get when the kernel ends, if `drain_timeout_s` is not less."""

_log = logging.getLogger(__name__)


def close_with_kernel(server: Server) -> Callable[[], None] | None:
    """Close a server when the kernel of this process is asked to end; returns what undoes that. None without kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel: Any = getattr(shell, "kernel", None)
    if kernel is None or not hasattr(kernel, "do_shutdown"):
        return None
    before = kernel.do_shutdown

    async def do_shutdown(restart: bool) -> Any:
        try:
            await asyncio.to_thread(server.close, drain_timeout_s=min(DRAIN_S, server.settings.drain_timeout_s))
        except Exception:  # noqa: BLE001 -- whatever it is, it is no reason for a kernel not to end
            _log.exception("the server could not be closed in good order; the kernel ends all the same")
        answer = before(restart)
        return await answer if inspect.isawaitable(answer) else answer

    def undo() -> None:
        if kernel.do_shutdown is do_shutdown:
            kernel.do_shutdown = before

    kernel.do_shutdown = do_shutdown
    return undo
