"""The shipped plugins: two workers against two bare processes on the same bytes, and against the obvious server."""

from __future__ import annotations

import contextlib
import functools

from tests.benchmarks.bench import Bench, by_round
from tests.benchmarks.beside import Remembered, carried
from tests.benchmarks.direct import PLUGIN_FILES
from tests.benchmarks.mapping import Pair
from tests.benchmarks.rows.throughput import contestants, per_second
from tests.benchmarks.table import BASE, Row, Scale, median_row


def image_stats(bench: Bench, scale: Scale) -> list[Row]:
    """The simple one, 2 ms a frame."""
    return _rows(bench, scale, "image_stats", "stills", least_of_bare=0.95, least_of_obvious=1.5)


def motion_detector(bench: Bench, scale: Scale) -> list[Row]:
    """Eight streams, each with a state of its own."""
    return _rows(bench, scale, "motion_detector", "walk", clients=8, in_flight=2, least_of_bare=0.97)


def ocr(bench: Bench, scale: Scale) -> list[Row]:
    """A page of print; tesseract runs as a child of the worker."""
    return _rows(bench, scale, "ocr", "page", in_flight=6, least_of_bare=0.95, window_s=3.0)


def block_mapper(bench: Bench, scale: Scale) -> list[Row]:
    """Against the obvious server only."""
    return _rows(bench, scale, "block_mapper", "stills")


def face_detector(bench: Bench, scale: Scale) -> list[Row]:
    """A network of 80 ms; against the obvious server only."""
    return _rows(bench, scale, "face_detector", "stills", in_flight=6, window_s=5.0)


def _rows(
    bench: Bench,
    scale: Scale,
    plugin: str,
    kind: str,
    *,
    clients: int = 1,
    in_flight: int = 16,
    least_of_bare: float | None = None,
    least_of_obvious: float = 1.0,
    window_s: float = 0.6,
) -> list[Row]:
    if not (PLUGIN_FILES / f"{plugin}.py").is_file():
        return []
    rounds, seconds = _rounds_and_seconds(bench, scale, window_s)
    clients *= scale.clients
    messages = bench.messages(plugin, kind, scale.area)
    servers = {"ours": ("ours", "processes"), "(b)": ("obvious",)}
    with contextlib.ExitStack() as stack:
        ready = stack.enter_context(
            contestants(bench, messages, servers, seconds=seconds, clients=clients, in_flight=in_flight)
        )
        if least_of_bare is not None:
            pair = Pair(plugin, kind, scale.area, clients)
            stack.callback(pair.close)
            ready["bare processes"] = functools.partial(pair.per_s, seconds)
            ready["ours"] = pace = Remembered(ready["ours"])
            port = bench.child("bare").said["port"]
            ready["bare beside (a)"] = carried(pair, port, messages, pace=pace, seconds=seconds, clients=clients)
        measured = bench.in_turns(ready, rounds)
    detail = per_second(measured)

    def row(one: str, other: str, target: float | None) -> Row:
        ratios = by_round(measured[one], measured[other])
        return median_row(f"{plugin}, {one} / {other}", ratios, target=target, detail=detail, scale=scale)

    rows = [row("ours", "(b)", least_of_obvious)]
    if least_of_bare is not None:
        bare = "bare processes"
        rows = [row("ours", bare, least_of_bare), row("bare beside (a)", bare, None), *rows]
    return rows


def _rounds_and_seconds(bench: Bench, scale: Scale, window_s: float) -> tuple[int, float]:
    """How many rounds, and the length of a window in each, for a plugin that needs `window_s` at the base scale."""
    rounds = bench.rounds(scale)
    if window_s > 1:
        return min(rounds, 8 if scale == BASE else 1), window_s / 2 if bench.quick else window_s
    if scale != BASE:
        # Larger frames take longer, and a window must hold some dozens of them.
        rounds, window_s = min(rounds, 3), window_s * (1 + scale.area / 8)
    return rounds, bench.seconds(window_s)
