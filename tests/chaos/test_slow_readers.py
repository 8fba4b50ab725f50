"""Clients that do not read, beside twenty that do: they cost the others nothing, and are cut with a reason in time.

One has a receive buffer of 4 KiB and takes a few bytes now and then, one is a process that has been stopped. Both are
subscribed to everything, and ask for large results. A client that is only busy, in a handler that takes its time, reads
no more than they do meanwhile, and stays.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

import forgesyte_nb as fs
from tests.chaos.apart import MIB, Apart, pss_bytes
from tests.chaos.conftest import StartApart
from tests.chaos.ledger import Ledger, assert_balanced, counts_of
from tests.conftest import PATIENCE_S, Connect, SeedClient, wait_for
from tests.figures import Figures
from tests.server.conftest import RawSocket

SUITE = "a 4 KiB reader and a stopped client beside 20 healthy ones"
PLUGINS = """
import forgesyte_nb as fs

@fs.plugin
def small(frame) -> dict:
    return {"gray": float(frame.gray.mean())}

@fs.plugin
def large(frame, *, kib: int = 512) -> dict:
    return {"text": "x" * (kib * 1024)}
"""
ASKS = """
import asyncio, json, sys
from websockets.asyncio.client import connect

async def read(socket):
    async for _ in socket:
        pass

async def main(url, image, frames, pause_s):
    async with connect(url, max_size=None, compression=None, proxy=None) as socket:
        await socket.send(json.dumps({"type": "subscribe", "topic": "all"}))
        reading = asyncio.create_task(read(socket))
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for number in range(int(frames)):
            frame = {"type": "send_frame", "frame_id": f"asks {number}", "plugin": "large", "image_data": image}
            await socket.send(json.dumps(frame))
            if not number:
                print("begun", flush=True)
            if (await asyncio.wait({ended}, timeout=float(pause_s)))[0]:
                break
        print("sent", flush=True)
        await ended

