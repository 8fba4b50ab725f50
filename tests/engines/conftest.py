"""An engine on a loop of the test's own, without server and sockets: jobs in, what the listener heard out."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from forgesyte_nb.engines.choose import make_engine
from forgesyte_nb.engines.contract import Engine, Outcome
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.settings import Settings
from tests.conftest import PATIENCE_S, run_cell

_numbers = itertools.count(1)


class Bench:
    """A listener and the engine it listens to.

    Attributes:
        heard: All that was said, as (kind, frame_id, …).
    """

    def __init__(self, tiny: bytes) -> None:
        self.engine: Engine
        self.registry = Registry()
        self.heard: list[tuple[Any, ...]] = []
        self.logs: list[str] = []
        self._tiny = tiny
        self._ended: dict[Job, asyncio.Future[Outcome]] = {}
        self._seqs: dict[str, int] = {}
        self._news = asyncio.Event()

    # Listener

    def started(self, job: Job) -> None:
        assert job.status == "pending"
        job.status = "processing"
        self._hear("started", job)

    def progressed(self, job: Job, percent: float) -> None:
        assert job.status == "processing"
        self._hear("progressed", job, percent)

    def ended(self, job: Job, outcome: Outcome) -> None:
        assert job.status in ("pending", "processing"), "answered twice"
        assert (outcome.result is None) != (outcome.error is None)
        job.status = "completed" if outcome.error is None else "failed"
        self._hear("ended", job)
        self._ended[job].set_result(outcome)

    def logged(self, plugin: str, text: str) -> None:
        self.logs.append(f"{plugin} {text}")
        self._news.set()

    def unloadable(self, plugin: Plugin, error: WireError) -> None:
        self.logs.append(f"{plugin.name} revision {plugin.revision} {error}\n{error.detail}")
        self._news.set()

    def _hear(self, kind: str, job: Job, *more: Any) -> None:
        self.heard.append((kind, job.frame_id, *more))
        self._news.set()

    # For tests

    def cell(self, source: str, **names: Any) -> dict[str, Any]:
        """Run a cell; its plugins are registered here."""
        return run_cell(source, self.registry, **names)

    def submit(
        self,
        plugin: str,
        options: Any = None,
        *,
        frame_id: str = "",
        stream: str = "",
        owner: Any = "owner",
        image: bytes = b"",
    ) -> Job:
        """Give the engine a job."""
        entry = self.registry.entry(plugin)
        key = f"{owner}/{stream}/{plugin}" if entry.plugin.stateful else ""
        seq = self._seqs.get(key, 0)
        self._seqs[key] = seq + 1
        name = frame_id or f"{plugin} {next(_numbers)}"
        encoded = json.dumps(options or {}).encode()
        job = Job(f"job_{next(_numbers)}", name, entry, encoded, image or self._tiny, owner, key, seq, 0.0, stream)
        self._ended[job] = asyncio.get_running_loop().create_future()
        self.engine.submit(job)
        return job

    async def outcome(self, job: Job) -> Outcome:
        """How it ended."""
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.shield(self._ended[job])

    async def result(self, job: Job) -> Any:
        """Its result; fails the test if it has none."""
        outcome = await self.outcome(job)
        assert outcome.error is None, f"{outcome.error}\n{outcome.error.detail}"
        assert outcome.result is not None
        return json.loads(outcome.result)

    async def error(self, job: Job) -> Any:
        """Its error; fails the test if it has none."""
        outcome = await self.outcome(job)
        assert outcome.error is not None, outcome.result
        return outcome.error

    async def run(self, plugin: str, options: Any = None, **more: Any) -> Any:
        """The result of one frame."""
        return await self.result(self.submit(plugin, options, **more))

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until the listener has heard something that makes it true."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while not (value := condition()):
            self._news.clear()
            assert asyncio.get_running_loop().time() < end, f"waited in vain for {what}"
            try:
                async with asyncio.timeout(0.02):  # for what no listener is told of, such as a file
                    await self._news.wait()
            except TimeoutError:
                continue
        return value

    def hears(self, *news: Any) -> Callable[[], bool]:
        """Whether that has been heard."""
        return lambda: news in self.heard

    def of(self, job: Job) -> list[tuple[Any, ...]]:
        """What was heard of one job, without its name."""
        return [(kind, *more) for kind, frame_id, *more in self.heard if frame_id == job.frame_id]


Open = Callable[..., Bench]


@pytest.fixture
async def open_bench(tiny: bytes) -> AsyncIterator[Open]:
    """Makes a running engine: `open_bench("processes", workers=2, …)`; all are closed at the end."""
    benches: list[Bench] = []

    def start(name: str, **settings: Any) -> Bench:
        bench = Bench(tiny)
        bench.engine = make_engine(name, Settings(**{"workers": 2, **settings}), bench)
        bench.engine.start()
        benches.append(bench)
        return bench

    yield start
    for bench in benches:
        await bench.engine.close()


ENGINES = ["inline", "threads", "processes"]


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """The engines that the contract holds for."""
    return str(request.param)


@pytest.fixture
async def bench(open_bench: Open, engine_name: str) -> Bench:
    """A running engine of each kind, with two lanes."""
    return open_bench(engine_name)
