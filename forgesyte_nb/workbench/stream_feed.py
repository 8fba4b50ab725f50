"""The feed of a stream: what its viewers are told, and what they may ask for, by the names on the wire.

A feed does not keep its stream alive: a stream that has ended and that nobody holds goes, and its feed with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.workbench.failures import traceback_of
from forgesyte_nb.workbench.history import History

if TYPE_CHECKING:
    from forgesyte_nb.workbench.stream import Stream


def state_of(stream: Stream, plugin: Plugin | None, history: History) -> dict[str, Any]:
    """How a stream stands.

    Args:
        stream: The stream, which holds its lock, so that all of it is of one moment.
        plugin: Its plugin in force, if that is in this process.
        history: What it remembers.
    """
    playback, source = stream.playback, stream.source_status
    return {
        "title": stream.feed.title,
        "source": playback.name,
        "source_fps": playback.fps,
        "live": playback.live,
        "source_state": source.state,
        "outages": source.outages,
        "damaged": source.damaged,
        "length": playback.length,
        "speed": playback.speed,
        "plugin": stream.plugin,
        "plugin_revision": None if plugin is None else plugin.revision,
        "about": "" if plugin is None else plugin.description,
        "schema": None if plugin is None else plugin.schema.json_schema,
        "options": stream.options,
        "code": stream.code,
        "intent": stream.intent,
        "status": stream.status,
        "problem": stream.problem or stream.notice,
        "trouble": stream.trouble,
        "failures": stream.failures_told(),
        "ledger": stream.ledger,
        "rate_fps": stream.rate_fps,
        "latency_ms": stream.latency_ms,
        "history": {"length": len(history.pictures), "back": history.back},
    }


def feed_of(stream: Stream, title: str, tell: Callable[[], None]) -> Feed:
    """Open the feed of a stream.

    Args:
        stream: The stream.
        title: For people.
        tell: A method of the stream, called when somebody begins to watch.
    """
    feed = feed_book().open("stream", title, _controls_of(stream))
    held = weakref.WeakMethod(tell)

    def watched() -> None:
        if (tell := held()) is not None:
            tell()

    feed.on_watched = watched
    weakref.finalize(stream, feed.close, "the stream is gone: run its cell again, or fs.stream(…)").atexit = False
    return feed


def _controls_of(stream: Stream) -> Callable[[str, Any], Any]:
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
