"""What a cell made ends when the cell runs again, in a real shell."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from forgesyte_nb.workbench import cells

CODE = "made.append(cells.own(Thing()))"


class Thing:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def shell() -> Iterator[Any]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    shell.user_ns.update(cells=cells, Thing=Thing, made=[])
    yield shell
    InteractiveShell.clear_instance()


def test_running_a_cell_again_closes_what_it_made(shell: Any) -> None:
    made = shell.user_ns["made"]
    shell.run_cell("cells.own(Thing())")  # from now on it listens
    shell.run_cell(CODE, cell_id="a")
    shell.run_cell(CODE, cell_id="b")
    shell.run_cell(CODE, cell_id="b")
    assert [thing.closed for thing in made] == [False, True, False]
    shell.run_cell("1", cell_id="a")
    assert [thing.closed for thing in made] == [True, True, False]


def test_cells_without_a_name_close_nothing(shell: Any) -> None:
    made = shell.user_ns["made"]
    shell.run_cell(CODE)
    shell.run_cell(CODE)
    assert not any(thing.closed for thing in made)


def test_the_cell_that_runs_already_is_known() -> None:
    shell = SimpleNamespace(
        get_parent=lambda: {"metadata": {"cellId": "first"}}, events=SimpleNamespace(register=lambda *_: None)
    )
    watched = cells.Cells(shell)
    thing = Thing()
    watched.own(thing)
    watched._begin(SimpleNamespace(cell_id="first"))
    assert thing.closed
