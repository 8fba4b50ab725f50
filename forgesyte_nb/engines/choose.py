"""From an engine's name to an engine."""

from __future__ import annotations

from forgesyte_nb.engines.contract import Engine, Listener
from forgesyte_nb.settings import Settings


def make_engine(name: str, settings: Settings, listener: Listener) -> Engine:
    """A new engine on the running loop, not started.

    Raises:
        ValueError: If there is none of that name.
    """
    # Imported when needed: a server that runs plugins inline need not load what starts processes.
    if name == "inline":
        from forgesyte_nb.engines.inline import InlineEngine

        return InlineEngine(settings, listener)
    if name == "threads":
        from forgesyte_nb.engines.threads import ThreadEngine

        return ThreadEngine(settings, listener)
    if name == "processes":
        from forgesyte_nb.engines.processes import ProcessEngine

        return ProcessEngine(settings, listener)
    raise ValueError(f"no engine {name!r}; there are processes, threads, inline")
