"""The origins of the pages of the Jupyter Server that started this kernel: they may watch and control its feeds.

A Jupyter Server writes `jpserver-<pid>.json` into its runtime directory, where its kernels' connection files lie, and
starts each kernel with its own process id in the variable `JPY_PARENT_PID` (jupyter_server `serverapp.py`,
jupyter_client `launcher.py`). Only a file that no other user can have written is believed.
"""

from __future__ import annotations

import os

import msgspec

from forgesyte_nb.jupyter.kernel_file import NotPublished, Untrusted, own_connection_file, read_own
from forgesyte_nb.server.server import trusted_pages

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _JupyterServer(msgspec.Struct):
    """What is read of the file."""

    port: int
    hostname: str = "localhost"
    secure: bool = False


def jupyter_origins() -> frozenset[str]:
    """Origins of pages of this kernel's Jupyter Server, in lower case; none outside a kernel that one has started."""
    connection_file, pid = own_connection_file(), os.environ.get("JPY_PARENT_PID", "")
    if connection_file is None or not pid.isdecimal():
        return frozenset()
    try:
        text, _ = read_own(connection_file.parent / f"jpserver-{pid}.json")
        server = msgspec.json.decode(text, type=_JupyterServer)
    except (NotPublished, Untrusted, msgspec.MsgspecError, UnicodeDecodeError):
        return frozenset()  # pages go through the Jupyter Server, which knows its own
    scheme = "https" if server.secure else "http"
    port = "" if server.port == _DEFAULT_PORTS[scheme] else f":{server.port}"
    return frozenset(f"{scheme}://{host}{port}" for host in (*_LOOPBACK, server.hostname.lower()))


trusted_pages.append(jupyter_origins)
