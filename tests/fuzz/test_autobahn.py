"""Autobahn's 517 cases against the server's own connection class, with its limits, behind its gate.

The server is the one of production in all but one thing: its dispatcher says back what it is told. What may fail is in
`autobahn_exceptions.py`, with the reason; what is listed there and passes fails the test too.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server import outbox_writer
from forgesyte_nb.server.async_server import AsyncServer
from forgesyte_nb.server.binding import bind
from forgesyte_nb.sessions import Session
from forgesyte_nb.settings import Settings
from tests.figures import Figures
from tests.fuzz.autobahn_exceptions import EXCEPTIONS

pytestmark = pytest.mark.skipif(find_spec("kosoku") is None, reason="kosoku, which runs the cases, is not installed")

ROOT = Path(__file__).resolve().parents[2]
CASES = 517
Results = dict[str, dict[str, Any]]


class Echo(Dispatcher):
    """Says each message back to whoever sent it."""

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        super().__init__(Registry(), settings, _no_engine, log)
        self._numbers = itertools.count()
        enter = self.reception.enter

        def enter_anew(client_id: str, *, numbered: bool) -> Session:
            """Each case is another client: what one that broke off is owed is not for the next."""
            return enter(f"{client_id}-{next(self._numbers)}", numbered=numbered)

        self.reception.enter = enter_anew  # type: ignore[method-assign]

    def receive(self, session: Session, data: bytes, *, binary: bool = False) -> None:
        """Back it goes, by the same outbox as results and pictures."""
        if binary:
            session.outbox.show_picture(str(next(self._numbers)), data)
        else:
            session.outbox.owe(data)


def _no_engine(name: str) -> Any:
    raise AssertionError(f"an echo needs no engine, not {name}")


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """A server with default limits; its URL."""
    settings, log = Settings(engine="inline"), logging.Logger("autobahn")
    log.addHandler(logging.NullHandler())
    server = AsyncServer(settings, Registry(), log, frozenset)
    server.dispatcher = Echo(settings, log)
    sockets = bind("localhost", 0)
    await server.start()
    await server.listen(sockets)
    try:
        yield f"ws://localhost:{sockets[0].getsockname()[1]}/ws/autobahn"
    finally:
        await server.close(0.0)


async def run_cases(url: str, *cases: str) -> Results:
    """What came of each case."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fuzz.autobahn_client", url, *cases), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0
    results: Results = json.loads(output)
    return results


def excepted(case: str) -> bool:
    """Whether it is listed."""
    return any(fnmatch.fnmatchcase(case, pattern) for pattern in EXCEPTIONS)


async def test_all_cases_pass_but_those_that_are_explained(figures: Figures) -> None:
    async with echo_server() as url:
        results = await run_cases(url)
    failed = {case: one for case, one in results.items() if not one["passed"]}
    unexplained = {case: one for case, one in failed.items() if not excepted(case)}
    figures.add("Autobahn", "cases run", len(results))
    figures.add("Autobahn", "cases passed", len(results) - len(failed))
    figures.add("Autobahn", "cases of compression, which is off", sum(case[:3] in ("12.", "13.") for case in failed))
    figures.add("Autobahn", "failures outside the list of exceptions", len(unexplained), 0)
    assert len(results) == CASES
    assert unexplained == {}
    assert [case for case in results if excepted(case) and case not in failed] == [], "no exception any more: unlist it"
    assert {one["behavior"] for case, one in failed.items() if case[:3] in ("12.", "13.")} == {"UNIMPLEMENTED"}


async def test_receipts_are_all_that_9_7_objects_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_writer, "RECEIPT_MESSAGES", 1_000_000)
    monkeypatch.setattr(outbox_writer, "RECEIPT_DELAY_S", 1_000.0)
    async with echo_server() as url:
        results = await run_cases(url, "9.7.*")
    assert len(results) == 6
    assert [case for case, one in results.items() if not one["passed"]] == []
