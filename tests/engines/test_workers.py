"""Worker processes as the engine sees them: their pipes, how they start, how they die, what they leave behind."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from forgesyte_nb.engines.lane_memory import PLACE_BYTES
from forgesyte_nb.errors import PluginError, ProcessingTimeout
from tests.conftest import encoded
from tests.engines.conftest import Open


async def test_engines_do_not_share_the_buffer_they_read_into(open_bench: Open) -> None:
    """Each server's engine has a loop thread of its own, and reading lets go of the GIL."""
    engines = [open_bench("processes").engine for _ in range(2)]
    buffers = [{id(worker.get_buffer(-1).obj) for worker in engine._workers} for engine in engines]  # type: ignore[attr-defined]
    assert [len(one) for one in buffers] == [1, 1]
    assert buffers[0] != buffers[1]


async def test_a_worker_that_cannot_be_started_is_tried_again(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell("import os\n@fs.plugin\ndef pid(frame): return {'pid': os.getpid()}")
    await bench.run("pid")
    workers: set[Any] = bench.engine._workers  # type: ignore[attr-defined]
    # The spare too: one that dies while it starts would be a third failure.
    await bench.until(lambda: len(workers) == 2 and all(worker.ready.is_set() for worker in workers), "the spare")
    open_files = len(os.listdir("/proc/self/fd"))
    start, failures = subprocess.Popen, [errno.EAGAIN, errno.ENOMEM]

    def scarce(*args: Any, **more: Any) -> Any:
        if failures:
            # Nothing that was opened for those that failed before is open still.
            assert len(os.listdir("/proc/self/fd")) < open_files + 8
            raise OSError(failures.pop(), "too little of everything")
        return start(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", scarce)
    killed = [worker.process.pid for worker in workers]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert (await bench.run("pid"))["pid"] not in killed
    assert not failures
    assert any("cannot start: [Errno" in line for line in bench.logs)


@pytest.mark.parametrize("maker", ["os.pipe", "os.memfd_create", "socket.socketpair", "mmap.mmap"])
async def test_an_engine_that_cannot_start_a_single_worker_starts_all_the_same(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch, maker: str
) -> None:
    module = importlib.import_module(maker.partition(".")[0])
    name = maker.partition(".")[2]
    make, failures = getattr(module, name), [errno.EMFILE]
    open_files = len(os.listdir("/proc/self/fd"))

    def scarce(*args: Any, **more: Any) -> Any:
        if failures:
            raise OSError(failures.pop(), "too many open files")
        return make(*args, **more)

    monkeypatch.setattr(module, name, scarce)
    bench = open_bench("processes", workers=1)
    assert not failures
    assert len(os.listdir("/proc/self/fd")) == open_files, "nothing is left open"
    bench.cell("@fs.plugin\ndef p(frame): return {'seq': frame.seq}")
    assert await bench.run("p") == {"seq": 0}


POLLS = """
import hashlib, threading, time

@fs.plugin("polls", timeout_s=30)
def polls(frame, ctx):
    end = time.perf_counter() + 0.02

    def look():
        while time.perf_counter() < end:
            assert not ctx.cancelled

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"sum": hashlib.sha256(frame.bytes).hexdigest()}
"""


async def test_threads_of_a_plugin_that_look_whether_they_are_cancelled_do_not_mix_up_what_comes(
    open_bench: Open,
) -> None:
    bench = open_bench("processes", workers=1, setup_timeout_s=5.0)
    bench.cell(POLLS)
    pixels = np.random.default_rng(1).integers(0, 256, (1000, 1000, 3), np.uint8)
    images = [encoded(np.roll(pixels, shift, axis=0), "BMP") for shift in range(32)]
    assert min(map(len, images)) > PLACE_BYTES, "they travel through the socket"
    jobs = [bench.submit("polls", image=image) for image in images]
    sums = [(await bench.result(job))["sum"] for job in jobs]
    assert sums == [hashlib.sha256(image).hexdigest() for image in images]


FORKS = """
import os, time

@fs.plugin
def dies(frame, *, keep: bool = False):
    if keep:  # as a library in C does that forks, which knows no hooks: all of the worker's descriptors live on
        for file in os.listdir("/proc/self/fd"):
            try:
                os.dup(int(file))
            except OSError:
                pass
    if not (child := os.fork()):
        time.sleep(600)
    with open(os.environ["FORGESYTE_TEST_CHILD"], "w") as file:
        file.write(str(child))
    os._exit(3)

@fs.plugin
def p(frame): return {"went": "well"}
"""


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("watched", [True, False])
async def test_a_forked_child_does_not_hide_the_death_of_its_worker(
    open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool, watched: bool
) -> None:
    """With descriptors of processes and without them, as on systems that have none."""
    if not watched:
        monkeypatch.setattr("forgesyte_nb.engines.child_process._open_process", lambda pid: -1)
    monkeypatch.setenv("FORGESYTE_TEST_CHILD", str(tmp_path / "child"))
    open_files = len(os.listdir("/proc/self/fd"))
    bench = open_bench("processes", workers=1)
    bench.cell(FORKS)
    try:
        assert "exit code 3" in str(await bench.error(bench.submit("dies", {"keep": keep})))
        assert await bench.run("p") == {"went": "well"}
        assert sum("exit code 3" in line for line in bench.logs) == 1
        await bench.engine.close()
        assert len(os.listdir("/proc/self/fd")) == open_files
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_threads_of_a_plugin_may_log_and_report_all_at_once(open_bench: Open) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(
        "import sys, threading\n"
        "@fs.plugin\n"
        "def chats(frame, *, ctx):\n"
        "    sys.setswitchinterval(1e-6)\n"
        "    def chat(name):\n"
        "        for number in range(50):\n"
        "            ctx.log(f'{name} {number} ' + name * 60000)\n"
        "    threads = [threading.Thread(target=chat, args=(name,)) for name in 'abcd']\n"
        "    for thread in threads: thread.start()\n"
        "    for number in range(50): ctx.progress(number)\n"
        "    for thread in threads: thread.join()\n"
        "    return {'ok': True}"
    )
    assert await bench.run("chats") == {"ok": True}
    said = [line.removeprefix("chats ") for line in bench.logs if line.startswith("chats ")]
    for name in "abcd":
        mine = [line for line in said if line.startswith(name)]
        assert [line.split()[1] for line in mine] == [str(number) for number in range(50)]
        assert {line.split()[2] for line in mine} == {name * 60000}


@pytest.mark.parametrize("words", [b"\1\0\0\0\0\0\0\0\x0e\xc1", b"a line of text\n"])
async def test_a_worker_whose_words_make_no_sense_is_replaced(open_bench: Open, words: bytes) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(
        "import os, stat, time\n"
        "@fs.plugin\n"
        "def garbles(frame):\n"
        "    for file in range(3, 100):\n"
        "        try:\n"
        "            if stat.S_ISSOCK(os.fstat(file).st_mode): os.write(file, words)\n"
        "        except OSError: continue  # not open\n"
        "    time.sleep(600)\n"
        "@fs.plugin\n"
        "def p(frame): return {'went': 'well'}",
        words=words,
    )
    assert "what it sent could not be read" in str(await bench.error(bench.submit("garbles")))
    assert await bench.run("p") == {"went": "well"}
    assert sum("could not be read" in line for line in bench.logs) == 1


async def test_a_file_in_the_working_directory_shadows_no_library(
    open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("cv2", "numpy", "socket", "msgspec"):
        (tmp_path / f"{library}.py").write_text("raise ImportError('not the library')")
    (tmp_path / "mine_alone.py").write_text("answer = 42")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    bench = open_bench("processes", workers=1)
    bench.cell("@fs.plugin\ndef p(frame):\n    import mine_alone, cv2\n    return {'answer': mine_alone.answer}")
    assert await bench.run("p") == {"answer": 42}


async def test_workers_that_die_before_they_are_ready_are_an_answer_and_come_back(
    open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "cv2.py"
    broken.write_text("raise ImportError('libGL.so.1 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bench = open_bench("processes")
    bench.cell("@fs.plugin\ndef p(frame): return {'went': 'well'}")
    jobs = [bench.submit("p", owner=owner) for owner in "abcdef"]
    for job in jobs:
        error = await bench.error(job)
        assert type(error) is PluginError
        assert "p: worker processes cannot start: its worker process ended itself with exit code 1" in str(error)
        assert "ImportError: libGL.so.1 is missing" in str(error)
    assert bench.engine.stats()["replaced"] < 30
    broken.unlink()
    assert await bench.run("p") == {"went": "well"}


async def test_a_time_limit_ends_the_processes_that_a_plugin_has_started(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(
        "import subprocess\n@fs.plugin(timeout_s=2.0)\ndef calls(frame, *, path: str):\n"
        "    subprocess.run(['sh', '-c', f'sleep 600 & echo $$ $! > {path}.new; mv {path}.new {path}; wait'])\n"
        "    return {}"
    )
    said = tmp_path / "pids"
    job = bench.submit("calls", {"path": str(said)})
    pids = [int(pid) for pid in (await bench.until(lambda: said.exists() and said.read_text(), "its pids")).split()]
    assert type(await bench.error(job)) is ProcessingTimeout
    await bench.until(lambda: not any(map(_is_alive, pids)), "their end")


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from Linux's /proc")
async def test_a_worker_gives_back_what_a_large_picture_took(open_bench: Open) -> None:
    bench = open_bench("processes", workers=1)
    bench.cell(
        "import os, time\nfrom PIL import Image\n"
        "@fs.plugin\n"
        "def swells(frame, *, large: bool = False):\n"
        "    if large:\n"
        "        pictures = [Image.new('RGB', (4000, 4000)) for _ in range(4)]\n"
        "        frame.decode_ms = 100.0  # as if it was decoded\n"
        "        kept = bytearray(100_000)  # on top of the heap\n"
        "        globals()['kept'] = kept\n"
        "    return {'pages': int(open('/proc/self/statm').read().split()[1])}"
    )
    before = (await bench.run("swells"))["pages"]
    assert (await bench.run("swells", {"large": True}))["pages"] > before + 50_000
    assert (await bench.run("swells"))["pages"] < before + 10_000
