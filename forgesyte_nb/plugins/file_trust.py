"""Plugin files that other users of the machine can write are not executed.

A file is trusted if this process's user or root owns it and nobody else can write it, and if the same holds for its
folder, for all folders above up to the user's home directory or the root, for each symbolic link on the way, and for
the modules beside it that it imports, their byte code in `__pycache__` included: Python executes a `.pyc` file without
comparing it with the source if its header says so (PEP 552). A folder above may be writable by others if it is sticky,
as `/tmp` is; the folder of the file may not: others could put a module beside the file. The owner of this package
counts as root does, since its code runs already.

Group write permission is accepted where the group has no other members: the private group that systems with umask 002
give to each user (Debian, Ubuntu, Fedora), root's group, or, as in containers, a group without an entry that this
process is in. Sources: OpenSSH, `safe_path` in misc.c, with Debian's patch for private groups; pam_umask(8).
"""

from __future__ import annotations

import ast
import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import cache_from_source, decode_source
from pathlib import Path
from typing import NamedTuple

from forgesyte_nb.errors import PluginDefinitionError

_PACKAGE_FILE = Path(__file__).resolve().parent.parent / "__init__.py"
_MAX_LINKS = 40  # as Linux, path_resolution(7)


class UntrustedFile(PluginDefinitionError):
    """A plugin file, a folder on the way to it, or a module beside it can be written by other users."""


def read_trusted(path: Path) -> bytes:
    """The content of a plugin file, if nobody else can have written it, nor the modules beside it that it imports.

    Raises:
        UntrustedFile: If somebody else can, with the path, the mode or owner, and the remedy.
        OSError: If it cannot be read.
    """
    if os.name != "posix":
        return path.read_bytes()
    with open(_open(path, path), "rb") as file:
        _check_modules_beside(path)
        return file.read()


def read_shipped(path: Path) -> bytes:
    """The content of a plugin file that comes with the package, if it is as well guarded as the package's own code.

    Raises:
        UntrustedFile: If others can write it who cannot write the package.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        if os.name == "posix":
            facts = os.fstat(file.fileno())
            _check(path, facts, path, ignored=_PACKAGE_FILE.stat().st_mode)
        return file.read()


def why_untrusted(path: Path) -> str:
    """The reason why a plugin file is not trusted; empty if it is, or if it cannot be read."""
    if os.name != "posix":
        return ""
    try:
        os.close(_open(path, path))
        _check_modules_beside(path)
    except UntrustedFile as error:
        return str(error)
    except OSError:
        return ""
    return ""


def _check_modules_beside(path: Path) -> None:
    for module in _modules_beside(path):
        os.close(_open(module, path))
        if module.suffix == ".py":
            _check_compiled(module, path)


def _check_compiled(module: Path, plugin_file: Path) -> None:
    """Check the byte code that Python executes in place of a module's source, and the folder where it looks for it."""
    folder = Path(cache_from_source(str(module))).parent
    with contextlib.suppress(FileNotFoundError):
        _check_way(folder, plugin_file)
        for compiled in folder.glob(f"{module.stem}.*.pyc"):
            os.close(_open(compiled, plugin_file))


def _check_way(path: Path, plugin_file: Path) -> Path:
    """Check the links and folders on the way to a file or folder; returns where it leads."""
    real, links, folders = _walk(path.absolute())
    for one, facts in links:
        _check_owner(one, facts, plugin_file)
    own_folders = {real, real.parent, path.parent.resolve()}
    for one, facts in _below_home(real, folders):
        _check(one, facts, plugin_file, may_be_sticky=one not in own_folders)
    return real


