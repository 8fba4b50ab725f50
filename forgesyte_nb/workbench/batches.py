"""`fs.batch`: many pictures in, one table out, at this kernel's server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forgesyte_nb.checks import check_count
from forgesyte_nb.client.blocking import BlockingClient
from forgesyte_nb.client.options import encode_options, merge_options
from forgesyte_nb.client.sources.live import RECONNECT_S
from forgesyte_nb.keywords import own_keywords
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.kernel_server import kernel_server
from forgesyte_nb.workbench.options import plugin_name

if TYPE_CHECKING:
    import pandas as pd


def batch(
    source: Any,
    plugin: str | Callable[..., Any],
    options: dict[str, Any] | None = None,
    *,
    url: Any = None,
    token: str | os.PathLike[str] | None = None,
    concurrency: int = 16,
    every: int = 1,
    reconnect_s: float = RECONNECT_S,
    progress: bool = True,
    **more_options: Any,
) -> pd.DataFrame:
    """Send many pictures through a plugin and return a table.

    An interrupt (the notebook's stop button, Ctrl-C) ends it with a table of the pictures so far. That table says how
    many there are, and its `resume()` goes on with the rest:

        table = fs.batch("scans", "ocr")     # interrupted: 77 of 250 pictures
        table = table.resume()               # all 250

    Args:
        source: Whatever `open_source` takes: a folder, a glob, a list of paths or arrays, a video.
        plugin: Name of the plugin, or the function or class itself.
        options: The plugin's options; they can be given as keywords as well.
        url: A `Server` or the URL of one; by default this kernel's, which is started if need be.
        token: Secret of a server elsewhere, or the path of a file with it, if it has one.
        concurrency: Pictures under way at a time.
        every: Take every n-th picture.
        reconnect_s: For a camera or network stream that goes away: longest time without a connection, in seconds,
            before the batch ends with an error. 0 ends it at once.
        progress: Whether to show a progress bar.
        **more_options: Options.

    Returns:
        One row for each picture in the source's order, with the columns of `to_frame`.

    Raises:
        ConnectionLost: If no server answers. One that is lost for good in the middle is a warning: the table then
            ends with the pictures that were under way, as errors.
        PluginNotFound: If there is no such plugin. Of one that goes in the middle there is a warning: the table then
            ends with the pictures before.
        InvalidOptions: If the plugin refuses the options; in the middle, as above.
        SourceError: If the source cannot be opened, or has no pictures.
        ServerError: If the server is to be started and cannot be.
        ValueError: If a number cannot be.
        KeyboardInterrupt: If it is interrupted before the first result.
    """
    check_count("concurrency", concurrency)
    chosen = merge_options(options, more_options)
    with own_keywords(batch, more_options):
        encode_options(chosen)  # no server is started for a call that cannot be
        server = kernel_server() if url is None else url
        name = plugin_name(plugin, server.registry if isinstance(server, Server) else Registry())
        client = BlockingClient(server, token=None if url is None else token, window=concurrency)
        try:
            begun = client._begin_batch(
                source,
                name,
                chosen,
                concurrency=concurrency,
                every=every,
                reconnect_s=reconnect_s,
                progress=progress,
                release=client.close,
            )
        except BaseException:
            client.close()
            raise
        return begun.table()
