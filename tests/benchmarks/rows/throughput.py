"""No-op: frames per second through each server when the plugin does nothing, so that only the server is seen."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from statistics import median

from tests.benchmarks import load
from tests.benchmarks.bench import Bench, by_round
from tests.benchmarks.sockets import Messages
from tests.benchmarks.table import Row, Scale, median_row

_WINDOW_S = 0.4
_WARM_S = 0.2


@contextlib.contextmanager
def contestants(
    bench: Bench,
    messages: Messages,
    servers: Mapping[str, tuple[str, ...]],
    *,
    seconds: float,
    clients: int = 1,
    in_flight: int = 16,
) -> Iterator[dict[str, Callable[[], float]]]:
    """Warm servers, each with connections of its own: functions that load it and tell frames per second.

    Raises:
        Wrong: At the end, if a frame was not answered by exactly one result.
    """
    loads: dict[str, load.Load] = {}
    try:
        for name, server in servers.items():
            loads[name] = load.Load(
                bench.child(*server).said["port"],
                messages,
                clients=clients,
                in_flight=in_flight,
                named=server[0] != "bare",
            )
            loads[name].run(bench.seconds(_WARM_S), least_answers=1)
        yield {name: functools.partial(_per_s, one, seconds) for name, one in loads.items()}
        for one in loads.values():
            one.verify()
    finally:
        for one in loads.values():
            one.close()


def _per_s(one: load.Load, seconds: float) -> float:
    return one.run(seconds, least_answers=4).per_s


def per_second(measured: dict[str, list[float]]) -> str:
    """The figures behind ratios."""
    return "; ".join(f"{name} {median(samples):,.0f}/s" for name, samples in measured.items())


def noop(bench: Bench, scale: Scale) -> list[Row]:
    """Ours inline and with processes, against the limit and against the obvious server."""
    messages = bench.messages("noop", "stills", scale.area)
    servers = {
        "(a)": ("bare",),
        "inline": ("ours", "inline"),
        "processes": ("ours", "processes"),
        "(b)": ("obvious",),
    }
    with contestants(bench, messages, servers, seconds=bench.seconds(_WINDOW_S), clients=scale.clients) as ready:
        measured = bench.in_turns(ready, bench.rounds(scale))
    detail = per_second(measured)

    def row(ours: str, other: str, target: float) -> Row:
        ratios = by_round(measured[ours], measured[other])
        return median_row(f"no-op, {ours} / {other}", ratios, target=target, detail=detail, scale=scale)

    return [
        row("inline", "(a)", 0.70),
        row("processes", "(a)", 0.55),
        row("inline", "(b)", 1.5),
        row("processes", "(b)", 1.5),
    ]
