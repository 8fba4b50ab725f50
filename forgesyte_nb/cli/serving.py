"""`forgesyte-nb serve`: the server of a notebook, without the notebook, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forgesyte_nb import __version__
from forgesyte_nb.errors import ServerError
from forgesyte_nb.server.current import serve
from forgesyte_nb.server.gate import LOOPBACK_NAMES
from forgesyte_nb.server.server import Server
from forgesyte_nb.settings import Settings


def serve_until_stopped(arguments: argparse.Namespace, secret: str | None) -> int:
    """Serve; say where; close when asked to.

    Args:
        arguments: Of the command.
        secret: The server's secret where no file is named for it.

    Returns:
        0.

    Raises:
        ServerError: If it cannot listen there.
        PluginDefinitionError: If a plugin folder does not exist.
        OSError: If the log cannot be written.
        ValueError: If a number cannot be.
    """
    token = secret if arguments.token_file is None else Path(arguments.token_file)
    if arguments.host not in LOOPBACK_NAMES and token is None:
        raise ServerError(
            f"--host {arguments.host} can be reached from other machines: name a file with --token-file, in which a "
            "secret is made that clients present, or stay on localhost"
        )
    settings = Settings(allow_hosts=tuple(arguments.allow_host), allow_origins=tuple(arguments.allow_origin))
    with _signals() as wait:
        server = serve(
            arguments.host,
            arguments.port,
            plugins=arguments.plugins,
            engine=arguments.engine,
            workers=arguments.workers,
            token=token,
            log=arguments.log,
            settings=settings,
        )
        with server:
            print(_greeting(server, arguments.token_file), flush=True)
            wait()
    print("closed", flush=True)
    return 0


def _greeting(server: Server, token_file: str | None) -> str:
    workers = "" if server.settings.engine == "inline" else f", {server.settings.lanes} workers"
    lines = [
        f"forgesyte_nb {__version__} serves at {server.url}",
        f"  page     {server.page_url}",
        f"  plugins  {', '.join(plugin.name for plugin in server.plugins) or 'none'}",
        *(f"  failed   {name}: {reason}" for name, reason in server.failures.items()),
        f"  engine   {server.settings.engine}{workers}",
        *([f"  token    in {token_file}"] if token_file else []),
        f"  log      {server.log}",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


@contextmanager
def _signals() -> Iterator[Callable[[], object]]:
    """Within it SIGINT and SIGTERM do nothing but end the wait; after it they do what they did before.

    The interpreter itself writes to a pipe when a signal arrives: a handler in Python would not run before the wait it
    is to end, if the signal came just before that began.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, _nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    woken_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield lambda: os.read(reading, 1)
    finally:
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _nothing(*_: object) -> None:
    """So that the signal does not end the process."""
