"""What a notebook cell made is closed when that cell runs again.

Running a cell again is the normal way to change something, and nobody closes what the first run left behind: a stream
would go on for ever, and its camera stay taken. `own(thing)` notes which cell is running; the next run of the same
cell closes it. Outside IPython, or where the front end names no cells, nothing happens.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """Something to close; twice is once."""

    def close(self) -> Any:
        """End it."""


Thing = TypeVar("Thing", bound=Closable)


class Cells:
    """Who made what, in one IPython shell."""

    def __init__(self, shell: Any) -> None:
        """Listen to a shell's cells."""
        self._made: dict[str, list[weakref.ref[Any]]] = {}
        self._running = _cell_id(shell)
        shell.events.register("pre_run_cell", self._begin)

    def own(self, thing: Closable) -> None:
        """The cell that runs now has made this."""
        if self._running:
            made = self._made.setdefault(self._running, [])
            made[:] = [ref for ref in made if ref() is not None]
            made.append(weakref.ref(thing))

    def _begin(self, info: Any) -> None:
        self._running = str(getattr(info, "cell_id", None) or "")
        for ref in self._made.pop(self._running, ()):
            thing = ref()
            if thing is not None:
                with contextlib.suppress(RuntimeError):  # its loop has ended before
                    thing.close()


def _cell_id(shell: Any) -> str:
    """Of the cell that runs already."""
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)()
    return str((parent.get("metadata") or {}).get("cellId") or "")


_cells: weakref.WeakKeyDictionary[Any, Cells] = weakref.WeakKeyDictionary()


def own(thing: Thing) -> Thing:
    """Close this when the cell that runs now is run again; returns it."""
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        cells = _cells.get(shell)
        if cells is None:
            cells = _cells[shell] = Cells(shell)
        cells.own(thing)
    return thing
