"""Coverage-guided fuzzing of the parser, in a process of its own: it raises nothing but the errors of the wire."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.figures import Figures
from tests.fuzz.bad_pictures import seed_pictures
from tests.fuzz.fuzz_seeds import write_dictionary, write_seeds

ROOT = Path(__file__).resolve().parents[2]
_COUNT = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def fuzz(folder: Path, *options: str) -> tuple[int, int, str]:
    """Exit code, number of inputs, and what was printed."""
    corpus = folder / "corpus"
    corpus.mkdir()
    write_seeds(corpus, seed_pictures())
    write_dictionary(folder / "words")
    limits = ("-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", f"-dict={folder / 'words'}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_wire", *limits, *options, f"-artifact_prefix={folder}/", str(corpus)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = _COUNT.search(done.stderr)
    return done.returncode, int(found[1]) if found else 0, done.stderr + done.stdout


@pytest.mark.timeout(7200)
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 alone")
def test_nothing_but_the_errors_of_the_wire(tmp_path: Path, figures: Figures) -> None:
    runs = (
        [("-max_total_time=200",), ("--pillow", "-max_total_time=80")] if figures.soak else [("-runs=30000", "-seed=1")]
    )
    inputs = 0
    for number, options in enumerate(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        code, count, said = fuzz(folder, *options)
        assert code == 0, said[-4000:]
        inputs += count
    assert inputs >= 30_000
    figures.add("atheris on the parser", "inputs", inputs)
    figures.add("atheris on the parser", "crashes", 0, 0)
