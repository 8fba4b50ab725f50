"""Plugins that crash, hang, hold the GIL or shout, amid innocent frames of other plugins and clients: only they fail.

One client sends frames that crash their worker, hang, or print without end, in any order; two others send innocent
ones all the time. A plugin that hangs writes down when it starts, on the clock that all processes share, so that the
time it takes to be answered is told by its own start.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.apart import MIB, PeakMemory
from tests.chaos.conftest import BookedClient, OpenBooked, StartApart
from tests.chaos.ledger import assert_balanced
from tests.conftest import PATIENCE_S, wait_for
from tests.figures import Figures

SUITE = "segfault, OOM, loops, the GIL held, exits, floods"
IN_FLIGHT = 4
PLUGINS = """
import ctypes, os, re, resource, signal, socket, subprocess, sys, threading, time
import forgesyte_nb as fs

def segfault(): ctypes.string_at(0)
def aborts(): os.abort()
def exits(): os._exit(7)
def exits_well(): os._exit(0)
def raises_exit(): sys.exit(3)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def hangs_up(): os.closerange(3, 256); time.sleep(600)
def garbles(): [os.write(fd, b"x" * 64) for fd in sockets()]; time.sleep(600)
def sockets():
    def links(fd):
        try: return os.readlink(f"/proc/self/fd/{fd}")
        except OSError: return ""  # the listing's own
    return [int(fd) for fd in os.listdir("/proc/self/fd") if links(fd).startswith("socket:")]

def in_little_memory(greedy):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), before[1]))
    try:
        greedy()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

def hoards():
    kept = []
    while True: kept.append(bytearray(1 << 20))

def native_hoards():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while (at := libc.malloc(1 << 20)): ctypes.memset(at, 1, 1 << 20)
    ctypes.memset(None, 1, 1)  # as C code does that never looks at what malloc returns

def loops():
    while True: pass
def sleeps(): time.sleep(600)
def catches_all():
    while True:
        try:
            while True: pass
        except BaseException: pass
def holds_gil(): ctypes.PyDLL(None).sleep(600)
def holds_gil_regex(): re.match(r"(a+)+$", "a" * 64 + "b")
def stopped(): os.kill(os.getpid(), signal.SIGSTOP)
def deadlocks():
    lock = threading.Lock(); lock.acquire(); lock.acquire()
def ignores_signals():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
    loops()
def child_hangs(): subprocess.run(["sleep", "600"])
def prints_for_ever():
    while True: print("flood " * 1000)
def writes_for_ever():
    while True: os.write(1, b"flood " * 10_000)
def child_writes_for_ever(): subprocess.run(["yes", "flood"])

def prints_much():
    for _ in range(2000): print("flood " * 1000)
def writes_much():
    for _ in range(2000): os.write(2, b"flood " * 1000)

@fs.plugin
def hangs(frame, *, how: str, note: str) -> dict:
    with open(note, "a") as file: print(frame.frame_id, time.monotonic(), file=file)
    globals()[how]()
    return {}

@fs.plugin("crashes", timeout_s=60)
def crashes(frame, *, how: str) -> dict:
    do = globals()[how]
    in_little_memory(do) if "hoards" in how else do()
    return {}

@fs.plugin("well", timeout_s=60)
def well(frame) -> dict:
    time.sleep(0.01)
    return {"size": list(frame.size_wh)}

