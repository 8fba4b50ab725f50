"""The limits of the tests' own time, where a property fails or a test does not end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.figures import SHORT_FORM_LIMIT_S

ROOT = Path(__file__).resolve().parents[2]

PROPERTY = """
import time
from hypothesis import given, strategies as st

@given(st.lists(st.binary(min_size=20), min_size=10))
def test_a_property(values):
    if sum(map(sum, values)) > 2000:
        time.sleep(2)
        raise AssertionError("refuted")
"""

LONG = """
import pytest

@pytest.mark.timeout(7200)
def test_a_form(request):
    print("limit", request.node.get_closest_marker("timeout").args[0])

def test_another():
    pass
"""


def run_tests(folder: Path, source: str, *options: str) -> str:
    """Run a file of tests under the configuration of this project; the output."""
    file = folder / "test_it.py"
    file.write_text(source)
    config = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "tests.conftest")
    command = [sys.executable, "-m", "pytest", *config, "-p", "no:cacheprovider", "-s", *options, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    return done.stdout + done.stderr


def test_a_property_that_fails_ends_at_its_counterexample(tmp_path: Path) -> None:
    """Shrinking this one takes minutes."""
    output = run_tests(tmp_path, PROPERTY, "--timeout=25")
    assert "test_a_property(\n" in output
    assert "values=[" in output, output
    assert "AssertionError: refuted" in output
    assert "Timeout" not in output


def test_a_marker_of_two_hours_is_for_the_long_form(tmp_path: Path) -> None:
    assert f"limit {SHORT_FORM_LIMIT_S}" in run_tests(tmp_path, LONG)
    assert "limit 7200" in run_tests(tmp_path, LONG, "--soak")


def test_a_run_that_takes_too_long_ends_and_says_so(tmp_path: Path) -> None:
    output = run_tests(tmp_path, LONG, "--session-timeout=0.001")
    assert "session-timeout: 0.001 sec exceeded" in output, output
    assert "1 passed" in output
