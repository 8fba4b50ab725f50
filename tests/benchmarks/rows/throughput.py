"""No-op: frames per second through each server when the plugin does nothing, so that only the server is seen."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.benchmarks import load
from tests.benchmarks.bench import Bench, by_round
from tests.benchmarks.sockets import Messages
from tests.benchmarks.table import Row, Scale, median_row

_WINDOW_S = 0.4
_WARM_S = 0.2


def contestant(
    bench: Bench, messages: Messages, *server: str, seconds: float, clients: int = 1, in_flight: int = 16
) -> Callable[[], float]:
    """A warm server: a function that loads it for some seconds and returns frames per second."""
    port = bench.child(*server).said["port"]

    def measure(seconds: float = seconds, least_answers: int = 4) -> float:
        rate = load.run(
            port,
            messages,
            seconds=seconds,
            clients=clients,
            in_flight=in_flight,
            named=server[0] != "bare",
            least_answers=least_answers,
        )
        return rate.per_s

    measure(bench.seconds(_WARM_S), 1)
    return measure


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
    window_s = bench.seconds(_WINDOW_S)
    contestants = {
        name: contestant(bench, messages, *server, seconds=window_s, clients=scale.clients)
        for name, server in servers.items()
    }
    measured = bench.in_turns(contestants, bench.rounds(scale))
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
