"""The command `forgesyte-nb`: `serve`, `send`, `plugins`, `doctor`, `demo`, each the same code that a notebook calls.

Exit codes: 0 all went well, 1 a frame failed or the doctor found a problem, 2 wrong use or nobody there, with one line
on stderr that says what to do; 130 after Ctrl-C. What is meant for other programs (`send`, `plugins --json`) is alone
on stdout. A secret is read from a file or from the environment, never from an argument, which every user of the
machine could see.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgesyte_nb import __version__
from forgesyte_nb.cli.wording import in_a_shell
from forgesyte_nb.errors import ForgeSyteError
from forgesyte_nb.settings import ENGINE_NAMES
from forgesyte_nb.token_file import read_token

TOKEN_VARIABLE = "FORGESYTE_NB_TOKEN"  # noqa: S105 -- its name, no secret
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; by default the process's.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "×" shows \xd7 instead of failing
    arguments = make_parser().parse_args(argv)
    try:
        code = int(_run(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on; the interpreter flushes once more at its end
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ForgeSyteError, OSError, ValueError) as error:
        print(f"forgesyte-nb {arguments.command}: error: {in_a_shell(str(error))}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "serve":
        from forgesyte_nb.cli.serving import serve_until_stopped

        return serve_until_stopped(arguments, os.environ.get(TOKEN_VARIABLE) or None)
    if arguments.command == "send":
        from forgesyte_nb.cli.sending import send_files

        return send_files(arguments, read_secret(arguments.token_file))
    if arguments.command == "plugins":
        from forgesyte_nb.cli.listing import list_plugins

        return list_plugins(arguments, read_secret(arguments.token_file))
    if arguments.command == "doctor":
        from forgesyte_nb.workbench.doctor import doctor

        diagnosis = doctor(arguments.url, token=read_secret(arguments.token_file)).reworded(in_a_shell)
        print(diagnosis)
        return 0 if diagnosis.ok else 1
    from forgesyte_nb.demo.run import run_demo

    return run_demo(Path(arguments.output), quick=arguments.quick)


def make_parser() -> argparse.ArgumentParser:
    """What each command takes."""
    parser = argparse.ArgumentParser(
        prog="forgesyte-nb", description="Stream pictures through vision plugins, over a plain WebSocket."
    )
    parser.add_argument("--version", action="version", version=f"forgesyte_nb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_send(commands)
    _add_plugins(commands)
    doctor = _command(commands, "doctor", "Find out what is wrong with a server, or the way to it, and what to do.")
    _add_url(doctor)
    _add_token(doctor)
    demo = _command(commands, "demo", "Run the whole thing in a real kernel, on real pictures.")
    demo.add_argument("--output", default="demo-output", metavar="DIR", help="where the report goes (demo-output)")
    demo.add_argument("--quick", action="store_true", help="fewer pictures")
    return parser


def _command(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    """A command; its options cannot be abbreviated, so that `--token` is not taken for `--token-file`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about[0].lower() + about[1:-1], description=about, allow_abbrev=False
    )
    return parser


def _add_serve(commands: Any) -> None:
    serve = _command(commands, "serve", "Run a server until Ctrl-C.")
    serve.add_argument("--host", default="localhost", help="what to listen on; other than loopback needs a token")
    serve.add_argument("--port", type=_port, help="by default 8000 or the next that is free; 0 takes any free one")
    serve.add_argument("--plugins", action="append", default=[], metavar="DIR", help="a folder more of plugin files")
    serve.add_argument("--engine", choices=ENGINE_NAMES, help="where plugins run (processes)")
    serve.add_argument("--workers", type=_workers, metavar="N", help="by default one per processor")
    serve.add_argument("--log", metavar="FILE", help="by default among the temporary files")
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name clients may use for it"
    )
    serve.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN", help="a page that may connect")
    _add_token(serve)


def _add_send(commands: Any) -> None:
    send = _command(commands, "send", "Send pictures to a running server; print one line of JSON for each, in order.")
    send.add_argument("files", nargs="+", metavar="FILE", help="an image, a folder of images, a video, or a glob")
    send.add_argument("--plugin", required=True, metavar="NAME")
    send.add_argument(
        "--option", action="append", default=[], type=_option, metavar="K=V", help="V is JSON, or else a text"
    )
    _add_url(send)
    _add_token(send)


def _add_plugins(commands: Any) -> None:
    plugins = _command(
        commands, "plugins", "Show the plugins of a running server (--url), or those that would be found here."
    )
    where = plugins.add_mutually_exclusive_group()
    _add_url(where)
    where.add_argument("--plugins", action="append", default=[], metavar="DIR", help="a folder more of plugin files")
    plugins.add_argument("--json", action="store_true", help="as JSON")
    _add_token(plugins)


def _add_url(parser: Any) -> None:
    parser.add_argument("--url", help="the server, such as ws://localhost:8000")


def _add_token(parser: Any) -> None:
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"file with the server's secret; or set it in {TOKEN_VARIABLE}"
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers: 1 or more, or 0 for one per processor")
    return int(text)


def _option(text: str) -> tuple[str, Any]:
    """`threshold=0.8` as ("threshold", 0.8), `language=eng` as ("language", "eng")."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is no option: write NAME=VALUE, such as threshold=0.8")
    try:
        return name, json.loads(value, parse_constant=str)
    except ValueError:
        return name, value


def read_secret(token_file: str | None) -> str | None:
    """The server's secret from a file or the environment; None if there is none.

    Raises:
        ServerError: If the file cannot be read, is empty, or others may read it.
    """
    return os.environ.get(TOKEN_VARIABLE) or None if token_file is None else read_token(Path(token_file))
