"""`setup` that takes long or never ends: it has its own limit, and holds up neither the end nor the frames."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from forgesyte_nb.errors import PluginDefinitionError, ProcessingTimeout
from tests.conftest import PATIENCE_S
from tests.engines.conftest import Open

HANGS_IN_C = """
import asyncio, threading
from forgesyte_nb.engines.choose import make_engine
from forgesyte_nb.plugins.registry import registry
from forgesyte_nb.settings import Settings
import forgesyte_nb as fs

setting_up = threading.Event()

@fs.plugin(engine="threads")
class hangs:
    def setup(self, ctx):
        setting_up.set()
        lock = threading.Lock(); lock.acquire(); lock.acquire()
    def process(self, frame): return {}

async def main():
    engine = make_engine("threads", Settings(workers=1), None)
    engine.start()
    trial = asyncio.create_task(engine.trial(registry().entry("hangs")))
    while not setting_up.is_set():
        await asyncio.sleep(0.01)
    trial.cancel()
    await engine.close()
    print("closed")

asyncio.run(main())
print("ended")
"""


def test_a_setup_that_never_returns_does_not_hold_up_the_end_of_the_interpreter() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS_IN_C], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["closed", "ended"]), ended.stderr


LOOPS = """
import time
@fs.plugin
class loops:
    def setup(self, ctx):
        try:
            began.append(1)
            while True: time.sleep(0.001)
        finally:
            began.append(2)
    def process(self, frame): return {}
"""


async def test_a_trial_in_a_thread_that_nobody_waits_for_any_more_is_stopped(open_bench: Open) -> None:
    bench, began = open_bench("threads"), []
    bench.cell(LOOPS, began=began)
    trial = asyncio.create_task(bench.engine.trial(bench.registry.entry("loops")))
    await bench.until(lambda: began == [1], "the setup")
    trial.cancel()
    await bench.until(lambda: began == [1, 2], "its end")


async def test_inline_a_trial_has_the_limit_of_setup(open_bench: Open) -> None:
    bench, began = open_bench("inline", setup_timeout_s=0.2), []
    bench.cell(LOOPS, began=began)
    with pytest.raises(PluginDefinitionError, match=r"^loops could not be set up within 0\.2 s"):
        await bench.engine.trial(bench.registry.entry("loops"))
    error = await bench.error(bench.submit("loops"))
    assert type(error) is ProcessingTimeout
    assert "could not be set up within 0.2 s" in str(error)
    assert began == [1, 2, 1, 2]


async def test_inline_setup_does_not_count_against_the_limit_of_a_frame(open_bench: Open) -> None:
    bench: Any = open_bench("inline", setup_timeout_s=30)
    bench.cell(
        "import time\n@fs.plugin(timeout_s=0.3)\nclass heavy:\n"
        "    def setup(self, ctx):\n"
        "        end = time.monotonic() + 0.6\n"
        "        while time.monotonic() < end: pass\n"
        "    def process(self, frame): return {'went': 'well'}"
    )
    assert await bench.run("heavy") == {"went": "well"}
