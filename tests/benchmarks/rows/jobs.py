"""Ten thousand jobs leave memory flat: what a server and its workers hold before and after, its history full."""

from __future__ import annotations

from tests.benchmarks import load
from tests.benchmarks.bench import Bench, memory_kib, settle
from tests.benchmarks.child import Child
from tests.benchmarks.table import BASE, Row, Scale, median_row

_JOBS = 10_000
_FLAT_KIB = 1024.0  # per ten thousand jobs: a tenth of a KiB each, less than any job would leave behind


def flat_memory(bench: Bench, scale: Scale) -> list[Row]:
    """Growth of memory per ten thousand jobs, after the first ten thousand."""
    jobs = _JOBS // 4 if bench.quick else _JOBS
    messages = bench.messages("noop", "stills", scale.area)
    grown, detail = [], ""
    with Child("ours", "processes") as server:
        port = server.said["port"]
        held = 0.0
        for step in range(4 if scale == BASE else 3):
            done = 0
            while done < jobs:
                done += load.run(port, messages, seconds=0.5, clients=scale.clients).frames
            settle(server.pid)
            now = memory_kib(server.pid, tree=True)
            if step:
                grown.append((now - held) / done * _JOBS)
            held = now
        detail = f"{held / 1024:.0f} MiB in all, server and workers"
    return [
        median_row(
            "memory after 10,000 more jobs",
            grown,
            unit="KiB",
            target=_FLAT_KIB,
            at_least=False,
            detail=detail,
            scale=scale,
        )
    ]
