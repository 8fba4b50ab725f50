"""The server's secret in a file that only its owner may read.

Whoever is to present or to ask for a token may name such a file instead of the text: it then stands in no notebook, no
list of processes and no history of a shell.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from forgesyte_nb.errors import ServerError

TOKEN_BYTES = 32
"""Random bytes of a token that is made here."""


def token_of(token: str | os.PathLike[str] | None) -> str | None:
    """The secret itself: text is it, a path names the file it is in.

    Raises:
        ServerError: If the file is empty, or others than its owner may read it.
        OSError: If it cannot be read.
    """
    return token if token is None or isinstance(token, str) else read_token(Path(token))


def read_token(path: Path) -> str:
    """The secret in a file.

    Raises:
        ServerError: If the file is empty, or others than its owner may read it.
        OSError: If it cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise ServerError(f"{path} can be read by other users of this machine (mode {mode:o}): chmod 600 {path}")
        token = file.read().strip()
    if not token:
        raise ServerError(f"{path} is empty: it should hold the server's secret; without it a server makes one there")
    return token


def make_token(path: Path) -> str:
    """The secret in a file, which is made with a random one if it is not there.

    Raises:
        ServerError: As `read_token`.
        OSError: If it can be neither read nor made.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read_token(path)
    with open(file, "w", encoding="utf-8") as out:
        out.write(f"{token}\n")
    return token
