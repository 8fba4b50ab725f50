"""`fs.stream`, and the streams of this process: those that use a plugin, and their end with the interpreter."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from typing import Any

from forgesyte_nb.checks import check_count
from forgesyte_nb.client.options import merge_options
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.client.sources.live import RECONNECT_S
from forgesyte_nb.client.stream import Intent
from forgesyte_nb.keywords import own_keywords
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.cells import own
from forgesyte_nb.workbench.kernel_server import kernel_server
from forgesyte_nb.workbench.options import plugin_name, source_code
from forgesyte_nb.workbench.playback import Playback
from forgesyte_nb.workbench.stream import Stream
from forgesyte_nb.workbench.stream_pass import Route

_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: a daemon thread caught inside compiled code when the interpreter ends would abort the process."""
    for running in list(_streams):
        running.close()


def _forked() -> None:
    """In a forked process: the streams are the parent's."""
    _streams.clear()
    atexit.unregister(_close_all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def streams_of(plugin: str, *, ended: bool = False) -> list[Stream]:
    """The streams of this kernel that are going through a plugin; those that went, too, if `ended`."""
    return [stream for stream in list(_streams) if stream.plugin == plugin and (ended or stream.running)]


def stream(
    source: Any,
    plugin: str | Callable[..., Any],
    options: dict[str, Any] | None = None,
    *,
    server: Any = None,
    intent: Intent | None = None,
    concurrency: int | None = None,
    speed: float | None = None,
    every: int = 1,
    loop: bool = False,
    reconnect_s: float = RECONNECT_S,
    token: str | None = None,
    history: int = 50_000,
    **more_options: Any,
) -> Stream:
    """Send a source through a plugin in the background, and return at once.

    Args:
        source: Whatever `fs.open_source` takes: a clip, a folder, a camera ("camera:0"), arrays, a generator, …
        plugin: Name of the plugin, or the function or class itself.
        options: The plugin's options; they can be given as keywords as well, and changed later.
        server: A `Server` or the URL of one; by default this kernel's, which is started if need be. This kernel's is
            followed when `fs.serve(…)` replaces it, to another port as well; at a URL the stream stays.
        intent: "every_frame": nothing is skipped; "freshest": the newest picture when there is room. By default what
            suits the source.
        concurrency: Pictures under way at a time; by default 8, and 2 for "freshest". A plugin that waits for something
            else, such as a web service, takes more, on as many lanes: `fs.plugin(engine="threads")` and
            `fs.serve(workers=64)`.
        speed: Multiple of the source's own rate; None is as fast as it goes.
        every: Take every n-th picture.
        loop: Begin the source again at its end.
        reconnect_s: For a camera or network stream that goes away: longest time without a connection, in seconds,
            before the stream fails; it shows as "reconnecting" meanwhile. 0 gives up at once.
        token: Secret of a server elsewhere, if it has one.
        history: Results that are kept.
        **more_options: Options.

    Raises:
        SourceError: If the source cannot be opened.
        PluginNotFound: If this kernel's server has no such plugin.
        InvalidOptions: If the plugin's schema refuses the options.
        ValueError: If `intent` is neither, or a number such as `history` or `reconnect_s` cannot be.
        ServerError: If the server is to be started and cannot be.
    """
    if concurrency is not None:
        check_count("concurrency", concurrency)
    if server is None:
        server = kernel_server()
    local = server if isinstance(server, Server) else None
    opened = open_source(source, every=every, loop=loop, reconnect_s=reconnect_s)
    name = plugin_name(plugin, Registry() if local is None else local.registry)
    with own_keywords(stream, more_options):
        made = Stream(
            Playback(opened, speed=speed),
            Route(str(getattr(server, "url", server)), token, name) if local is None else Route(local, None, name),
            merge_options(options, more_options),
            intent=intent or ("freshest" if opened.live else "every_frame"),
            concurrency=concurrency,
            history=history,
            source_code=source_code(source),
        )
    _streams.add(made)
    atexit.unregister(_close_all)
    atexit.register(_close_all)  # the last to be registered is called first: before the server is closed
    return own(made)
