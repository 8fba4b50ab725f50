"""The server's log: a rotating file, one line an event, and nothing on the screen.

Text from clients and plugins may hold anything, so control characters and line breaks are written as escapes:
an event cannot look like two.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import stat
import tempfile
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 2 * 1024 * 1024
BACKUPS = 2

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("\\"): "\\\\"})
_ESCAPES.update({0x2028: "\\u2028", 0x2029: "\\u2029"})


class OneLine(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, control characters escaped."""
        return super().format(record).translate(_ESCAPES)


def default_path(port: int) -> Path:
    """Where the log goes if nobody says: the user's own folder among the temporary files."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # no entry in the password file, as in some containers
    own = Path(tempfile.gettempdir()) / f"forgesyte_nb-{user}"
    own.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(own):  # somebody else made it first, and may read or redirect what is written there
        own = Path(tempfile.mkdtemp(prefix="forgesyte_nb-"))
    folder = own / str(port)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "server.log"


def _is_ours(folder: Path) -> bool:
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022


def open_log(path: Path, name: str) -> logging.Logger:
    """A logger that writes to `path` alone.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.Logger(f"forgesyte_nb.{name}", logging.INFO)
    log.propagate = False
    file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", delay=False)
    file.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    return log


def log_descriptors(log: logging.Logger) -> list[int]:
    """Of the files that a log is written to."""
    return [one.stream.fileno() for one in log.handlers if isinstance(one, RotatingFileHandler) and one.stream]


def close_log(log: logging.Logger) -> None:
    """Close its file."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def tail(path: Path, lines: int, start: int = 0) -> str:
    """The last lines of a log file, of those behind `start` bytes; empty if there is none yet.

    Once the file has been begun anew, all of it is later than that.
    """
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()  # some MiB at most, and a line may be a whole traceback
        text = (data[start:] if len(data) >= start else data).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""
    return ""
