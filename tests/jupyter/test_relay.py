"""The relay, asked over real sockets through a real Jupyter Server: what passes, and what does not."""

from __future__ import annotations

import forgesyte_nb as fs
from tests.jupyter.conftest import TOKEN, Jupyter, Kernel

PLUGINS = """
@fs.plugin
def mean(frame) -> dict:
    return {"mean": round(float(frame.gray.mean()))}
"""


def test_a_server_is_listed_and_gone_when_closed(jupyter: Jupyter, kernel: Kernel) -> None:
    told = kernel.serve()
    status, _, listed = jupyter.request("/forgesyte_nb/servers")
    assert status == 200
    assert listed["refused"] == []
    assert listed["servers"] == [
        {
            "kernel_id": kernel.id,
            "server_id": told["server_id"],
            "port": told["port"],
            "version": fs.__version__,
            "name": "street.ipynb",
            "path": "street.ipynb",
            "url": f"/user/someone/forgesyte_nb/{kernel.id}/",
        }
    ]
    kernel.run("server.close()")
    assert not kernel.file.exists()
    assert jupyter.request("/forgesyte_nb/servers")[2] == {"servers": [], "refused": []}


async def test_frames_through_the_relay(jupyter: Jupyter, kernel: Kernel, jpeg: bytes) -> None:
    kernel.serve()
    kernel.run(PLUGINS)
    async with fs.Client(f"http://{jupyter.base}/forgesyte_nb/{kernel.id}", token=TOKEN) as client:
        result = await client.analyze(jpeg, "mean")
    assert 0 < result["mean"] < 255
