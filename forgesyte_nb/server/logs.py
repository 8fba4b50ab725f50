"""The server's log: a rotating file, one line an event, nothing on the screen, and no waiting for the disk.

A record is put on a bounded queue; a thread formats it, with its traceback, and writes it. What does not fit on the
queue, or cannot be written because the disk is full, is counted; the next line that can be written states the number.

Text from clients and plugins may hold anything, so line breaks and characters that do not show, or that reorder what
does, are written as escapes: an event cannot look like two, nor like another.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import logging
import os
import queue
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any

MAX_BYTES = 2 * 1024 * 1024
BACKUPS = 2
QUEUE_RECORDS = 10_000
MAX_CHARACTERS = 32 * 1024
"""Longest message of a record; the rest is cut off."""

_RARE_S = 1.0
_MAX_KINDS = 100

_SHORT_ESCAPES = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("\\"): "\\\\"}
_BLANK = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}.union(
        range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0000, 0xE1000)
    )
)
"""Characters that `str.isprintable` accepts although they are invisible: Default_Ignorable_Code_Point of the Unicode
Character Database (DerivedCoreProperties.txt), and the empty braille pattern."""


class _Escapes(dict[int, str]):
    """A table for `str.translate`: the escapes of `visible`."""

    def __missing__(self, code: int) -> str:
        """The character itself, or its escape as Python writes it."""
        character = chr(code)
        if character.isprintable() and code not in _BLANK:
            return character
        width, letter = (2, "x") if code <= 0xFF else (4, "u") if code <= 0xFFFF else (8, "U")
        return f"\\{letter}{code:0{width}x}"


_ESCAPES = _Escapes(_SHORT_ESCAPES)


def visible(text: str) -> str:
    """The text on one line: control, format, private, unassigned and blank characters and backslashes are escaped."""
    return text.translate(_ESCAPES)


class OneLine(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, see `visible`; a traceback, too, is cut off."""
        return visible(_cut(super().format(record), 2 * MAX_CHARACTERS))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


class LogFile(RotatingFileHandler):
    """The file, written by one thread. A line that cannot be written is lost and counted; nothing is raised."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: If it cannot be opened for writing.
        """
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", delay=False)
        self.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
        self._lost = 0
        self._reason = ""

    def _open(self) -> io.TextIOWrapper:
        """Without a buffer, whose lock the thread may hold when this process is forked."""
        file = _WholeWrites(self.baseFilename, "a")
        return io.TextIOWrapper(file, encoding="utf-8", write_through=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after a line that states how many were lost before it."""
        lost = self._lost
        if lost:
            self.report(f"{lost} lines were lost: {self._reason}")
            if self._lost > lost:  # it still cannot be written, and this record is one of them
                return
            self._lost = 0
        super().emit(record)

    def report(self, text: str) -> None:
        """Write a warning about the log itself."""
        super().emit(logging.LogRecord("", logging.WARNING, "", 0, text, None, None))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the name that `logging` calls
        """Count a line that could not be written; the first of them is one line on the screen."""
        error = sys.exc_info()[1]
        self._reason = getattr(error, "strerror", None) or repr(error)
        if not self._lost and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"{self.baseFilename} cannot be written ({self._reason}); its lines are lost\n")
        self._lost += 1
        stream, self.stream = self.stream, None  # the next record opens the file again
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()

    def close(self) -> None:
        """Close the file, whether or not its last line can be written."""
        with contextlib.suppress(OSError):
            super().close()


class _WholeWrites(io.FileIO):
    """A file on which a write that the disk has no room for leaves nothing: the next line would continue it."""

    def write(self, data: Any) -> int:
        """Write all of it.

        Raises:
            OSError: If it cannot be written.
        """
        end, unwritten = os.fstat(self.fileno()).st_size, memoryview(data).cast("B")
        try:
            while unwritten:
                unwritten = unwritten[super().write(unwritten) :]
        except OSError:
            with contextlib.suppress(OSError):
                self.truncate(end)
            raise
        return len(data)


class QueuedLog(QueueHandler):
    """Puts records on a bounded queue, from which a thread writes them to the file.

    Attributes:
        file: The file.
    """

    def __init__(self, file: LogFile) -> None:
        """Start the thread."""
        self._records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_RECORDS)
        super().__init__(self._records)
        self.file = file
        self._dropped = 0
        self._counting = threading.Lock()
        self._writer: _Writer | None = _Writer(self._records, file, self._take_dropped)
        self._writer.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Fill in the arguments, which may change later. The traceback is formatted by the thread."""
        record.msg = _cut(record.getMessage(), MAX_CHARACTERS)
        record.args = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a prepared record on the queue, or drop it if that is full."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            with self._counting:
                self._dropped += 1

    def _take_dropped(self) -> int:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def flush(self) -> None:
        """Wait until all records have been written."""
        if self._writer is not None:
            self._records.join()

    def disown(self) -> list[int]:
        """In a process forked from this one, which has no such thread: descriptors that must not be held open."""
        self._writer = None
        return [self.file.stream.fileno()] if self.file.stream else []

    def close(self) -> None:
        """Write what is on the queue and close the file. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()
            self.file.close()
        super().close()


class RareLines:
    """Limits log lines of a kind to one a second and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without lines; `clock` returns seconds."""
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}  # when the last one passed, and how many have not since

    def passes(self, kind: str) -> int:
        """0 if a line must not be written now; else the number of lines since the last, including it."""
        now = self._clock()
        passed_at, held = self._kinds.get(kind, (float("-inf"), 0))
        if now - passed_at < _RARE_S:
            self._kinds[kind] = (passed_at, held + 1)
            return 0
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        return held + 1


class _Writer(QueueListener):
    """The thread that writes."""

    def __init__(self, records: queue.Queue[logging.LogRecord], file: LogFile, take_dropped: Callable[[], int]) -> None:
        super().__init__(records, file)
        self._file = file
        self._take_dropped = take_dropped

    def handle(self, record: logging.LogRecord) -> None:
        super().handle(record)
        if dropped := self._take_dropped():
            self._file.report(f"{dropped} lines were lost: they came faster than they could be written")

    def enqueue_sentinel(self) -> None:
        self.queue.put(self._sentinel)  # type: ignore[attr-defined]  # the queue may be full, so this waits


def default_path(port: int) -> Path:
    """Where the log goes if nobody says: the user's own folder among the temporary files."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # no entry in the password file, as in some containers
    own = Path(tempfile.gettempdir()) / f"forgesyte_nb-{user}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
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
    log.addHandler(QueuedLog(LogFile(path)))
    return log


def flush_log(log: logging.Logger) -> None:
    """Wait until all that was logged so far is in the file."""
    for handler in log.handlers:
        handler.flush()


def disown_log(log: logging.Logger) -> list[int]:
    """In a process forked from this one: write no more; descriptors that must not be held open."""
    found = [descriptor for one in log.handlers if isinstance(one, QueuedLog) for descriptor in one.disown()]
    log.handlers[:] = [logging.NullHandler()]
    return found


def close_log(log: logging.Logger) -> None:
    """Write what waits and close the file; what is logged later goes nowhere."""
    handlers, log.handlers[:] = list(log.handlers), [logging.NullHandler()]
    for handler in handlers:
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
