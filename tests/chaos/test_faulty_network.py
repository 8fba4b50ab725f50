"""Networks that delay, slow, swallow, cut, and fall silent, between a server and each kind of client.

Each client has a line of its own, on which one fault comes while frames are under way. A fault that ends a connection
is noticed, the client comes back, and every frame has one answer; a fault that does not, ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import forgesyte_nb as fs
from tests.chaos.apart import Apart
from tests.chaos.conftest import StartApart
from tests.chaos.drivers import FRAMES, KINDS, Driver
from tests.chaos.fault_line import CALM, CAN_VANISH, Weather
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.ledger import counts_of
from tests.conftest import PATIENCE_S, wait_for
from tests.figures import Figures

SUITE = "half-open TCP, delay, cuts and a slow line through a fault proxy"
PLUGINS = """
import time
import forgesyte_nb as fs

@fs.plugin
def short(frame) -> dict:
    time.sleep(0.01)
    return {"gray": float(frame.gray.mean())}
"""


@dataclass(frozen=True)
class Form:
    """Short or long; seconds."""

    ping_interval_s: float
    ping_timeout_s: float
    noticed_within_s: float


SHORT = Form(ping_interval_s=0.5, ping_timeout_s=1.5, noticed_within_s=5.0)
LONG = Form(
    ping_interval_s=fs.Settings.ping_interval_s, ping_timeout_s=fs.Settings.ping_timeout_s, noticed_within_s=70.0
)
RESUMED_WITHIN_S = 2.0

ENDS: dict[str, Callable[[FaultProxy], None]] = {
    "cut by a reset": lambda proxy: proxy.cut("rst"),
    "cut by an end": lambda proxy: proxy.cut("fin"),
    "cut in the middle of a message": lambda proxy: proxy.cut("rst", after_bytes=150),
    "nothing comes any more": lambda proxy: proxy.impose(Weather(swallows=frozenset(["down"]))),
    "nothing gets there any more": lambda proxy: proxy.impose(Weather(swallows=frozenset(["up"]))),
}
SILENT = ("nothing comes any more", "nothing gets there any more", "half-open")
if CAN_VANISH:
    ENDS["half-open"] = lambda proxy: proxy.vanish()
WEATHERS = {"late": Weather(delay_s=0.2), "slow": Weather(bytes_per_s=20_000)}


async def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"waited {patience_s:g} s in vain for {what}"
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Line:
    """One client, the fault that its connection will have, and what stands between it and its server."""

    kind: str
    fault: str
    proxy: FaultProxy
    driver: Driver
    server: Apart

    def __str__(self) -> str:
        return f"{self.kind}, {self.fault}"


@dataclass(frozen=True)
class Spans:
    """How long after the fault it was noticed, and how much later all went on, in seconds."""

    line: Line
    noticed_s: float
    resumed_s: float


async def ends_and_comes_back(line: Line, form: Form) -> Spans:
    """A fault that ends the connection."""
    driver = line.driver
    await until(lambda: driver.answered >= 10, f"{line}: frames under way")
    began, noticed_at = time.monotonic(), 0.0
    await asyncio.to_thread(ENDS[line.fault], line.proxy)
    patience_s = 1.5 * form.noticed_within_s
    if line.fault in SILENT and not driver.notices:
        cut = f"cut off client={driver.client_id} "
        await until(lambda: cut in line.server.log.read_text(), f"{line}: the server to notice", patience_s)
        noticed_at = time.monotonic()
        await asyncio.to_thread(line.proxy.cut)  # as when its machine changes to another network
    await until(lambda: driver.lost_at, f"{line}: the client to notice", patience_s)
    await until(lambda: driver.back_at, f"{line}: the client to come back")
    await driver.done()
    noticed_s = (noticed_at or driver.lost_at[0]) - began
    return Spans(line, noticed_s, resumed_s=driver.back_at[0] - driver.lost_at[0])


async def lives_through(line: Line) -> None:
    """A fault that ends nothing."""
    driver = line.driver
    await until(lambda: driver.answered >= 10, f"{line}: frames under way")
    await asyncio.to_thread(line.proxy.impose, WEATHERS[line.fault])
    await until(lambda: driver.answered >= 25, f"{line}: frames to get through")
    await asyncio.to_thread(line.proxy.impose, CALM)
    await driver.done()
    assert driver.lost_at == [], f"{line}: the connection was given up"


@pytest.mark.timeout(7200)
async def test_faults_are_noticed_and_cost_nothing(apart: StartApart, figures: Figures, tiny: bytes) -> None:
    form = LONG if figures.soak else SHORT
    pings = {"ping_interval_s": form.ping_interval_s, "ping_timeout_s": form.ping_timeout_s}
    server = apart(PLUGINS, **pings)
    async with contextlib.AsyncExitStack() as stack:
        scenarios = []
        for kind, drivers in KINDS.items():
            proxies = {fault: stack.enter_context(FaultProxy(server.port)) for fault in (*ENDS, *WEATHERS)}
            urls = {fault: proxy.url for fault, proxy in proxies.items()}
            running = await stack.enter_async_context(drivers(urls, tiny, "short", **pings))
            lines = [Line(kind, fault, proxies[fault], driver, server) for fault, driver in running.items()]
            scenarios += [
                ends_and_comes_back(line, form) if line.fault in ENDS else lives_through(line) for line in lines
            ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(scenario) for scenario in scenarios]
    for kind in KINDS:
        spans = [span for task in tasks if (span := task.result()) and span.line.kind == kind]
        silence_s = max(span.noticed_s for span in spans if span.line.fault in SILENT)
        figures.add(SUITE, f"{kind}: silence is noticed after, s, at the most", silence_s, form.noticed_within_s)
        resumed_s = max(span.resumed_s for span in spans)
        figures.add(SUITE, f"{kind}: goes on after, s, at the most", resumed_s, RESUMED_WITHIN_S)
    counts = await asyncio.to_thread(wait_for, lambda: (c := counts_of(server)).active == 0 and c, "the jobs to end")
    assert counts.accepted == counts.results
    figures.add(SUITE, f"of {len(tasks) * FRAMES} frames done twice", counts.accepted - len(tasks) * FRAMES)