def _open(path: Path, plugin_file: Path) -> int:
    """Open a file for reading; what was checked is what is open."""
    real = _check_way(path, plugin_file)
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        _check(real, facts, plugin_file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class _Crossed(NamedTuple):
    """A folder or symbolic link on the way to a file."""

    path: Path
    facts: os.stat_result


def _walk(path: Path) -> tuple[Path, list[_Crossed], list[_Crossed]]:
    """Resolve an absolute path as the system does: where it leads, and the links and folders on the way."""
    current, parts = Path(path.anchor), list(reversed(path.parts[1:]))
    links: list[_Crossed] = []
    folders = {current: _Crossed(current, os.lstat(current))}
    while parts:
        part = parts.pop()
        if part == "..":
            current = current.parent
            continue
        facts = os.lstat(current / part)
        if stat.S_ISLNK(facts.st_mode):
            links.append(_Crossed(current / part, facts))
            if len(links) > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = Path(os.readlink(current / part))
            parts += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            current = Path(target.anchor) if target.is_absolute() else current
            continue
        current /= part
        if stat.S_ISDIR(facts.st_mode):
            folders[current] = _Crossed(current, facts)
    return current, links, list(folders.values())


def _below_home(real: Path, folders: list[_Crossed]) -> Iterator[_Crossed]:
    """The folders that matter: of a file in the user's home directory, those above that do not."""
    home = Path(os.path.expanduser("~")).resolve()
    is_in_home = home in real.parents
    return (one for one in folders if not (is_in_home and one.path in home.parents))


def _check(
    path: Path, facts: os.stat_result, plugin_file: Path, *, may_be_sticky: bool = False, ignored: int = 0
) -> None:
    """Refuse what other users can write; `ignored` has permission bits that do not count."""
    _check_owner(path, facts, plugin_file)
    mode = facts.st_mode & ~ignored
    if may_be_sticky and mode & stat.S_ISVTX:
        return
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_private(facts.st_gid)):
        what = "it" if path == plugin_file else _shown(path)
        raise UntrustedFile(
            f"{_shown(plugin_file)} is not loaded: other users can write {what} (mode "
            f"{stat.S_IMODE(facts.st_mode):04o}); chmod go-w {_shown(path)}"
        )


def _check_owner(path: Path, facts: os.stat_result, plugin_file: Path) -> None:
    if facts.st_uid not in (os.geteuid(), 0, _PACKAGE_FILE.stat().st_uid):
        what = "it" if path == plugin_file else _shown(path)
        remedy = f"copy it to a folder of yours, or, if you trust it, chown {os.geteuid()} {_shown(path)}"
        if path.suffix == ".pyc" or path.name == "__pycache__":
            remedy = f"rm -r {_shown(path)}"  # Python makes it anew
        raise UntrustedFile(
            f"{_shown(plugin_file)} is not loaded: {what} belongs to another user (uid {facts.st_uid}; this process "
            f"has uid {os.geteuid()}); {remedy}"
        )


def _shown(path: Path) -> str:
    """A path that another user may have named, without characters that control a terminal or reorder text."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _is_private(gid: int) -> bool:
    """True if nobody but this process's user and root is in a group, as far as the system's databases say."""
    return _has_no_others(gid, os.geteuid())


@lru_cache(maxsize=64)
def _has_no_others(gid: int, uid: int) -> bool:
    import grp
    import pwd

    try:
        names = {"root", pwd.getpwuid(uid).pw_name}
    except KeyError:  # no entry in the password file, as in some containers
        names = {"root"}
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        is_own = gid in (os.getegid(), *os.getgroups())
    else:
        is_own = group.gr_name in names and set(group.gr_mem) <= names
    return is_own and all(user.pw_uid in (0, uid) for user in pwd.getpwall() if user.pw_gid == gid)


def _modules_beside(path: Path) -> set[Path]:
    """Files in a plugin file's folder that it imports, directly or through each other; of a package, all of them."""
    entries = sorted(path.parent.iterdir())
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        facts = waiting[-1].stat()
        names = _imported_names(waiting.pop(), facts.st_mtime_ns, facts.st_size)
        for entry in entries:
            if entry.name.partition(".")[0] in names:
                modules = set(entry.rglob("*.*") if entry.is_dir() else [entry]) - found - {path}
                found |= modules
                waiting += [module for module in modules if module.suffix == ".py"]
    return {module for module in found if module.is_file()}


@lru_cache(maxsize=256)
def _imported_names(path: Path, _modified_ns: int, _size: int) -> frozenset[str]:
    """First parts of the names that a module's import statements name."""
    try:
        tree = ast.parse(decode_source(path.read_bytes()))
    except (SyntaxError, ValueError):  # loading it says so
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = [node.module] if node.module else [alias.name for alias in node.names]
            names |= {name.partition(".")[0] for name in whole}
    return frozenset(names)
