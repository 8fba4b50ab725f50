"""However a server, its process or its kernel ends, nothing is left: and nobody's frame pays for an interrupt.

A server is started and closed again and again in a process that then counts what it holds; a real kernel is restarted,
interrupted and killed while frames flow; a process that was forked from a kernel outlives it. What is looked at are the
operating system's own lists: descriptors, threads, processes, shared memory, and whether the port can be bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.chaos.apart import Apart
from tests.chaos.conftest import BookedClient, OpenBooked, StartApart
from tests.chaos.kernels import Kernel
from tests.chaos.ledger import Ledger, assert_balanced
from tests.conftest import PATIENCE_S, run_cell, wait_for
from tests.figures import Figures

ENDS = "serve() and close(), again and again"
KERNELS = "a kernel restarted, interrupted, killed"
PORT_FREE_S = 2.0
IN_FLIGHT = 6
CELL = """
import time
import forgesyte_nb as fs

@fs.plugin
def slow(frame) -> dict:
    end = time.monotonic() + 0.03
    while time.monotonic() < end: pass
    return {"size": list(frame.size_wh)}

@fs.plugin
def stuck(frame) -> dict:
    import ctypes
    ctypes.PyDLL(None).sleep(600)  # with the GIL held
    return {}
"""
OPENS = (
    CELL
    + """
import asyncio, gc, json, os, sys, threading
import cv2, numpy, psutil  # with threads of their own, which stay

def inventory():
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try: links.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except OSError: pass  # the listing's own
    maps = open("/proc/self/maps").read()
    tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]
    children = psutil.Process().children(recursive=True)
    return {
        "descriptors": sorted(links),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "system threads": psutil.Process().num_threads(),
        "asyncio tasks": len(tasks),
        "processes": sorted(child.pid for child in children),
        "shared memory": maps.count("memfd:forgesyte"),
    }

