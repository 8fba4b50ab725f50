"""Workers killed with SIGKILL, busy or idle, again and again: it costs the frame that had started, and nothing else.

The plugin writes down each frame that it starts and ends, in a file of its worker's process, so that blame does not
rest on the server's word. Workers are killed in turn in three ways: busy (stopped first, so that what it is at is
certain: that frame must fail), idle (while no frame is under way: none may fail), and at any moment (the frame it had
started last may fail, or one that it had not come to write down).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.chaos.apart import Apart
from tests.chaos.conftest import BookedClient, OpenBooked, StartApart
from tests.chaos.ledger import assert_balanced
from tests.conftest import PATIENCE_S
from tests.figures import Figures

SUITE = "a worker killed, busy or idle, again and again"
PLUGINS = """
import os, time
import forgesyte_nb as fs

@fs.plugin
def tells(frame, *, folder: str, ms: float) -> dict:
    note = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(note, f"{time.monotonic()} started {frame.frame_id}\\n".encode())
    time.sleep(ms / 1000)
    os.write(note, f"{time.monotonic()} ended {frame.frame_id}\\n".encode())
    os.close(note)
    return {}
"""
IN_FLIGHT = 8
LANES = 2


@dataclass
class Notes:
    """What workers wrote down.

    Attributes:
        folder: Where they do.
    """

    folder: Path

    def of(self, pid: int) -> list[tuple[float, str, str]]:
        """Monotonic seconds, "started" or "ended", and the frame; of one worker, in order."""
        path = self.folder / str(pid)
        lines = path.read_text().splitlines() if path.exists() else []
        parted = (line.split(maxsplit=2) for line in lines)
        return [(float(at), what, frame_id) for at, what, frame_id in parted]

    def all(self) -> dict[int, list[tuple[float, str, str]]]:
        """By worker, for those that have started a frame."""
        return {int(path.name): self.of(int(path.name)) for path in self.folder.iterdir()}


@dataclass
class Kills:
    """What was killed.

    Attributes:
        lanes_at: When lanes were killed, monotonic seconds.
        must_fail: Frames that were certainly at work on a killed worker.
        may_fail: Frames that a worker which was killed at any moment had started last.
        any_moment: Workers killed at any moment.
        idle: Workers killed while no frame was under way.
    """

    lanes_at: list[float] = field(default_factory=list)
    must_fail: set[str] = field(default_factory=set)
    may_fail: set[str] = field(default_factory=set)
    any_moment: int = 0
    idle: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.must_fail) + self.any_moment + self.idle


class Killer:
    """Kills workers of a server, in the ways and in the turn that the module names.

    Attributes:
        kills: What it has done.
        pause: Cleared while clients are to send nothing.
    """

    def __init__(self, server: Apart, notes: Notes) -> None:
        self._server = server
        self._notes = notes
        self._turns = itertools.count()
        self.kills = Kills()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def kill_one(self, clients: list[BookedClient]) -> None:
        """Kill the next worker."""
        turn = next(self._turns)
        if turn % 3 == 0:
            await self._kill_busy()
        elif turn % 3 == 1:
            await self._kill_idle(clients, spare=turn % 2 == 0)
        else:
            self._kill_any()

    async def _kill_busy(self) -> None:
        """Stop lanes until one is caught in the middle of a frame."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for pid in self.lanes():
                os.kill(pid, signal.SIGSTOP)
                while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
                    await asyncio.sleep(0)
                _, what, frame_id = self._notes.of(pid)[-1]
                if what == "started":
                    self.kills.must_fail.add(frame_id)
                    self._kill_lane(pid)
                    return
                os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.001)
        raise AssertionError("no worker was ever busy")

    async def _kill_idle(self, clients: list[BookedClient], *, spare: bool) -> None:
        """Have the clients pause, and kill a lane or the spare when all is answered."""
        self.go_on.clear()
        for client in clients:
            await client.answered()
        lanes = self.lanes()
        spares = [pid for pid in self._server.workers if pid not in lanes]
        self.kills.idle += 1
        if spares and (spare or not lanes):
            os.kill(spares[0], signal.SIGKILL)
        else:
            self._kill_lane(lanes[0])
        self.go_on.set()

    def _kill_any(self) -> None:
        lanes = self.lanes()
        if not lanes:
            return
        self.kills.any_moment += 1
        pid = lanes[self.kills.any_moment % len(lanes)]
        self._kill_lane(pid)
        started = [frame_id for _, what, frame_id in self._notes.of(pid) if what == "started"]
        self.kills.may_fail.update(started[-1:])

    def _kill_lane(self, pid: int) -> None:
        self.kills.lanes_at.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)

    def lanes(self) -> list[int]:
        """Workers that have had frames, those that have had them longest first."""
        worked = self._notes.all()
        return sorted((pid for pid in self._server.workers if worked.get(pid)), key=lambda pid: worked[pid][0])


