"""What plugins write to stdout and stderr in a worker ends in the log, whole lines and floods alike."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forgesyte_nb.engines.worker_output import WorkerOutput
from tests.engines.conftest import Bench, Open


@pytest.fixture
async def loud(open_bench: Open) -> Bench:
    return open_bench("processes", workers=1)


async def test_what_is_printed_comes_with_the_outcome(loud: Bench) -> None:
    loud.cell(
        "import sys\n@fs.plugin\ndef prints(frame):\n    print('to stdout', 1)\n"
        "    print('to stderr \\udcff', file=sys.stderr)\n"
        "    return {}\n@fs.plugin\ndef quiet(frame): return {}"
    )
    outcome = await loud.outcome(loud.submit("prints"))
    assert outcome.output == "to stdout 1\nto stderr \\udcff\n"
    assert (await loud.outcome(loud.submit("quiet"))).output == ""


async def test_what_is_printed_before_an_exception_is_not_lost(loud: Bench) -> None:
    loud.cell("@fs.plugin\ndef fails(frame):\n    print('so far')\n    raise ValueError")
    assert (await loud.outcome(loud.submit("fails"))).output == "so far\n"


async def test_a_flood_is_cut_and_the_next_frame_has_room_again(loud: Bench) -> None:
    loud.cell("@fs.plugin\ndef floods(frame):\n    for _ in range(3000): print('x' * 1000)\n    return {}")
    for _ in range(2):
        output = (await loud.outcome(loud.submit("floods"))).output
        assert 60_000 < len(output) < 70_000
        assert output.endswith("… (the rest is cut)\n")


async def test_a_logging_handler_made_early_still_writes_later(loud: Bench) -> None:
    loud.cell(
        "import logging, sys\n@fs.plugin\nclass logs:\n    def setup(self, ctx):\n"
        "        print('while setting up')\n        self.log = logging.getLogger('mine')\n"
        "        self.log.addHandler(logging.StreamHandler())\n"
        "    def process(self, frame):\n        self.log.warning('frame %s', frame.seq)\n        return {}"
    )
    for number in range(3):
        assert (await loud.outcome(loud.submit("logs"))).output == f"frame {number}\n"
    assert "logs printed: while setting up\n" in loud.logs


async def test_what_goes_past_python_is_logged(loud: Bench) -> None:
    loud.cell(
        "import os, subprocess, sys\n@fs.plugin\ndef deep(frame):\n    os.write(1, b'from below\\n"
        "')\n    os.write(2, b'\\xff\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n"
        "    subprocess.run(['echo', 'handed on'], stdout=sys.stdout)\n"
        "    sys.stdout.buffer.write(b'bytes\\n')\n    sys.stdout.buffer.flush()\n    return {}"
    )
    assert await loud.run("deep") == {}
    for said in ("from below", "from a child", "handed on", "bytes"):
        await loud.until(lambda said=said: any(said in line for line in loud.logs), said)
    assert all(line.startswith("worker wrote: ") for line in loud.logs)


async def test_a_flood_from_below_is_cut_and_blocks_nobody(loud: Bench) -> None:
    loud.cell(
        "import os\n@fs.plugin\ndef floods(frame):\n    for _ in range(500): os.write(1, b'y' * 10_000)\n    return {}"
    )
    assert await loud.run("floods") == {}
    await loud.until(lambda: any("(the rest is cut)" in line for line in loud.logs), "the cut")
    assert sum(map(len, loud.logs)) < 100_000
    assert await loud.run("floods") == {}


async def test_last_words_of_a_crash_are_logged(loud: Bench) -> None:
    loud.cell("import os\n@fs.plugin\ndef dies(frame):\n    os.write(2, b'Fatal: out of paper')\n    os._exit(1)")
    await loud.error(loud.submit("dies"))
    await loud.until(lambda: any("out of paper" in line for line in loud.logs), "the last words")


async def test_log_lines_of_a_plugin_are_bounded_and_can_be_said(bench: Bench) -> None:
    bench.cell(
        "@fs.plugin\ndef logs(frame, *, ctx):\n    ctx.log('\\udcff' + 'z' * 10_000_000)\n"
        "    ctx.log({'n': 1})\n    return {}"
    )
    await bench.run("logs")
    await bench.until(lambda: "logs {'n': 1}" in bench.logs, "the lines")
    assert bench.logs[0].startswith("logs \\udcffzzz")
    assert len(bench.logs[0]) < 70_000


async def test_the_kernels_own_streams_are_left_alone(bench: Bench) -> None:
    before = sys.stdout, sys.stderr
    bench.cell("@fs.plugin\ndef quiet(frame): return {}")
    await bench.run("quiet")
    assert (sys.stdout, sys.stderr) == before


def test_what_pillow_logs_of_a_damaged_file_is_not_printed_in_the_kernel() -> None:
    code = (
        "import logging, forgesyte_nb.image.frame\n"
        "logging.getLogger('PIL.TiffImagePlugin').warning('more samples per pixel than can be decoded')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


async def test_a_workers_own_output_is_cut_while_it_floods_and_read_again_after() -> None:
    now, lines = [0.0], list[str]()
    output = WorkerOutput(lambda _plugin, text: lines.append(text), set(), lambda: now[0])
    for _ in range(100):
        output.data_received(b"x" * 10_000)
    assert sum(map(len, lines)) < 70_000
    assert lines[-1].endswith("… (the rest is cut)")
    told = len(lines)
    now[0] += 60.0
    output.data_received(b"the flood is over\n")
    assert lines[told:] == ["wrote: the flood is over"]
