"""Round trips at 30 frames a second: what ours adds to the limit's own, with an idle notebook and with a busy one."""

from __future__ import annotations

from statistics import median, quantiles

from tests.benchmarks.bench import Bench
from tests.benchmarks.pace import paced
from tests.benchmarks.table import Row, Scale, median_row

_FPS = 30.0
_WINDOW_S = 5.0


def idle(bench: Bench, scale: Scale) -> list[Row]:
    """The main thread of the server's process waits, as a kernel without a running cell."""
    return _rows(bench, scale, "round trip, idle", p50_ms=1.0, p99_ms=4.0)


def busy_cell(bench: Bench, scale: Scale) -> list[Row]:
    """The main thread of the server's process spins in pure Python, as a kernel with a running cell."""
    ours = bench.child("ours", "processes")
    ours.ask("spin")
    try:
        return _rows(bench, scale, "round trip, cell spins", p50_ms=None, p99_ms=8.0)
    finally:
        ours.ask("rest")


def _rows(bench: Bench, scale: Scale, name: str, *, p50_ms: float | None, p99_ms: float) -> list[Row]:
    messages = bench.messages("noop", "stills", scale.area)
    ports = {
        "(a)": bench.child("bare").said["port"],
        "ours": bench.child("ours", "processes").said["port"],
    }
    seconds = bench.seconds(_WINDOW_S)
    over50, over99, seen = [], [], []
    for _ in range(max(1, bench.rounds(scale) * 2 // 3)):
        found = paced(ports, messages, fps=_FPS, seconds=seconds, clients=scale.clients)
        limit, ours = ((_percentile(found[server], 50), _percentile(found[server], 99)) for server in ports)
        over50.append(ours[0] - limit[0])
        over99.append(ours[1] - limit[1])
        seen.append((*ours, *limit))
    middle = [median(column) for column in zip(*seen, strict=True)]
    detail = "p50/p99: ours {:.2f}/{:.2f} ms, (a) {:.2f}/{:.2f} ms".format(*middle)
    return [
        median_row(
            f"{name}: {what} over (a)",
            samples,
            unit="ms",
            target=target,
            at_least=False,
            detail=detail,
            scale=scale,
        )
        for what, samples, target in (("p50", over50, p50_ms), ("p99", over99, p99_ms))
    ]


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
