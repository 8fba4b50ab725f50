"""The figures that suites print: what was measured, what it should be, and by which test.

A suite takes the fixture `figures` and says `figures.add("worker kills", "frames lost", lost, 0)`. The invariants
themselves are asserted by the test; a figure is for reading. All are shown at the end of the run and written to
`soak-output/figures.json`. `--soak` asks for the long form of each suite (`make soak`); without it a test runs its
short form, which is the same test with smaller numbers.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

OUTPUT = Path(__file__).resolve().parents[1] / "soak-output" / "figures.json"
SHORT_FORM_LIMIT_S = 600.0


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        suite: Which suite, in the words of the README's reliability table.
        what: What was measured, its unit included.
        measured: The number.
        target: What it should be at most; None if it is only told.
        test: The test that measured it.
        soak: Whether in the long form.
    """

    suite: str
    what: str
    measured: float
    target: float | None
    test: str
    soak: bool


class Figures:
    """Where one test puts its figures."""

    def __init__(self, book: list[Figure], test: str, *, soak: bool) -> None:
        self._book = book
        self._test = test
        self.soak = soak

    def add(self, suite: str, what: str, measured: float, target: float | None = None) -> None:
        """Say what was measured; `target` is the most it should be."""
        self._book.append(Figure(suite, what, round(float(measured), 3), target, self._test, self.soak))


_BOOK = pytest.StashKey[list[Figure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form of the chaos, fuzz and soak suites")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_BOOK] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Limit the short form of each test: a marker of two hours is for its long form."""
    if config.getoption("--soak"):
        return
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None and marker.args[0] > SHORT_FORM_LIMIT_S:
            item.add_marker(pytest.mark.timeout(SHORT_FORM_LIMIT_S), append=False)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    book = config.stash[_BOOK]
    if not book:
        return
    terminalreporter.section("figures")
    for one in book:
        target = "" if one.target is None else f"  (≤ {one.target:g}{'' if one.measured <= one.target else ', SHORT'})"
        terminalreporter.write_line(f"{one.suite}: {one.what}: {one.measured:g}{target}")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"machine": platform.platform(), "figures": [asdict(one) for one in book]}, indent=1))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where this test puts its figures; `figures.soak` says whether the long form is asked for."""
    book = request.config.stash[_BOOK]
    return Figures(book, request.node.nodeid, soak=request.config.getoption("--soak"))
