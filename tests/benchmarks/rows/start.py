"""From nothing to the first result, each time in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.benchmarks import pictures
from tests.benchmarks.bench import Bench
from tests.benchmarks.child import ROOT
from tests.benchmarks.load import Wrong
from tests.benchmarks.table import BASE, Row, Scale, median_row

_RUNS = 7
_TIMEOUT_S = 60.0


def import_and_serve(bench: Bench, scale: Scale) -> list[Row]:
    """`import forgesyte_nb`, and then the first `serve()`, which loads what the server needs."""
    runs = [_fresh_process(scale.area) for _ in range(2 if bench.quick else _RUNS)]
    return [
        median_row(
            what,
            [run[key] for run in runs],
            unit="s",
            target=target,
            at_least=False,
            detail=f"median of {len(runs)} fresh processes",
        )
        for what, key, target in (
            ("`import forgesyte_nb`", "import_s", 0.3),
            ("`serve()`, processes", "serve_s", 0.5),
        )
    ]


def first_result(bench: Bench, scale: Scale) -> list[Row]:
    """Interpreter, import, a plugin, `serve()`, a connection, one frame, its result."""
    runs = [_fresh_process(scale.area) for _ in range(2 if bench.quick or scale != BASE else _RUNS)]
    return [
        median_row(
            "first result of a fresh server",
            [run["first_result_s"] for run in runs],
            unit="s",
            target=2.0,
            at_least=False,
            detail="from the start of the interpreter; processes engine",
            scale=scale,
        )
    ]


def _fresh_process(area: int) -> dict[str, float]:
    image = pictures.stills(area)[0]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fresh"],
        input=image,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"a fresh process ended with exit code {done.returncode}")
    said: dict[str, float] = json.loads(done.stdout)
    return {**said, "first_result_s": said["done_at"] - began}