async def send(client: BookedClient, killer: Killer, notes: Notes, image: bytes, count: int) -> None:
    """Keep `IN_FLIGHT` frames under way until `count` have been sent, of 1 to 60 ms each."""
    for number in range(count):
        await client.until(lambda: len(client.ledger.sent) - len(client.ledger.answered) < IN_FLIGHT, "room")
        await killer.go_on.wait()
        options = {"folder": str(notes.folder), "ms": (1, 5, 60, 30, 20, 2, 45)[number % 7]}
        await client.frame(image, "tells", options)


async def kill_while(
    sending: asyncio.Task[None], killer: Killer, clients: list[BookedClient], *, every_frames: int, every_s: float
) -> None:
    """Kill after so many answers, and not before so much time, as long as frames are sent."""
    while not sending.done():
        end, done = time.monotonic() + every_s, sum(len(client.ledger.terminals) for client in clients)

        def due(end: float = end, done: int = done) -> bool:
            answers = sum(len(client.ledger.terminals) for client in clients) - done
            return sending.done() or (answers >= every_frames and time.monotonic() >= end)

        await clients[0].until(due, "answers")
        if not sending.done():
            await killer.kill_one(clients)


async def until_lanes_are_back(killer: Killer, client: BookedClient, notes: Notes, image: bytes) -> None:
    """Send until every lane has had a frame, so that each kill has its replacement in the notes."""
    end = time.monotonic() + PATIENCE_S
    while len(killer.lanes()) < LANES:
        assert time.monotonic() < end, "waited in vain for the last lane to come back"
        for _ in range(2 * LANES):
            await client.frame(image, "tells", {"folder": str(notes.folder), "ms": 20})
        await client.answered()


def innocent_failures(kills: Kills, clients: list[BookedClient], notes: Notes) -> set[str]:
    """Frames that failed though no killed worker had started them last."""
    failed = {frame_id for client in clients for frame_id in client.ledger.errors()}
    assert kills.must_fail <= failed, "a frame has a result whose worker was killed in the middle of it"
    accused = failed - kills.must_fail
    written = {frame_id for lines in notes.all().values() for _, _, frame_id in lines}
    begun_unwritten = accused - written
    guilty = (accused & kills.may_fail) | begun_unwritten
    assert len(guilty) <= kills.any_moment, "one kill cost more than one frame"
    return accused - guilty


@pytest.mark.timeout(7200)
async def test_kills_cost_only_the_frame_that_had_started(
    apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures, tmp_path: Path
) -> None:
    frames, every_frames, every_s = (2000, 1, 0.5) if figures.soak else (150, 10, 0.0)
    notes = Notes(tmp_path / "notes")
    notes.folder.mkdir()
    server = apart(PLUGINS, workers=LANES)
    clients = [await booked(server, name) for name in ("one", "two")]
    killer = Killer(server, notes)
    sending = asyncio.ensure_future(
        asyncio.gather(*(send(client, killer, notes, jpeg, frames // len(clients)) for client in clients))
    )
    began = time.monotonic()
    await clients[0].until(lambda: len(killer.lanes()) == LANES, "both lanes to work")
    await kill_while(sending, killer, clients, every_frames=every_frames, every_s=every_s)
    await sending
    for client in clients:
        await client.answered()
    spent_s = time.monotonic() - began
    await until_lanes_are_back(killer, clients[0], notes, jpeg)

    ledgers, kills = [client.ledger for client in clients], killer.kills
    assert_balanced(ledgers, server)
    assert min(len(kills.must_fail), kills.any_moment, kills.idle) >= (10 if figures.soak else 1)
    innocent = innocent_failures(kills, clients, notes)
    assert innocent == set()
    errors = [error for ledger in ledgers for error in ledger.errors().values()]
    assert all(error["error_code"] == "PLUGIN_ERROR" and "SIGKILL" in error["message"] for error in errors)
    started = Counter(name for lines in notes.all().values() for _, what, name in lines if what == "started")
    assert set(started.values()) == {1}, "no frame is run twice"
    back_at = sorted(lines[0][0] for lines in notes.all().values())[LANES:]
    assert len(back_at) == len(kills.lanes_at)
    back_s = [back - killed for back, killed in zip(back_at, kills.lanes_at, strict=True)]

    lost = sum(len(ledger.unanswered) for ledger in ledgers)
    figures.add(SUITE, f"frames lost, of {sum(len(ledger.sent) for ledger in ledgers)}", lost, 0)
    figures.add(SUITE, f"innocent failures, of {len(errors)}", len(innocent), 0)
    figures.add(SUITE, "worker back, s, at the most", max(back_s), 1.0)
    figures.add(SUITE, f"s between kills, of {kills.count}", spent_s / kills.count)
