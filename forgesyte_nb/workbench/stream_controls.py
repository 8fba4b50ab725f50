"""What the viewers of a stream may ask for: its controls by their names on the wire."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forgesyte_nb.workbench.failures import traceback_of

if TYPE_CHECKING:
    from forgesyte_nb.workbench.stream import Stream


def controls_of(stream: Stream) -> Callable[[str, Any], Any]:
    """The controls of a stream's feed; they hold the stream weakly, since its feed must not keep it alive."""
    held = weakref.ref(stream)

    def control(action: str, value: Any) -> Any:
        found = held()
        if found is None:
            raise ValueError("the stream is gone")
        if action == "options":
            found.options = value
            return found.options
        if action == "traceback":
            return traceback_of(found.failures, value)
        if action == "speed":
            found.speed = value
        elif action == "intent":
            found.set_intent(value)
        elif action == "step":
            found.step(1 if value is None else int(value))
        elif action == "show":
            found.show(value)
        elif action in ("play", "pause", "stop"):
            getattr(found, action)()
        else:
            raise ValueError(f"a stream has no action {action!r}")
        return None

    return control
