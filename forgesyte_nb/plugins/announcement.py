"""The line in a notebook that says what a cell registered."""

from __future__ import annotations

import sys

from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.payload import is_cell


def announce(plugin: Plugin) -> None:
    """Show name, revision and options of a plugin that is now in force in the output of the running cell.

    Only for what a cell of this kernel defines at its top level: nothing is shown for plugin files, scripts, tests and
    functions that define plugins.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    target = plugin.target
    at_top_level = target.__module__ == "__main__" and "." not in target.__qualname__
    if shell is None or not at_top_level or not is_cell(plugin.origin):
        return
    line = f"{plugin.name}, revision {plugin.revision}; options: {plugin.schema.summary}"
    shell.display_pub.publish({"text/plain": line})
