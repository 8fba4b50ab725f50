"""A plugin that waits to be registered, because names that it uses are still to be defined (`references.py`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from forgesyte_nb.plugins.contract import Plugin


@dataclass
class Deferred:
    """A plugin that waits to be registered.

    Attributes:
        plugin: The plugin.
        place: Where its cell or module was executing when it was defined; None if that is not known.
        namespace: The globals of that module.
        missing: The names that it uses and that did not exist when it was last registered; None before.
        ended: True once its cell has run.
        lock: Held while it is registered.
    """

    plugin: Plugin
    place: TracebackType | None
    namespace: dict[str, Any]
    missing: set[str] | None = None
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_due(self) -> bool:
        """True if it was not registered yet, or a name that was missing exists by now."""
        return self.missing is None or any(name in self.namespace for name in self.missing)
