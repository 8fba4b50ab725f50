"""Memory of a notebook whose plugin cell runs again and again: models of old revisions do not stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RERUNS = """
import json, sys
import numpy as np, psutil
import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import registering_in, registry

CELL = '''
import numpy as np

@fs.plugin
class model:
    def setup(self, ctx):
        self.weights = np.ones(20 * 1024 * 1024 // 8)  # 20 MiB
        self.itself = self  # a reference cycle, as models often have
    def process(self, frame):
        return {"version": VERSION, "sum": float(self.weights[:2].sum())}
'''

def resident_mib():
    process = psutil.Process()
    return sum(one.memory_info().rss for one in [process, *process.children()]) / 1024 / 1024

server = fs.Server(port=0, settings=fs.Settings(engine=sys.argv[1], workers=2), log=sys.argv[2])
picture = np.zeros((8, 8, 3), np.uint8)
used = []
with fs.BlockingClient(server.url) as client:
    for version in range(41):
        code = compile(CELL.replace("VERSION", str(version)), f"<cell {version}>", "exec")
        exec(code, {"__name__": "__main__", "fs": fs})
        for _ in range(3):
            assert client.analyze(picture, "model").result["version"] == version
        used.append(resident_mib())
server.close()
print(json.dumps([used[1], max(used[2:])]))
"""


@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
def test_forty_reruns_of_a_cell_with_a_model_take_the_memory_of_a_few(engine: str, tmp_path: Path) -> None:
    """A model has 20 MiB and there are two lanes: 800 to 1600 MiB if they stayed."""
    ran = subprocess.run(
        [sys.executable, "-c", RERUNS, engine, str(tmp_path / "server.log")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    after_two, most = map(float, ran.stdout.strip("[]\n ").split(","))
    assert most < after_two + 120, f"{after_two:.0f} MiB after the second run, {most:.0f} MiB at most afterwards"