@fs.plugin("counts", timeout_s=60)
def counts(frame, *, state) -> dict:
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"], "seq": frame.seq}
"""
CRASHES = {
    "segfault": "SIGSEGV",
    "aborts": "SIGABRT",
    "exits": "exit code 7",
    "exits_well": "exit code 0",
    "raises_exit": "called sys.exit(3)",
    "killed": "SIGKILL",
    "garbles": "what it sent could not be read",
    "hoards": "MemoryError",
    "native_hoards": "SIGSEGV",
}
HANGS = (
    *("loops", "sleeps", "catches_all", "holds_gil", "holds_gil_regex", "stopped", "deadlocks", "ignores_signals"),
    *("child_hangs", "prints_for_ever", "writes_for_ever", "child_writes_for_ever", "hangs_up"),
)
SURVIVED = ("prints_much", "writes_much")


async def misbehave(client: BookedClient, image: bytes, rounds: int, note: Path) -> dict[str, str]:
    """Send frames of every way to go wrong, so many of each, in any order; how each goes wrong."""
    hows = [*CRASHES, *HANGS, *SURVIVED] * rounds
    random.Random(4).shuffle(hows)
    sent = {}
    for how in hows:
        await client.until(lambda: len(client.ledger.sent) - len(client.ledger.answered) < IN_FLIGHT, "room")
        hangs = how in HANGS
        options = {"how": how, "note": str(note)} if hangs else {"how": how}
        sent[await client.frame(image, "hangs" if hangs else "crashes", options)] = how
    await client.answered(10 * PATIENCE_S)
    return sent


async def behave(client: BookedClient, image: bytes, plugin: str, end: asyncio.Event) -> None:
    """Send innocent frames until the end."""
    while not end.is_set():
        await client.until(lambda: len(client.ledger.sent) - len(client.ledger.answered) < IN_FLIGHT, "room", 600)
        await client.frame(image, plugin)
    await client.answered()


def wrong_answers(how_of: dict[str, str], answers: dict[str, Any]) -> list[tuple[str, Any]]:
    """Frames that were not answered as they deserved."""

    def deserved(how: str, answer: Any) -> bool:
        if how in SURVIVED:
            return bool(answer["type"] == "frame_result")
        code, words = ("PROCESSING_TIMEOUT", "") if how in HANGS else ("PLUGIN_ERROR", CRASHES[how])
        return bool(answer["type"] == "error" and answer["error_code"] == code and words in answer["message"])

    return [
        (how, answers[frame_id].get("message"))
        for frame_id, how in how_of.items()
        if not deserved(how, answers[frame_id])
    ]


def overtime_s(note: Path, limit_s: float, answered_at: dict[str, float]) -> float:
    """By how much the slowest answer to a hanging frame was late."""
    started = dict(line.rsplit(maxsplit=1) for line in note.read_text().splitlines())
    return max(answered_at[frame_id] - float(at) - limit_s for frame_id, at in started.items())


@pytest.mark.timeout(7200)
async def test_only_the_frame_that_goes_wrong_fails(
    apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures, tmp_path: Path
) -> None:
    rounds, limit_s = (15, 1.0) if figures.soak else (1, 0.5)
    server = apart(PLUGINS, plugin_timeout_s=limit_s)
    bad, good, stateful = [await booked(server, name) for name in ("bad", "good", "stateful")]
    end = asyncio.Event()
    for client, plugin in ((good, "well"), (stateful, "counts")):
        await client.frame(jpeg, plugin)
        await client.answered()
    own = [server.process.pid]
    with PeakMemory(lambda: own) as memory:
        innocent = [asyncio.create_task(behave(good, jpeg, "well", end))]
        innocent.append(asyncio.create_task(behave(stateful, jpeg, "counts", end)))
        how_of = await misbehave(bad, jpeg, rounds, tmp_path / "note")
        end.set()
        await asyncio.gather(*innocent)

    assert_balanced([client.ledger for client in (bad, good, stateful)], server)
    assert wrong_answers(how_of, bad.ledger.answered) == []
    failed = {**good.ledger.errors(), **stateful.ledger.errors()}
    assert failed == {}
    seqs = [message["result"]["seq"] for message in stateful.ledger.results.values()]
    assert seqs == list(range(len(seqs))), "a stream stays in order"
    wait_for(lambda: len(server.processes) == 4, "all that plugins started to be gone, lanes and spare to be back")

    sent = len(good.ledger.sent) + len(stateful.ledger.sent)
    figures.add(SUITE, f"innocent frames that failed, of {sent} beside {len(how_of)} bad ones", len(failed), 0)
    late_s = overtime_s(tmp_path / "note", limit_s, bad.ledger.answered_at)
    figures.add(SUITE, "timeouts answered after their limit, s, at the most", late_s, 0.5)
    figures.add(SUITE, "MiB more in the server, at the most", memory.more_mib)
    figures.add(SUITE, "MiB of log", server.log.stat().st_size / MIB)