server = None
for line in sys.stdin:
    if line.startswith("serve"):
        server = fs.serve(port=int(line.split()[1]), settings=fs.Settings(workers=2))
        print(json.dumps({"port": server.port}), flush=True)
    elif line.startswith("close"):
        server.close()
        print(json.dumps(inventory()), flush=True)
    elif line.startswith("fork"):
        if (child := os.fork()) == 0:
            sys.exit()
        print(json.dumps({"exit code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)
    else:
        print(json.dumps(inventory()), flush=True)
"""
)


def seconds_until_free(port: int) -> float:
    """How long it takes until somebody else can listen on a port, on both loopback addresses."""
    began = time.monotonic()

    def bound() -> bool:
        try:
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections may linger
                    one.bind((host, port))
                    one.listen()
        except OSError:
            return False
        return True

    wait_for(bound, f"port {port} to be free")
    return time.monotonic() - began


def until_gone(processes: list[psutil.Process]) -> float:
    """Wait until processes have ended; how long that took."""
    began = time.monotonic()

    def is_alive(process: psutil.Process) -> bool:
        try:  # whoever inherits an orphan may take its time to read how it ended
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    wait_for(lambda: not any(is_alive(process) for process in processes), "processes to end")
    return time.monotonic() - began


async def send_while(client: BookedClient, image: bytes) -> None:
    """Keep frames under way until one is refused or the connection ends."""
    ledger = client.ledger
    with contextlib.suppress(ConnectionClosed):
        while not ledger.refusals and not client.reading.done():
            if len(ledger.sent) - len(ledger.answered) < IN_FLIGHT:
                await client.frame(image, "slow")
            await asyncio.sleep(0.001)


def assert_accepted_are_answered(ledger: Ledger) -> None:
    """As `assert_balanced`, where the connection ended while frames were on their way to the server."""
    assert ledger.strange == []
    assert set(ledger.accepted) == set(ledger.terminals)
    assert ledger.repeats == 0


class Opener:
    """A process that serves and closes when it is told to, and says what it holds."""

    def __init__(self, folder: Path) -> None:
        (folder / "opens.py").write_text(OPENS)
        self._process = subprocess.Popen(
            [sys.executable, "opens.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, command: str) -> Any:
        """Give a command; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close_server(self, before: Any) -> None:
        """Have it close its server; then it holds what it held before, at once but for threads that are ending."""
        native = before["system threads"]  # OpenBLAS ends its own when the process forks
        after = self.tell("close")
        end = time.monotonic() + PATIENCE_S
        while {**after, "system threads": max(native, after["system threads"])} != before:
            assert time.monotonic() < end, (after, before)
            after = self.tell("inventory")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(PATIENCE_S) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Such a process, which ends with the test."""
    process = Opener(tmp_path)
    yield process
    process.close()


@dataclass
class Listening:
    """Where a server listens."""

    port: int


@pytest.mark.timeout(7200)
async def test_serve_and_close_leave_nothing(opener: Opener, booked: OpenBooked, jpeg: bytes, figures: Figures) -> None:
    """At once, with a client that is at rest, and with frames under way."""
    rounds = 200 if figures.soak else 15
    before = await asyncio.to_thread(opener.tell, "inventory")
    port, free_s, accepted = 0, 0.0, 0
    for number in range(rounds):
        port = (await asyncio.to_thread(opener.tell, f"serve {port}"))["port"]
        clients = [await booked(Listening(port), f"round-{number}")] if number % 3 else []
        sending = [asyncio.create_task(send_while(client, jpeg)) for client in clients if number % 3 == 2]
        for client in clients:
            if number % 3 == 1:
                await client.frame(jpeg, "slow")
            await client.until(lambda one=client: one.ledger.results, "a result")
        await asyncio.to_thread(opener.close_server, before)
        free_s = max(free_s, await asyncio.to_thread(seconds_until_free, port))
        await asyncio.gather(*sending, *(client.reading for client in clients))
        for client in clients:
            assert_accepted_are_answered(client.ledger)
            assert client.client.socket.close_code == 1001
            accepted += len(client.ledger.accepted)
    assert free_s <= PORT_FREE_S
    figures.add(ENDS, f"descriptors, threads, tasks, processes, memory left after {rounds} times", 0, 0)
    figures.add(ENDS, f"accepted frames without an answer, of {accepted}", 0, 0)
    figures.add(ENDS, "s until the port is free, at the most", free_s, PORT_FREE_S)


@pytest.mark.parametrize("engine", ["processes", "threads"])
async def test_at_the_end_frames_are_refused_drained_and_answered(
    serve_on: Callable[..., fs.Server], booked: OpenBooked, jpeg: bytes, tmp_path: Path, engine: str
) -> None:
    go_on, registry = tmp_path / "go on", Registry()
    run_cell(
        "import os, time\n"
        "@fs.plugin\n"
        "def waits(frame, *, path: str):\n"
        "    while not os.path.exists(path): time.sleep(0.005)\n"
        "    return {}\n",
        registry,
    )
    server = serve_on(registry, engine=engine, workers=2, drain_timeout_s=2.0)
    client = await booked(server)
    drained, stuck = {"path": str(go_on)}, {"path": str(tmp_path / "the end")}
    quick = [await client.frame(jpeg, "waits", drained) for _ in range(3)]
    await client.until(lambda: client.ledger.started_at, "the first to start")
    closing = threading.Thread(target=server.close)
    began = time.monotonic()
    late: list[str] = []
    slow = [await client.frame(jpeg, "waits", stuck) for _ in range(3)]
    await client.until(lambda: len(client.ledger.accepted) == 6, "all to be accepted")
    closing.start()
    while not client.ledger.refusals:
        late.append(await client.frame(jpeg, "waits", stuck))
        await client.until(lambda: late[-1] in {*client.ledger.refusals, *client.ledger.accepted.values()}, "a word")
    go_on.touch()
    await client.reading
    spent_s = time.monotonic() - began
    (tmp_path / "the end").touch()  # lets go of the thread that cannot be killed
    await asyncio.to_thread(closing.join)

    ledger = client.ledger
    assert_balanced([ledger])
    assert set(ledger.results) == set(quick), "what could end within the limit has a result"
    assert set(ledger.errors("QUEUE_FULL")) == {*slow, *late[:-1]}, "the rest is answered"
    assert all("the server was closed before" in error["message"] for error in ledger.errors().values())
    assert ledger.refusals[late[-1]]["error_code"] == "QUEUE_FULL"
    assert "closing" in ledger.refusals[late[-1]]["message"]
    assert client.client.socket.close_code == 1001
    assert 2.0 <= spent_s < 2.0 + PATIENCE_S


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel with a server, which ends with the test."""
    with Kernel(tmp_path, CELL) as running:
        yield running


@pytest.mark.timeout(7200)
async def test_a_kernel_that_is_restarted_leaves_nothing(
    kernel: Kernel, booked: OpenBooked, jpeg: bytes, figures: Figures
) -> None:
    """Asked to end, it answers what it has accepted, even what is stuck; by force, it cannot."""
    rounds = 50 if figures.soak else 3
    free_s, gone_s, answered = 0.0, 0.0, 0
    for number in range(rounds):
        client = await booked(kernel, f"round-{number}")
        sending = asyncio.create_task(send_while(client, jpeg))
        await client.until(lambda one=client: len(one.ledger.results) > IN_FLIGHT, "results")
        stuck = [await client.frame(jpeg, "stuck")] if number % 3 == 2 else []
        await client.until(
            lambda one=client, names=stuck: {*names} <= {*one.ledger.started_at}, "the stuck one's start"
        )
        family, by_force = kernel.family, number % 3 == 1
        assert len(family) >= 3, "a kernel and its workers"
        await asyncio.to_thread(kernel.restart, by_force=by_force)
        gone_s = max(gone_s, await asyncio.to_thread(until_gone, family))
        free_s = max(free_s, await asyncio.to_thread(seconds_until_free, kernel.port))
        await asyncio.gather(sending, client.reading)
        if not by_force:
            assert_accepted_are_answered(client.ledger)
            assert client.client.socket.close_code == 1001
            assert set(client.ledger.errors()) == set(stuck), "whatever could end has a result"
            answered += len(client.ledger.terminals)
        await asyncio.to_thread(kernel.serve)
    assert free_s <= PORT_FREE_S
    figures.add(KERNELS, f"accepted frames without an answer, of {answered}, after restarts that ask", 0, 0)
    figures.add(KERNELS, f"s until all processes are gone after {rounds} restarts, at the most", gone_s)
    figures.add(KERNELS, "s until the port is free, at the most", free_s, PORT_FREE_S)


@pytest.mark.timeout(7200)
async def test_interrupts_hurt_no_frame(
    kernel: Kernel, booked: OpenBooked, jpeg: bytes, figures: Figures, tmp_path: Path
) -> None:
    """The stop button sends SIGINT to the kernel's whole process group, in the middle of frames."""
    rounds = 100 if figures.soak else 8
    client = await booked(kernel)
    ended = asyncio.Event()

    async def send() -> None:
        while not ended.is_set():
            await client.until(lambda: len(client.ledger.sent) - len(client.ledger.answered) < IN_FLIGHT, "room")
            await client.frame(jpeg, "slow")

    sending = asyncio.create_task(send())
    workers = set(await asyncio.to_thread(lambda: kernel.workers))
    for number in range(rounds):
        began, results = tmp_path / f"began {number}", len(client.ledger.results)
        kernel.start(f"open({str(began)!r}, 'w').close()\nwhile True: pass")
        await client.until(began.exists, "the cell to begin")
        await client.until(lambda results=results: len(client.ledger.results) > results, "a result meanwhile")
        await asyncio.to_thread(kernel.interrupt)
    ended.set()
    await sending
    await client.answered()
    assert_balanced([client.ledger], kernel)
    hurt = client.ledger.errors()
    assert hurt == {}
    assert workers <= set(await asyncio.to_thread(lambda: kernel.workers)), "no worker had to be replaced"
    sent = len(client.ledger.sent)
    figures.add(KERNELS, f"frames hurt by {rounds} interrupts, of {sent}", len(hurt), 0)


async def test_a_process_that_is_killed_leaves_nothing(
    apart: StartApart, booked: OpenBooked, jpeg: bytes, figures: Figures
) -> None:
    """Its workers are in C code that holds the GIL and notice nothing: the system ends them."""
    server: Apart = apart(CELL)
    client = await booked(server)
    for _ in range(2):
        await client.frame(jpeg, "stuck")
    await client.until(lambda: len(client.ledger.started_at) == 2, "both workers to be stuck")
    family = [psutil.Process(pid) for pid in server.processes]
    await asyncio.to_thread(server.kill)
    gone_s = await asyncio.to_thread(until_gone, family)
    free_s = await asyncio.to_thread(seconds_until_free, server.port)
    await client.reading
    assert free_s <= PORT_FREE_S
    figures.add(KERNELS, "s until workers are gone after kill -9, at the most", gone_s)
    figures.add(KERNELS, "s until the port is free after kill -9, at the most", free_s, PORT_FREE_S)


FORKS = {
    "os.fork": """
import os, sys
child = os.fork()
if child == 0:
    while not os.path.exists({end!r}): time.sleep(0.01)
    open({done!r}, "w").close()
    os._exit(0)
print(child)
""",
    "multiprocessing": """
import multiprocessing, os
def waits():
    while not os.path.exists({end!r}): time.sleep(0.01)
    open({done!r}, "w").close()
child = multiprocessing.get_context("fork").Process(target=waits)
child.start()
print(child.pid)
""",
}


@pytest.mark.parametrize("how", FORKS)
async def test_a_fork_holds_nothing_when_its_kernel_has_gone(
    kernel: Kernel, booked: OpenBooked, jpeg: bytes, tmp_path: Path, how: str
) -> None:
    end, done = tmp_path / "end", tmp_path / "done"
    client = await booked(kernel)
    await client.frame(jpeg, "slow")
    await client.answered()
    child = psutil.Process(int(await asyncio.to_thread(kernel.run, FORKS[how].format(end=str(end), done=str(done)))))
    for _ in range(4):
        await client.frame(jpeg, "slow")
    await client.answered()
    assert_balanced([client.ledger], kernel)
    family = [one for one in kernel.family if one.pid != child.pid]
    await asyncio.to_thread(kernel.kill)
    await asyncio.to_thread(until_gone, family[1:])
    async with asyncio.timeout(PATIENCE_S):
        await client.reading
    assert await asyncio.to_thread(seconds_until_free, kernel.port) <= PORT_FREE_S
    assert child.is_running(), "all this while the child lives"
    end.touch()
    await asyncio.to_thread(until_gone, [child])
    assert done.exists(), "it ended by itself"


async def test_a_fork_that_ends_as_any_program_does_ends_nothing_else(
    opener: Opener, booked: OpenBooked, jpeg: bytes
) -> None:
    """`sys.exit` runs what its parent has registered for the end."""
    before = await asyncio.to_thread(opener.tell, "inventory")
    port = (await asyncio.to_thread(opener.tell, "serve 0"))["port"]
    client = await booked(Listening(port))
    for _ in range(3):
        await client.frame(jpeg, "slow")
        await client.answered()
        assert await asyncio.to_thread(opener.tell, "fork") == {"exit code": 0}
    await client.frame(jpeg, "slow")
    await client.answered()
    assert_balanced([client.ledger], Listening(port))
    assert client.ledger.errors() == {}
    await asyncio.to_thread(opener.close_server, before)
