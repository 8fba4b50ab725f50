"""What an error says is to be done, in the words of the command line: errors are worded for a notebook's cell.

One table, of phrases as they stand in the package's sources and what they are called in a shell. It is applied where
the command line prints an error or a finding for a person; what is for programs stays as the server said it.
"""

from __future__ import annotations

import re

IN_A_SHELL = {
    # a server to be had, and the way to it
    "start one with fs.serve(), or pass the url of the one that runs": (
        "start one with `forgesyte-nb serve`, or pass the --url of the one that runs"
    ),
    "a server, such as 'ws://localhost:8000'": "a server, such as --url ws://localhost:8000",
    "give the url without a path": "give the --url without a path",
    "connect() tries again": "run the command again when the server is back",
    "server = fs.serve()": "`forgesyte-nb serve`",
    "; server.url says where it listens": ", which says where it listens",
    "url='ws://localhost:8000', or leave it out": "--url ws://localhost:8000, or leave it out",
    "correct the url": "correct the --url",
    "with host= and token=": "with --host and --token-file",
    "choose another port, or leave port out": "choose another --port, or leave it out",
    "name one with port=": "name one with --port",
    # who may connect
    "pass the server's secret: token=…": "pass the server's secret with --token-file",
    "pass the server's secret if it has one, token=…": "pass the server's secret, if it has one, with --token-file",
    "pass the server's secret, token=…": "pass the server's secret with --token-file",
    "token is empty": "FORGESYTE_NB_TOKEN is empty",
    "to Settings(allow_origins=…)": "with `forgesyte-nb serve --allow-origin`",
    # plugins
    "or name another with plugins=": "or name another with --plugins",
    "define one with @fs.plugin, or name a folder: fs.serve(plugins=[…])": (
        "name a folder of plugin files: `forgesyte-nb serve --plugins DIR`"
    ),
    "None is loaded; define one with @fs.plugin": (
        "None is loaded; name a folder of plugin files: `forgesyte-nb serve --plugins DIR`"
    ),
    "(server.failures says why)": "(`forgesyte-nb plugins --url …` says why)",
    # where it is written down
    "server.log_tail() has the traceback": "the log that `forgesyte-nb serve` names has the traceback",
    "its Server.log names the file": "`forgesyte-nb serve` names the file when it starts",
    "in the kernel's environment, and restart the kernel": "in this environment",
}
"""Phrases of the package, and what takes their place."""

_PHRASES = re.compile("|".join(map(re.escape, sorted(IN_A_SHELL, key=len, reverse=True))))


def in_a_shell(text: str) -> str:
    """A text for a person at a shell."""
    return _PHRASES.sub(lambda found: IN_A_SHELL[found[0]], text)
