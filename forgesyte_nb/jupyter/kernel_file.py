"""The file by which a kernel tells the Jupyter Server where its server listens.

The kernel writes it beside its connection file, which is the Jupyter runtime directory for every kernel that a Jupyter
Server started: `forgesyte_nb-<kernel_id>.json`, mode 0600, whole or not at all. Publishing is best effort: outside such
a kernel there is no id and nothing is written. The relay reads it and believes it only if it is a regular file of this
user's that no one else can open, written by the process that the Jupyter Server started as that kernel. Nothing here
imports Jupyter's libraries: the kernel's are loaded already or there is no kernel, and the reader is told all it needs.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from forgesyte_nb import __version__
from forgesyte_nb.errors import ServerError

KERNEL_ID = r"\w+-\w+-\w+-\w+-\w+"
"""What the Jupyter Server's own routes take for a kernel id."""

_CONNECTION_FILE = re.compile(rf"kernel-({KERNEL_ID})\.json", re.ASCII)
_MOST_BYTES = 16 * 1024
_PROC = Path("/proc")


class NotPublished(ServerError):
    """The kernel has no server that it tells of."""


class Untrusted(ServerError):
    """There is a file, and it is not believed."""


class KernelFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says.

    Attributes:
        server_id: As in the server's `hello`.
        address: Loopback address it listens on.
        port: Port it listens on.
        pid: Process id of the kernel.
        secret: The token that the server asks for; None if it asks for none.
        node: Name of the machine; runtime directories may lie on a disk that machines share.
        version: Version of forgesyte_nb in the kernel.
    """

    server_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    address: Literal["127.0.0.1", "::1"]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    pid: Annotated[int, msgspec.Meta(ge=1)]
    # No control characters: it goes into the head of a request.
    secret: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*$")] | None
    node: str
    version: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<KernelFile server {self.server_id} on {self.address}:{self.port}, pid {self.pid}>"


# The kernel's side


def own_connection_file() -> Path | None:
    """The connection file of the kernel that this process is; None if it is none that a Jupyter Server started."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    if kernelapp is None or not kernelapp.IPKernelApp.initialized():
        return None
    app = kernelapp.IPKernelApp.instance()
    if getattr(getattr(app, "session", None), "pid", None) != os.getpid():
        return None  # a process forked from the kernel
    path = Path(app.abs_connection_file)
    return path if _CONNECTION_FILE.fullmatch(path.name) else None


def path_beside(connection_file: Path, kernel_id: str) -> Path:
    """Where the file of a kernel lies."""
    return connection_file.parent / f"forgesyte_nb-{kernel_id}.json"


def publish(
    *, server_id: str, port: int, address: Literal["127.0.0.1", "::1"] = "127.0.0.1", secret: str | None = None
) -> Path | None:
    """Write the file of this kernel, over an older one if there is one, and sweep those of kernels that are dead.

    Args:
        server_id: As in the server's `hello`.
        port: Port it listens on.
        address: Loopback address it listens on.
        secret: The token it asks for.

    Returns:
        Where it was written; None outside a kernel of a Jupyter Server, or where nothing can be written.
    """
    connection_file = own_connection_file()
    if connection_file is None:
        return None
    match = _CONNECTION_FILE.fullmatch(connection_file.name)
    path = path_beside(connection_file, match[1] if match else "")
    said = KernelFile(
        server_id=server_id,
        address=address,
        port=port,
        pid=os.getpid(),
        secret=secret,
        node=os.uname().nodename,
        version=__version__,
    )
    try:
        _write(path, msgspec.json.encode(said))
    except OSError:
        return None  # no directory, a full disk: the browser has other ways to the server
    _sweep(path.parent)
    return path


def withdraw(path: Path, server_id: str) -> None:
    """Remove a file that was published, unless it speaks of a later server already."""
    with suppress(OSError, Untrusted, NotPublished):
        if _read(path)[0].server_id == server_id:
            path.unlink()


def _write(path: Path, text: bytes) -> None:
    """All of it or nothing, and readable by no one else at any time."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Remove files of kernels of this machine that ended without a goodbye."""
    for path in folder.glob("forgesyte_nb-*.json"):
        with suppress(OSError, Untrusted, NotPublished):
            said, inode = _read(path)
            if said.node == os.uname().nodename and not _alive(said.pid) and path.lstat().st_ino == inode:
                path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# The reader's side


def read(path: Path, kernel_pid: int | None) -> KernelFile:
    """What a kernel says of its server.

    Args:
        path: As `path_beside` gives it.
        kernel_pid: Of the process that was started as that kernel; None if it runs elsewhere.

    Raises:
        NotPublished: If there is no file.
        Untrusted: If it is not believed, saying why.
    """
    said, _ = _read(path)
    if kernel_pid is None or not _is_or_descends_from(said.pid, kernel_pid):
        raise Untrusted(f"{path.name} was written by process {said.pid}; the kernel is process {kernel_pid}")
    return said


def _read(path: Path) -> tuple[KernelFile, int]:
    """Content and inode of a kernel's file."""
    text, inode = read_own(path)
    try:
        return msgspec.json.decode(text, type=KernelFile), inode
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Untrusted(f"{path.name} does not say what it should: {error}") from error


def read_own(path: Path) -> tuple[bytes, int]:
    """Content and inode of a file that only this user can have written.

    Raises:
        NotPublished: If there is no file.
        Untrusted: If another user may have written it, or may read it, saying why.
    """
    try:
        # Not blocking: opening a pipe would wait for its other end.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotPublished(f"there is no {path.name}") from None
    except OSError as error:
        raise Untrusted(f"{path.name} cannot be opened as a plain file: {error.strerror}") from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise Untrusted(f"{path.name} is no regular file")
        if facts.st_uid != os.getuid():
            raise Untrusted(f"{path.name} belongs to user {facts.st_uid}, not to {os.getuid()}")
        if facts.st_mode & 0o077:
            raise Untrusted(f"{path.name} has mode {stat.S_IMODE(facts.st_mode):04o}; only 0600 keeps its secret")
        return os.read(file, _MOST_BYTES), facts.st_ino
    finally:
        os.close(file)


def _is_or_descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is another or was started by it: a kernel's command may be a shell that starts the kernel."""
    seen: set[int] = set()
    while pid > 1 and pid != ancestor and pid not in seen:
        seen.add(pid)
        pid = _parent(pid)
    return pid == ancestor


def _parent(pid: int) -> int:
    """Parent of a process, 0 if that cannot be known; field 4 of proc(5)'s `stat`, after the name in brackets."""
    try:
        return int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
