"""The server's secret in a file that only its owner may read.

Whoever is to present or to ask for a token may name such a file instead of the text: it then stands in no notebook, no
list of processes and no history of a shell.
"""

from __future__ import annotations

import contextlib
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
        ServerError: If the file cannot be read, is empty, is another user's, or others than its owner may read it.
    """
    return token if token is None or isinstance(token, str) else read_token(Path(token))


def read_token(path: Path) -> str:
    """The secret in a file.

    Raises:
        ServerError: If the file cannot be read, is empty, is another user's, or others than its owner may read it.
    """
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{path} cannot be read ({_reason(error)}): name the file with the server's secret, the one that "
            "the server was started with"
        ) from error


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        about = os.fstat(file.fileno())
        mode = stat.S_IMODE(about.st_mode)
        if os.name == "posix" and about.st_uid != os.getuid():
            raise ServerError(
                f"{path} belongs to another user of this machine (uid {about.st_uid}): name a file of yours"
            )
        if os.name == "posix" and mode & 0o077:
            raise ServerError(f"{path} can be read by other users of this machine (mode {mode:o}): chmod 600 {path}")
        token = file.read().strip()
    if not token:
        raise ServerError(f"{path} is empty: it should hold the server's secret; without it a server makes one there")
    return token


def make_token(path: Path) -> str:
    """The secret in a file, which is made with a random one if it is not there.

    Raises:
        ServerError: As `read_token`, or if it cannot be made.
    """
    try:
        if path.is_symlink() or path.exists():
            return read_token(path)
        if not path.parent.is_dir():
            raise ServerError(f"{path} cannot be made: there is no folder {path.parent}; make it, or name another file")
        _make(path)
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{path} cannot be made ({_reason(error)}): name a file in a folder of yours that can be written to"
        ) from error
    return read_token(path)


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"{secrets.token_urlsafe(TOKEN_BYTES)}\n")
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft, path)
    finally:
        draft.unlink()


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    return getattr(error, "strerror", None) or str(error)
