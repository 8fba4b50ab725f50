"""What it takes to watch a stream in JupyterLab, and how soon a picture is seen, beside two other ways into the page.

A real Chromium, a real JupyterLab, a real kernel, all on this machine. One stream runs at 30 frames/s through
`motion_detector`; in turns nobody looks, `stream.view()` does, `ipywidgets.Image`, and jupyter_rfb. Processor time is
that of the kernel's process (its workers not counted), of the Jupyter server, and of all processes of the browser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from tests.benchmarks.bench import Bench, by_round
from tests.benchmarks.lab import Lab, open_lab
from tests.benchmarks.table import BASE, Row, Scale, median_row
from tests.lab.notebook import Cell

_WINDOW_S, _SHORTEST_S = 10.0, 4.0
_RUNS = 7
_ENOUGH = 15  # pictures seen before a window begins
_SETTLED = 150  # results before the first
_VIEW_HEIGHT = 750  # pixels

_SETUP = "import time\nfrom tests.benchmarks import shown\nstream = shown.begin()"
_SPIN = "while True: pass"
_FRESH = """\
import forgesyte_nb as fs
stream = fs.stream(pictures.walk(), "motion_detector", speed=3.0, loop=True)
stream.view()"""


@dataclass(frozen=True)
class _Way:
    """A way to look: the call that makes it, and what is watched of it in the page, if anything."""

    call: str
    selector: str = ""
    count: int = 1


_NOTHING, _VIEW, _IMAGE, _RFB = "nobody", "view", "`ipywidgets.Image`", "jupyter_rfb"
_WAYS = {
    _NOTHING: _Way("shown.nothing(stream)"),
    _VIEW: _Way("shown.view(stream)", ".fs-widget"),
    _IMAGE: _Way("shown.image(stream)", "img"),
    _RFB: _Way("shown.remote_frame_buffer(stream)", "img"),
}


@dataclass(frozen=True)
class _Window:
    """What was measured while one way was looked at."""

    cpu: dict[str, float]
    results_per_s: float = 0.0
    shown_per_s: float = 0.0
    ages_ms: Sequence[float] = field(default=(), repr=False)


class _Turns:
    """One notebook with the stream, in which ways to look take turns."""

    def __init__(self, lab: Lab, seconds: float) -> None:
        self._lab, self._notebook, self._seconds = lab, lab.notebook, seconds
        self._cells: dict[str, Cell] = {}
        self._spin: Cell | None = None

    async def look(self, way: _Way, *, busy: bool = False) -> _Window:
        """Look that way for one window; if `busy`, while a cell spins in pure Python."""
        page = self._lab.page
        await self._open(way)
        if busy:
            await self._keep_busy()
        results = None if busy else await self._results()
        await page.evaluate("benchProbe.begin()")
        cpu = await self._lab.cpu_percent(self._seconds)
        seen = await page.evaluate("benchProbe.end()")
        if busy:
            await self._rest()
        rate = 0.0 if results is None else self._rate(results, await self._results())
        await self._notebook.ask("look.close()")
        return _Window(cpu, rate, len(seen["ages"]) / seen["seconds"], seen["ages"])

    async def _open(self, way: _Way) -> None:
        notebook, page = self._notebook, self._lab.page
        if way.call in self._cells:
            cell = await notebook.rerun(self._cells[way.call])
        else:
            cell = self._cells[way.call] = await notebook.run(f"look = {way.call}\nlook.show()")
        if not way.selector:
            return
        wanted = [cell.cell_id, way.selector, way.count]
        await notebook.wait_for("wanted => benchProbe.watch(...wanted)", wanted)
        await page.evaluate("benchProbe.begin()")
        await notebook.wait_for(f"benchProbe.seen >= {_ENOUGH}")

    async def _keep_busy(self) -> None:
        """Run a cell that spins."""
        if self._spin is None:
            self._spin = await self._notebook.start(_SPIN)
        else:
            await self._lab.page.evaluate("id => { labTest.execute(id); }", self._spin.cell_id)
        await self._notebook.wait_busy()

    async def _rest(self) -> None:
        assert self._spin is not None
        await self._notebook.interrupt()
        await self._notebook.ended(self._spin, fails=True)

    async def _results(self) -> tuple[float, int]:
        now, count = await self._notebook.ask("(time.monotonic(), stream.ledger['results'])")
        return now, count

    def _rate(self, before: tuple[float, int], after: tuple[float, int]) -> float:
        return (after[1] - before[1]) / (after[0] - before[0])


def watched(bench: Bench, scale: Scale) -> list[Row]:
    """Rates, processor time and ages; with more clients, as many views instead of one."""
    if scale.clients > 4:
        return []
    return asyncio.run(_watched(bench, scale))


async def _watched(bench: Bench, scale: Scale) -> list[Row]:
    count = scale.clients
    ways = _WAYS if scale == BASE else {_NOTHING: _WAYS[_NOTHING], _VIEW: _several(count)}
    rounds = max(1, bench.rounds(scale) // 2)
    async with open_lab(height=500 + _VIEW_HEIGHT * count) as lab:
        turns = _Turns(lab, max(_SHORTEST_S, bench.seconds(_WINDOW_S)))
        await lab.notebook.run(_SETUP)
        await lab.notebook.until(f"stream.ledger['results'] >= {_SETTLED}")
        idle = await _in_turns(turns, ways, rounds)
        seen = {name: way for name, way in ways.items() if way.selector}
        spinning = await _in_turns(turns, seen, max(1, rounds // 2), busy=True)
    return [*_idle_rows(idle, scale), *_seen_rows("view, cell spins", spinning, scale, p95_ms=15.0)]


def _several(count: int) -> _Way:
    return _Way(f"shown.view(stream, {count})", ".fs-widget", count)


async def _in_turns(
    turns: _Turns, ways: dict[str, _Way], rounds: int, *, busy: bool = False
) -> dict[str, list[_Window]]:
    """Each way once in each round, each round beginning with another one."""
    measured: dict[str, list[_Window]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measured[name].append(await turns.look(ways[name], busy=busy))
    return measured


def _idle_rows(windows: dict[str, list[_Window]], scale: Scale) -> list[Row]:
    view, nobody = windows[_VIEW], windows[_NOTHING]
    rates = [[window.results_per_s for window in each] for each in (view, nobody)]
    return [
        median_row(
            "view open / nobody looks: processing rate",
            by_round(*rates),
            target=0.97,
            detail="results/s: {:.2f} and {:.2f}".format(*map(median, rates)),
            scale=scale,
        ),
        _cpu_row("kernel", windows, scale, target=3.0),
        _cpu_row("server", windows, scale),
        _cpu_row("browser", windows, scale),
        *_seen_rows("view", windows, scale, p95_ms=10.0),
    ]


_OF = {"kernel": "the kernel", "server": "the Jupyter server", "browser": "the browser"}


def _cpu_row(group: str, windows: dict[str, list[_Window]], scale: Scale, target: float | None = None) -> Row:
    """What a group of processes takes more than when nobody looks."""
    base = [window.cpu[group] for window in windows[_NOTHING]]
    over = {
        name: [window.cpu[group] - nobody for window, nobody in zip(each, base, strict=True)]
        for name, each in windows.items()
        if name != _NOTHING
    }
    others = [f"{name} {median(samples):.1f} %" for name, samples in over.items() if name != _VIEW]
    return median_row(
        f"view: of a core, {_OF[group]}",
        over[_VIEW],
        unit="%",
        target=target,
        at_least=False,
        detail="; ".join([*others, f"over {median(base):.1f} % when nobody looks"]),
        scale=scale,
    )


def _seen_rows(name: str, windows: dict[str, list[_Window]], scale: Scale, *, p95_ms: float) -> list[Row]:
    """Pictures seen, and their age by then."""
    shown = {way: median([window.shown_per_s for window in each]) for way, each in windows.items()}
    ages = {
        way: [_p50_p95(window.ages_ms) for window in each if len(window.ages_ms) > 1] for way, each in windows.items()
    }
    others = [way for way in windows if way not in (_NOTHING, _VIEW)]
    told = [f"{way} {shown[way]:.1f}" for way in others]
    behind = [f"p50 {median([p50 for p50, _ in ages[_VIEW]]):.1f} ms"]
    for way in others:
        middle = [median(column) for column in zip(*ages[way], strict=True)]
        behind.append("{} p50 {:.1f}, p95 {:.1f} ms".format(way, *middle) if middle else f"{way} shows none")
    return [
        median_row(
            f"{name}: pictures shown",
            [window.shown_per_s for window in windows[_VIEW]],
            unit="/s",
            detail="; ".join(told),
            scale=scale,
        ),
        median_row(
            f"{name}: kernel to canvas, p95",
            [p95 for _, p95 in ages[_VIEW]],
            unit="ms",
            target=p95_ms,
            at_least=False,
            detail="; ".join(behind),
            scale=scale,
        ),
    ]


def _p50_p95(values: Sequence[float]) -> tuple[float, float]:
    twentieths = quantiles(values, n=20, method="inclusive")
    return twentieths[9], twentieths[18]


def first_picture(bench: Bench, _scale: Scale) -> list[Row]:
    """From running a cell with a stream and its view, and from reloading the page, to the first picture."""
    return asyncio.run(_first_picture(3 if bench.quick else _RUNS))


async def _first_picture(runs: int) -> list[Row]:
    from_run, from_reload = [], []
    async with open_lab() as lab:
        notebook, page = lab.notebook, lab.page
        await notebook.run("from tests.benchmarks import pictures")
        cell = await notebook.run(_FRESH)
        for _ in range(runs):
            from_run.append(await page.evaluate("id => benchProbe.sinceRun(id)", cell.cell_id) / 1000)
            await notebook.ended(cell)
        for _ in range(runs):
            await notebook.reload()
            from_reload.append(await page.evaluate("benchProbe.sinceNavigation") / 1000)
    return [
        median_row(
            f"view: from {what} to the first picture",
            samples,
            unit="s",
            target=target,
            at_least=False,
            detail=detail,
        )
        for what, samples, target, detail in (
            ("running the cell", from_run, 1.0, "stream and view on a warm kernel; slowest {:.2f} s"),
            ("reloading the page", from_reload, 3.0, "JupyterLab included; slowest {:.2f} s"),
        )
        for detail in [detail.format(max(samples))]
    ]
