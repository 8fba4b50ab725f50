"""A kernel that is asked to end closes its server first, and ends whatever comes of that."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from forgesyte_nb.jupyter.kernel_end import close_with_kernel


@pytest.mark.parametrize("fault", [None, RuntimeError("on purpose")])
async def test_the_kernel_ends_after_its_server_however_that_ends(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    done: list[str] = []

    async def do_shutdown(restart: bool) -> dict[str, Any]:
        done.append("kernel")
        return {"status": "ok", "restart": restart}

    def close(*, drain_timeout_s: float) -> None:
        done.append("server")
        if fault is not None:
            raise fault

    kernel = SimpleNamespace(do_shutdown=do_shutdown)
    shell = SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    server: Any = SimpleNamespace(close=close, settings=SimpleNamespace(drain_timeout_s=5.0))
    undo = close_with_kernel(server)
    assert await kernel.do_shutdown(True) == {"status": "ok", "restart": True}
    assert done == ["server", "kernel"]
    assert undo is not None
    undo()
    assert kernel.do_shutdown is do_shutdown
