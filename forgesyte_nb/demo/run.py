"""The demo from start to end: kernel, server, long cell, frames, ledger, table, report; the exit code says how it went.

0 means that every frame has its one terminal message, that it is a result, and that the kernel was busy all the while;
1 that something of this does not hold, and which; 2 that the demo could not run, and what to do.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from forgesyte_nb.client.client import Client
from forgesyte_nb.client.results import Result
from forgesyte_nb.demo import DemoError
from forgesyte_nb.demo.kernel import Cell, DemoKernel
from forgesyte_nb.demo.ledger import TERMINAL, Ledger
from forgesyte_nb.demo.media import Media, find_media
from forgesyte_nb.demo.rounds import Round, make_rounds
from forgesyte_nb.demo.table import Row, as_text, rows_of
from forgesyte_nb.errors import ConnectionLost, ForgeSyteError, WireError

CONCURRENCY = 4
"""Frames under way at a time; with more, latency would be the length of the queue."""

ROUND_TIMEOUT_S = 120.0
SPIN_LONGEST_S = 600.0
_WITNESS_TIMEOUT_S = 10.0
_DEATH_TIMEOUT_S = 2.0

SERVE = """\
import forgesyte_nb as fs
server = fs.serve(port=0)"""
_DESCRIBE = """\
import json, platform, ipykernel
print(json.dumps({"url": server.url, "log": str(server.log), "failures": server.failures,
    "plugins": [plugin.name for plugin in server.plugins], "engine": server.settings.engine,
    "workers": server.settings.lanes, "python": platform.python_version(), "ipykernel": ipykernel.__version__}))"""
_STATS = "print(json.dumps({k: v for k, v in server.stats().items() if k != 'engines'}))"


@dataclass
class Outcome:
    """All that the report tells.

    Attributes:
        kernel: What the kernel said of itself and its server.
        spin: What the long cell said: spins, began, ended.
        stats: The server's own count, asked for after the long cell.
        problems: Why the exit code is not 0.
    """

    media: Media
    rounds: list[Round]
    rows: list[Row]
    ledger: Ledger
    kernel: dict[str, Any]
    spin: dict[str, Any]
    stats: dict[str, Any]
    problems: list[str]

    @property
    def spun_s(self) -> float:
        """How long the long cell ran."""
        return float(self.spin["ended"] - self.spin["began"])

    @property
    def answered_in_spin(self) -> int:
        """Terminal messages that came while the long cell ran."""
        return self.ledger.heard_between(self.spin["began"], self.spin["ended"])


def run_demo(output: Path, *, quick: bool = False) -> int:
    """Run the demo and write its report.

    Args:
        output: Folder for the report and the pictures; made if it does not exist.
        quick: Fewer pictures.

    Returns:
        The exit code.
    """
    from forgesyte_nb.demo.report import write_report

    try:
        output.mkdir(parents=True, exist_ok=True)
        media = find_media(quick=quick)
        outcome = asyncio.run(_in_kernel(media, make_rounds(media, quick=quick)))
        report = write_report(output, outcome)
    except (DemoError, ForgeSyteError, OSError) as error:
        print(f"forgesyte-nb demo: error: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("forgesyte-nb demo: stopped; the kernel is shut down", file=sys.stderr)
        return 128 + signal.SIGTERM
    print(f"\n{as_text(outcome.rows)}\n")
    print("\n".join(summary(outcome)))
    print(f"\nreport    {report}")
    return 1 if outcome.problems else 0


async def _in_kernel(media: Media, rounds: list[Round]) -> Outcome:
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with DemoKernel() as kernel:
        await kernel.run(SERVE)
        about: dict[str, Any] = json.loads(await kernel.run(_DESCRIBE))
        about["pid"] = kernel.pid
        print(f"kernel    ipykernel {about['ipykernel']}, Python {about['python']}, process {about['pid']}")
        print(f"server    {about['url']} in it; {about['engine']}, {about['workers']} workers")
        print(f"plugins   {', '.join(about['plugins'])}")
        for name, reason in about["failures"].items():
            print(f"failed    {name}: {reason}")
        cell = await kernel.spin(SPIN_LONGEST_S)
        print("the cell  counts in pure Python from here on; the kernel is busy\n", flush=True)
        ledger = Ledger()
        await _while_alive(_send_all(about["url"], rounds, ledger), cell)
        still_busy = not cell.ended.done()
        await kernel.interrupt()
        spin = json.loads((await kernel.result(cell)).splitlines()[-1])
        stats = json.loads(await kernel.run(_STATS))
        await kernel.run("server.close()")
    outcome = Outcome(media, rounds, rows_of(rounds, media), ledger, about, spin, stats, [])
    outcome.problems += _problems(outcome, still_busy=still_busy)
    return outcome


async def _while_alive(work: Coroutine[Any, Any, None], cell: Cell) -> None:
    """Do the work; stop it if the kernel dies, which ends the cell with an error.

    Raises:
        DemoError: If the kernel died.
    """
    working = asyncio.create_task(work)
    try:
        first: set[asyncio.Future[Any]] = {working, cell.ended}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and isinstance(working.exception(), ConnectionLost):
            await asyncio.wait({cell.ended}, timeout=_DEATH_TIMEOUT_S)  # a dead kernel is the better reason
        if cell.ended.done():
            cell.ended.result()
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _send_all(url: str, rounds: list[Round], ledger: Ledger) -> None:
    """Every picture of every round, with a second connection as the witness of what is on the wire."""
    async with Client(url, client_id="demo-witness") as witness, Client(url, client_id="demo") as client:
        heard = asyncio.Event()
        listening = asyncio.create_task(_witness(witness, ledger, heard))
        await witness.subscribe("all")
        try:
            for one in rounds:
                await _send_round(client, one, ledger)
            async with asyncio.timeout(_WITNESS_TIMEOUT_S):
                while not ledger.all_heard:
                    heard.clear()
                    await heard.wait()
        except TimeoutError:
            return  # the ledger says what is missing
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _witness(witness: Client, ledger: Ledger, heard: asyncio.Event) -> None:
    async for message in witness.messages(*TERMINAL):
        ledger.hear(message, time.time())
        heard.set()


async def _send_round(client: Client, one: Round, ledger: Ledger) -> None:
    for frames, _ in one.streams:
        for frame in frames:
            ledger.expect(one.plugin, frame.frame_id)
    began = time.monotonic()
    with tqdm(total=len(one), desc=f"{one.plugin:<15}", unit="frame", ascii=True, ncols=88) as bar:
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            for frames, options in one.streams:
                async for result in client.stream(frames, one.plugin, options, ordered=True, concurrency=CONCURRENCY):
                    _enter(result, ledger)
                    one.results.append(result)
                    one.took_s = time.monotonic() - began
                    bar.update()


def _enter(result: Result, ledger: Ledger) -> None:
    if result.ok or isinstance(result.error, WireError):
        ledger.answer(result.plugin, result.name, frame_id=result.frame_id, job_id=result.job_id)
    else:
        ledger.give_up(result.plugin, result.name, str(result.error))


def _problems(outcome: Outcome, *, still_busy: bool) -> list[str]:
    ledger = outcome.ledger
    found = ledger.problems() + ledger.check_server(outcome.stats)
    found += [
        f"{result.plugin} {result.name}: {result.error_code}: {result.error}"
        for one in outcome.rounds
        for result in one.results
        if not result.ok
    ]
    outside = ledger.heard - outcome.answered_in_spin
    if outside or not still_busy:
        found.append(f"the long cell ended too early: {outside} terminal messages came when it did not run")
    return found


def summary(outcome: Outcome) -> Iterator[str]:
    """What is claimed, line by line."""
    ledger, stats = outcome.ledger, outcome.stats
    counted = f"{stats['accepted']} frames, {stats['results']} results, {stats['errors']} errors"
    yield (
        f"ledger    {ledger.sent} frames sent, {ledger.answered} answers, {ledger.heard} terminal messages on the "
        f"wire; the server counted {counted}"
    )
    yield (
        f"the cell  ran {outcome.spun_s:.1f} s and counted to {outcome.spin['spins']:,}; "
        f"{outcome.answered_in_spin} of {ledger.heard} terminal messages came while it ran"
    )
    yield "kernel    answered after the cell was interrupted; it is shut down"
    if outcome.problems:
        yield f"\nNOT every frame is in order, {len(outcome.problems)} problems:"
        yield from (f"  {problem}" for problem in outcome.problems)
    else:
        yield "every frame has its one terminal message"
