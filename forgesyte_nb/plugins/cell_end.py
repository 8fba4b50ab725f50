"""Registers a plugin when the names that it uses stand: at once, or when its notebook cell has run.

In IPython an error at the end of the cell is shown below it, at the line of the decorator, and the cell fails, as it
does for an error that the decorator raises.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from typing import Any

from forgesyte_nb.plugins.announcement import announce
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.payload import source_of
from forgesyte_nb.plugins.references import place_of, unsettled_names
from forgesyte_nb.plugins.registry import registry

_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def register_in_turn(plugin: Plugin) -> None:
    """Register a plugin now, or later if it uses names that its cell or module is still to define.

    Raises:
        PluginDefinitionError: If it is registered now, and cannot be.
    """
    _watch_cells()
    if source_of(plugin) is None and unsettled_names(plugin.target):  # a plugin file travels as its whole text
        registry().defer(plugin, place_of(plugin.target))
    else:
        announce(registry().register(plugin))


def _watch_cells() -> None:
    """Look after plugins before and after each cell of the IPython shell, if there is one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and shell not in _watched:
        _watched.add(shell)
        shell.events.register("pre_run_cell", _begin_cell)
        shell.events.register("post_run_cell", lambda result: _end_cell(shell, result))


def _begin_cell(_info: Any) -> None:
    for name, error in registry().renew_changed().items():
        reason = str(error).partition("\n")[0]
        warnings.warn(f"a module that plugin '{name}' uses has changed; the old code goes on: {reason}", stacklevel=2)


def _end_cell(shell: Any, result: Any) -> None:
    for error, place in registry().end_cell(announce):
        shell.showtraceback((type(error), error, place), tb_offset=0)
        if result is not None and result.success:
            result.error_in_exec = error
