"""The server's secret in a file that only its owner may read.

Whoever is to present or to ask for a token may name such a file instead of the text: it then stands in no notebook, no
list of processes and no history of a shell.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from forgesyte_nb.errors import ServerError

TOKEN_BYTES = 32
"""Random bytes of a token that is made here."""

_SERVERS = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
"""RFC 9110 section 5.6.2, `token`: a browser presents the secret as part of a subprotocol, which has no others."""

_CLIENTS = re.compile(r"[!-+\--~]+")
"""Visible ASCII without the comma: what a program can present in a header, to a Jupyter Server, too."""


def check_secret(token: str) -> None:
    """Refuse a secret for a server that some of its clients could not present, without showing it.

    Raises:
        ValueError: If a character is none of letters, digits and ``!#$%&'*+-.^_`|~``.
    """
    _check(token, _SERVERS, "letters, digits and !#$%&'*+-.^_`|~, or let serve(token=Path('token')) make one in a file")


def _check(token: str, allowed: re.Pattern[str], use: str) -> None:
    at = next((at for at, character in enumerate(token) if not allowed.fullmatch(character)), None)
    if at is None:
        return
    kinds = {" ": "a space", ",": "a comma", "\n": "a line break", "\r": "a line break"}
    other = "a sign" if token[at].isascii() and token[at].isprintable() else "not printable ASCII"
    raise ValueError(
        f"token=<hidden>: its character {at + 1} is {kinds.get(token[at], other)}, which cannot be presented to a "
        f"server; use {use}"
    )


def token_of(token: str | os.PathLike[str] | None) -> str | None:
    """The secret itself: text is it, a path names the file it is in.

    Raises:
        ServerError: If the file cannot be read, is empty, is another user's, others than its owner may read it, or no
            client could present what is in it.
        ValueError: If no client could present the text.
        TypeError: If it is neither text nor a path.
    """
    if token is None or isinstance(token, str):
        if token:
            _check(token, _CLIENTS, "the secret that the server was started with")
        return token
    if not isinstance(token, os.PathLike):
        raise TypeError(
            f"token of type {type(token).__name__}: give the server's secret as a str, or a Path to its file"
        )
    return read_token(Path(token))


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
    try:
        _check(token, _CLIENTS, f"one line of visible ASCII, or remove {path} and let the server make one there")
    except ValueError as error:
        raise ServerError(f"{path}: {error}") from error
    return token


def make_token(path: Path) -> str:
    """The secret in a file, which is made with a random one if it is not there.

    Raises:
        ServerError: As `read_token`, or if it cannot be made.
    """
    try:
        if path.is_symlink() or path.exists():
            return _read_secret(path)
        if not path.parent.is_dir():
            raise ServerError(f"{path} cannot be made: there is no folder {path.parent}; make it, or name another file")
        _make(path)
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{path} cannot be made ({_reason(error)}): name a file in a folder of yours that can be written to"
        ) from error
    return read_token(path)


def _read_secret(path: Path) -> str:
    """The secret in a file, checked by `check_secret`."""
    token = read_token(path)
    try:
        check_secret(token)
    except ValueError as error:
        raise ServerError(f"{path}: {error}") from error
    return token


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
