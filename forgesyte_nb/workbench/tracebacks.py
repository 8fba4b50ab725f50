"""A plugin's traceback as one reads it in a notebook: cells by the numbers they have there, and the place that matters.

Tracebacks come as text, from whichever process the plugin ran in. Outside IPython they stay as they are.
"""

from __future__ import annotations

import linecache
import re
import sys
from typing import NamedTuple

from forgesyte_nb.engines.raised import is_library

_PLACE = re.compile(
    r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)'
    r"(?P<rest>\n    (?P<source>\S.*))?",
    re.MULTILINE,
)


class Place(NamedTuple):
    """Where something was raised.

    Attributes:
        where: "Cell In[7]", or the path of a file.
        line: Number of the line.
        function: Name of the function.
        source: The line itself; empty if it is not known.
    """

    where: str
    line: int
    function: str
    source: str

    def __str__(self) -> str:
        return f"{self.where}, line {self.line} in {self.function}"


def cell_name(path: str) -> str | None:
    """What IPython calls a cell, such as "Cell In[7]", by the name that its code goes by; None if it is no cell's."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    named = getattr(getattr(shell, "compile", None), "format_code_name", lambda _path: None)(path)
    return None if named is None else " ".join(named)


def with_cells(traceback: str) -> str:
    """A traceback that names cells as IPython does."""

    def named(found: re.Match[str]) -> str:
        cell = cell_name(found["file"])
        line = f"  {cell}, line {found['line']}, in {found['function']}{found['rest'] or ''}"
        return found[0] if cell is None else line

    return _PLACE.sub(named, traceback)


def place_in(traceback: str, said: str) -> Place | None:
    """The place that a message names by "(line 5 in coins)", else the innermost that is not in a library."""
    places = list(_PLACE.finditer(traceback))
    wanted = [one for one in places if f"(line {one['line']} in {one['function']})" in said]
    own = [one for one in places if not is_library(one["file"])]
    chosen = wanted or own or places
    return _place(chosen[-1]) if chosen else None


def _place(found: re.Match[str]) -> Place:
    path, line = found["file"], int(found["line"])
    # Only the lines of the plugin's own cell travel to a worker; this process may know those of others.
    source = found["source"] or linecache.getline(path, line).strip()
    return Place(cell_name(path) or path, line, found["function"], source)
