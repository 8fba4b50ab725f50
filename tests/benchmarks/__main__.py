"""`python -m tests.benchmarks`: measure all rows, print two tables, write `bench-output/bench.json`.

Progress goes to stderr, the tables to stdout. The exit code is 0 when everything could be measured, whatever the
figures: they are for reading, not a test. Ctrl-C ends everything that was started and prints what there is.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from tests.benchmarks.bench import Bench, Skipped, raise_file_limit
from tests.benchmarks.child import ROOT, WORKERS
from tests.benchmarks.load import Wrong
from tests.benchmarks.machine import as_text, machine
from tests.benchmarks.rows import ROWS, Measure
from tests.benchmarks.table import BASE, GROWTH, Row, Scale, base_table, growth_table, write_json

_QUICK = ("noop", "image_stats", "round_trip")
_OUTPUT = ROOT / "bench-output" / "bench.json"

_HOW = f"""\
640×480 JPEGs of 47 KB in base64, 16 in flight on one connection (motion_detector: 8 streams, 2 each; ocr and
face_detector: 6); each server in a process of its own, {WORKERS} workers, one thread each; contestants take turns in
every round, and a ratio is the median of the rounds' ratios. The client is a raw socket with messages made before;
every frame is checked to have exactly one terminal message, a result. (a) is the fastest bare `websockets` server:
msgspec, pybase64, a constant reply. (b) is FastAPI, uvicorn and ProcessPoolExecutor. Bare processes call the plugin on
the same bytes, without a server; streams go on from round to round on both sides. "Beside (a)" they do so while a
client exchanges as many frames with (a) as it did with ours: about what carrying frames leaves."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    chosen = _parse(arguments)
    raise_file_limit()
    signal.signal(signal.SIGTERM, _interrupt)
    header = {"how": _HOW, "machine": machine(), "quick": chosen.quick, "rounds": chosen.rounds}
    rows: list[Row] = []
    failures: list[str] = []
    skipped: list[str] = []
    began = time.monotonic()
    interrupted = False
    with Bench(rounds=chosen.rounds, quick=chosen.quick) as bench:
        try:
            for name, measure, scale in _plan(chosen.only, quick=chosen.quick):
                print(f"{time.monotonic() - began:6.0f} s  {name}, {scale}", file=sys.stderr, flush=True)
                try:
                    rows += measure(bench, scale)
                except Skipped as reason:
                    skipped.append(f"{name}, {scale}: {reason}")
                    print(f"          skipped: {reason}", file=sys.stderr, flush=True)
                except (Wrong, ConnectionError, RuntimeError) as error:
                    failures.append(f"{name}, {scale}: {error}")
                    print(f"          {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            interrupted = True
    seconds = round(time.monotonic() - began)
    _show(rows, failures, skipped, as_text(machine() | header["machine"]), seconds)
    write_json(_OUTPUT, rows, **header, seconds=seconds, failures=failures, skipped=skipped, interrupted=interrupted)
    return 130 if interrupted else bool(failures)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures within a minute")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME[,NAME]", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds at the base scale (12, quick: 2)")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.only or () if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 12)
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    return chosen


def _plan(only: Sequence[str] | None, *, quick: bool) -> Iterator[tuple[str, Measure, Scale]]:
    """All rows at the base scale first, then as they grow; quickly, only the ends of what grows most."""
    names = only or list(ROWS)
    for scale in (BASE, *GROWTH):
        for name in names:
            measure, grows = ROWS[name]
            if scale != BASE and ("area" if scale.area > 1 else "clients") not in grows.split():
                continue
            if scale != BASE and quick and (8 not in (scale.area, scale.clients) or name not in (only or _QUICK)):
                continue
            yield name, measure, scale


def _show(
    rows: Sequence[Row], failures: Sequence[str], skipped: Sequence[str], machine_text: str, seconds: int
) -> None:
    print(f"# Benchmarks\n\n{_HOW}\n\n{machine_text}; {seconds} s.\n\n{base_table(rows)}")
    if any(row.scale != BASE for row in rows):
        print(f"\n## Growth\n\n{growth_table(rows)}")
    for failure in failures:
        print(f"\n**Could not be measured**: {failure}")
    for reason in skipped:
        print(f"\n**Skipped**: {reason}")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