asyncio.run(main(*sys.argv[1:]))
"""
PAUSE_S = 0.1
"""Between frames of `HardlyReads`, and of its counterpart that reads."""


@dataclass(frozen=True)
class Form:
    """Short or long; seconds and counts."""

    ping_interval_s: float
    ping_timeout_s: float
    beside_s: float
    large_frames: int
    cut_within_s: float

    @property
    def busy_s(self) -> float:
        return self.ping_timeout_s / 3


SHORT = Form(ping_interval_s=0.5, ping_timeout_s=2.0, beside_s=4.0, large_frames=60, cut_within_s=10.0)
LONG = Form(
    ping_interval_s=fs.Settings.ping_interval_s,
    ping_timeout_s=fs.Settings.ping_timeout_s,
    beside_s=70.0,
    large_frames=200,
    cut_within_s=70.0,
)


class HardlyReads(RawSocket):
    """A reader with a receive buffer of 4 KiB that takes a few bytes, then none, and goes on sending."""

    def __init__(self, port: int, image: bytes) -> None:
        super().__init__(port, receive_buffer=4096)
        self.open("hardly-reads")
        self._image = base64.b64encode(image).decode()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.socket.settimeout(1.0)
        with contextlib.suppress(OSError):  # it is cut
            self._say({"type": "subscribe", "topic": "all"})
            for number in itertools.count():
                self._say({"type": "send_frame", "frame_id": f"hardly {number}", "plugin": "large",
                           "image_data": self._image})  # fmt: skip
                if number < 20:
                    self.socket.recv(64)
                if self._done.wait(PAUSE_S):
                    return

    def _say(self, message: dict[str, Any]) -> None:
        self.send_frame(1, json.dumps(message).encode())

    def end(self) -> None:
        self._done.set()
        self._thread.join()
        self.socket.close()


class Asks:
    """A client in a process of its own that asks for large results, and reads all that it is sent.

    Without `frames` it asks for ten a second; with it, for so many at once.
    """

    def __init__(self, port: int, name: str, image: bytes, frames: int | None = None) -> None:
        url = f"ws://127.0.0.1:{port}/ws/{name}"
        how = ("1000000", str(PAUSE_S)) if frames is None else (str(frames), "0")
        command = [sys.executable, "-c", ASKS, url, base64.b64encode(image).decode(), *how]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        assert frames is None or self._process.stdout.readline() == "sent\n"

    def stop(self) -> None:
        """Stop it for good: it reads nothing more."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def end(self) -> None:
        """Let it close its connection, unless it is stopped."""
        try:
            self._process.communicate("", timeout=0 if self._stopped() else PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _stopped(self) -> bool:
        return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED


class Healthy:
    """Ten frames a second, one after the other, as somebody who looks at the results.

    Attributes:
        ledger: What it sent and heard.
    """

    def __init__(self, client: SeedClient, name: str) -> None:
        self.ledger = Ledger()
        self._client, self._name = client, name

    async def look(self, image: bytes, duration_s: float) -> list[float]:
        """Do so for a while; the round trips, in milliseconds."""
        round_trips_ms = []
        end = time.monotonic() + duration_s
        while (began := time.monotonic()) < end:
            frame_id = self.ledger.send(f"{self._name} {len(self.ledger.sent)}")
            await self._client.frame(frame_id, image, "small")
            await self._until("success", "error")
            round_trips_ms.append((time.monotonic() - began) * 1000)
            await self._until("completed", "failed")
            await asyncio.sleep(max(0.0, began + 0.1 - time.monotonic()))
        return round_trips_ms

    async def _until(self, *words: str) -> None:
        said = None
        while said not in words:
            message = await self._client.next()
            self.ledger.hear(message)
            said = message.get("status", message["type"])


async def p99_ms_of(clients: list[Healthy], image: bytes, duration_s: float) -> float:
    """The 99th percentile of the round trips of all."""
    round_trips_ms = await asyncio.gather(*(one.look(image, duration_s) for one in clients))
    return statistics.quantiles(itertools.chain.from_iterable(round_trips_ms), n=100)[98]


async def p99_beside_readers_ms(server: Apart, clients: list[Healthy], image: bytes, form: Form) -> float:
    """The same beside two clients that ask for as much as those who do not read, and read it.

    It is what the work itself costs: large results take lanes, and the loop's time, whoever reads them.
    """
    async with contextlib.AsyncExitStack() as stack:
        for name, frames in (("reads-on", None), ("reads-all", form.large_frames)):
            asks = await asyncio.to_thread(Asks, server.port, name, image, frames)
            stack.push_async_callback(asyncio.to_thread, asks.end)
        return await p99_ms_of(clients, image, form.beside_s)


class Memory:
    """Samples a server's memory five times a second; `peak_mib` is the most since the last `peak()`."""

    def __init__(self, server: Apart) -> None:
        self._server = server
        self._peak_mib = 0.0

    async def sample(self) -> None:
        while True:
            now = await asyncio.to_thread(lambda: pss_bytes(self._server.processes) / MIB)
            self._peak_mib = max(self._peak_mib, now)
            await asyncio.sleep(0.2)

    def peak_mib(self) -> float:
        peak_mib, self._peak_mib = self._peak_mib, 0.0
        return peak_mib


@pytest.mark.timeout(7200)
async def test_they_cost_the_others_nothing_and_are_cut_with_a_reason(
    apart: StartApart, client: Connect, figures: Figures, tiny: bytes
) -> None:
    form = LONG if figures.soak else SHORT
    server = apart(PLUGINS, ping_interval_s=form.ping_interval_s, ping_timeout_s=form.ping_timeout_s)
    healthy = [Healthy(await client(server, f"healthy-{n}", ping_interval=None), f"healthy {n}") for n in range(20)]
    memory = Memory(server)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(asyncio.create_task(memory.sample()).cancel)
        await warm_up(await client(server, "first"), tiny)
        await p99_ms_of(healthy, tiny, 1.0)
        memory.peak_mib()
        p99_alone_ms = await p99_ms_of(healthy, tiny, form.beside_s)
        p99_reading_ms = await p99_beside_readers_ms(server, healthy, tiny, form)
        reading_mib = memory.peak_mib()
        hardly = HardlyReads(server.port, tiny)
        stack.callback(hardly.end)
        stopped = await asyncio.to_thread(Asks, server.port, "stopped", tiny, form.large_frames)
        stack.callback(stopped.end)
        stopped.stop()
        ends = asyncio.create_task(asyncio.to_thread(ends_of, server, ("hardly-reads", "stopped"), form.cut_within_s))
        p99_beside_ms = await p99_ms_of(healthy, tiny, form.beside_s)
        cut_after_s, beside_mib = await ends, memory.peak_mib()
    figures.add(SUITE, "memory beyond that beside two that read, MiB", beside_mib - reading_mib, 64)
    figures.add(SUITE, "p99 of the healthy, ms", p99_beside_ms)
    figures.add(SUITE, "p99 of the healthy, times that without those two", p99_beside_ms / p99_alone_ms)
    figures.add(SUITE, "the same where those two read all", p99_reading_ms / p99_alone_ms)
    figures.add(
        SUITE,
        "p99 of the healthy, times that beside two that ask for as much and read",
        p99_beside_ms / p99_reading_ms,
        1.5,
    )
    for name, after_s in cut_after_s.items():
        figures.add(SUITE, f"{name} is cut after, s", after_s, form.cut_within_s)
    assert_balanced([one.ledger for one in healthy])
    counts = await asyncio.to_thread(wait_for, lambda: (c := counts_of(server)).active == 0 and c, "the jobs to end")
    assert counts.accepted == counts.results + counts.errors, counts


@pytest.mark.timeout(7200)
async def test_a_client_busy_in_a_handler_stays(
    apart: StartApart, client: Connect, figures: Figures, tiny: bytes
) -> None:
    form = LONG if figures.soak else SHORT
    server = apart(PLUGINS, ping_interval_s=form.ping_interval_s, ping_timeout_s=form.ping_timeout_s)
    others = [Healthy(await client(server, f"other-{n}", ping_interval=None), f"other {n}") for n in range(4)]
    ledger = Ledger()
    busy = asyncio.create_task(asyncio.to_thread(asyncio.run, busy_client(server.port, tiny, form.busy_s, ledger)))
    await p99_ms_of(others, tiny, form.busy_s)
    await busy
    assert_balanced([ledger, *(one.ledger for one in others)], server)
    assert "cut off client=busy" not in server.log.read_text()


@pytest.mark.timeout(7200)
def test_one_that_reads_but_answers_no_ping_is_told_why(apart: StartApart, figures: Figures) -> None:
    form = LONG if figures.soak else SHORT
    server = apart(PLUGINS, ping_interval_s=form.ping_interval_s, ping_timeout_s=form.ping_timeout_s)
    with RawSocket(server.port).open("mute") as mute:
        mute.socket.settimeout(1.5 * form.cut_within_s)
        began = time.monotonic()
        opcode, payload = mute.next_frame()
        figures.add(SUITE, "mute is told the end after, s", time.monotonic() - began, form.cut_within_s)
    assert (opcode, payload[:2]) == (8, (1011).to_bytes(2, "big"))
    assert payload[2:]
    wait_for(lambda: "cut off client=mute " in server.log.read_text(), "the log to say so")
    assert f": 1011 {payload[2:].decode()}" in server.log.read_text()


async def warm_up(client: SeedClient, image: bytes) -> None:
    """What large results cost every server, whoever reads them."""
    for number in range(4):
        await client.analyze(f"first {number}", image, "large")


async def busy_client(port: int, image: bytes, busy_s: float, ledger: Ledger) -> None:
    """Its handler of the first result takes its time, and its loop stands still meanwhile."""
    url = f"ws://127.0.0.1:{port}/ws/busy"
    async with connect(url, max_size=None, compression=None, proxy=None, ping_interval=None) as socket:
        client = SeedClient(socket)
        await client.send({"type": "subscribe", "topic": "all"})
        for number in range(20):
            await client.frame(ledger.send(f"busy {number}"), image, "large")
        while ledger.unanswered or len(ledger.last_words) < len(ledger.accepted):
            message = await client.next()
            if message.get("frame_id") in ledger.sent:  # it hears of the others' frames, too
                ledger.hear(message)
                if message["type"] == "frame_result" and len(ledger.terminals) == 1:
                    time.sleep(busy_s)  # noqa: ASYNC251 -- it is what is tested


def ends_of(server: Apart, client_ids: tuple[str, ...], within_s: float) -> dict[str, float]:
    """How long from now it takes each client to be cut off with a reason."""
    began = time.monotonic()
    after_s: dict[str, float] = {}

    def all_cut() -> bool:
        log = server.log.read_text()
        for client_id in client_ids:
            if client_id not in after_s and re.search(rf"cut off client={client_id} session=\w+: \w", log):
                after_s[client_id] = time.monotonic() - began
        return len(after_s) == len(client_ids)

    wait_for(all_cut, f"the log to say of {client_ids} that they were cut, and why", 1.5 * within_s)
    return after_s
