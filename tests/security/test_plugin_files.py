"""Plugin files that other users of the machine can write are not executed: which, what is said of them, and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins import file_trust
from forgesyte_nb.plugins.discovery import discover, load_file, plugin_folders, shipped_folder
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import get, wait_for
from tests.server.conftest import log_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and owners are those of POSIX")
needs_root = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a file away")

PLUGIN = """
import os
import forgesyte_nb as fs
os.environ['EXECUTED'] = '{name}'
@fs.plugin
def {name}(frame):
    return {{}}
"""
STRANGER = 65534


@pytest.fixture(autouse=True)
def private_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes are set by these tests; the umask of the machine does not count."""
    monkeypatch.delenv("EXECUTED", raising=False)
    file_trust._has_no_others.cache_clear()


def write(folder: Path, name: str, mode: int = 0o600, text: str = "") -> Path:
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{name}.py"
    path.write_text(text or PLUGIN.format(name=name))
    path.chmod(mode)
    return path


def refused(path: Path) -> str:
    """Why a plugin file is refused; empty if it is loaded."""
    registry = Registry()
    os.environ.pop("EXECUTED", None)
    if not file_trust.why_untrusted(path):
        assert load_file(registry, path) == [path.stem], registry.failures
        return ""
    with pytest.warns(UserWarning, match="is not loaded") as warned:
        assert load_file(registry, path) == []
    assert "EXECUTED" not in os.environ
    assert registry.failures[path.name] == str(warned[0].message) == file_trust.why_untrusted(path)
    return registry.failures[path.name]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o400, 0o1644])
def test_files_of_ours_are_loaded(tmp_path: Path, mode: int) -> None:
    assert refused(write(tmp_path / "plugins", "good", mode)) == ""


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o646, 0o777])
def test_a_file_that_all_can_write(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "plugins", "bad", mode)
    assert refused(path) == (f"{path} is not loaded: other users can write it (mode {mode:04o}); chmod go-w {path}")
    path.chmod(mode & ~0o022)
    assert refused(path) == "", "the remedy"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
@pytest.mark.parametrize("above", [0, 1])
def test_a_folder_that_all_can_write(tmp_path: Path, mode: int, above: int) -> None:
    path = write(tmp_path / "work" / "plugins" if (tmp_path / "work").mkdir() is None else tmp_path, "bad")
    folder = path.parents[above]
    folder.chmod(mode)
    said = refused(path)
    if mode == 0o1777 and above:
        assert said == "", "in a sticky folder others can neither remove nor replace what is ours"
    else:
        assert said == f"{path} is not loaded: other users can write {folder} (mode {mode:04o}); chmod go-w {folder}"


def test_a_name_that_controls_the_terminal_is_escaped(tmp_path: Path) -> None:
    path = write(tmp_path / "plugins", "\x1b]52;c;evil\x07\u202e", 0o666, text=PLUGIN.format(name="bad"))
    said = refused(path)
    assert said.isprintable()
    assert "x1b]52;c;evil" in said


@needs_root
@pytest.mark.parametrize("what", ["file", "folder", "above", "link"])
def test_what_belongs_to_another_user(tmp_path: Path, what: str) -> None:
    (tmp_path / "work").mkdir(mode=0o755)
    path = write(tmp_path / "work" / "plugins", "bad")
    link = tmp_path / "work" / "link"
    link.symlink_to("plugins")
    owned = {"file": path, "folder": path.parent, "above": path.parents[1], "link": link}[what]
    os.chown(owned, STRANGER, STRANGER, follow_symlinks=False)
    said = refused(link / path.name if what == "link" else path)
    assert f"belongs to another user (uid {STRANGER}; this process has uid 0)" in said
    assert said.endswith(f"chown 0 {owned}")


@needs_root
def test_who_may_write_the_package_may_write_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "__init__.py"
    package.touch()
    os.chown(package, STRANGER, STRANGER)
    monkeypatch.setattr(file_trust, "_PACKAGE_FILE", package)
    path = write(tmp_path / "plugins", "good")
    os.chown(path, STRANGER, STRANGER)
    assert refused(path) == "", "a clone that another user made is run as root, as in CI"
    os.chown(path, STRANGER - 1, 0)
    assert "belongs to another user" in refused(path)


def test_a_link_is_followed_to_what_is_executed(tmp_path: Path) -> None:
    real = write(tmp_path / "elsewhere", "linked")
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o700)
    link = plugins / "linked.py"
    link.symlink_to("../elsewhere/linked.py")
    assert refused(link) == ""
    real.chmod(0o666)
    assert f"other users can write {real} (mode 0666); chmod go-w {real}" in refused(link)
    real.chmod(0o600)
    real.parent.chmod(0o777)
    assert f"other users can write {real.parent} (mode 0777)" in refused(link)
    real.parent.chmod(0o700)
    link.unlink()
    link.symlink_to("linked.py")
    registry = Registry()
    assert load_file(registry, link) == []
    assert "Too many levels of symbolic links" in registry.failures["linked.py"]


IMPORTS = {
    "import helper": "helper.py",
    "from helper import value": "helper.py",
    "import package.part": "package/part.py",
    "from other import value": "helper.py",  # which imports it
    "def late():\n    import helper": "helper.py",
}


@pytest.mark.parametrize("statement", IMPORTS)
def test_a_module_beside_it_that_it_imports(tmp_path: Path, statement: str) -> None:
    path = write(tmp_path / "plugins", "bad", text=f"{statement}\n{PLUGIN.format(name='bad')}")
    for name, text in (("helper.py", "value = 1"), ("other.py", "from helper import value"), ("unused.py", "")):
        (path.parent / name).write_text(text)
    (path.parent / "package").mkdir(mode=0o700)
    (path.parent / "package" / "__init__.py").touch()
    (path.parent / "package" / "part.py").touch()
    (path.parent / "unused.py").chmod(0o666)
    assert file_trust.why_untrusted(path) == ""
    module = path.parent / IMPORTS[statement]
    module.chmod(0o666)
    assert refused(path) == f"{path} is not loaded: other users can write {module} (mode 0666); chmod go-w {module}"


COMPILED = """
import importlib.util, marshal, sys
code = compile("import os; os.environ['EXECUTED'] = 'planted'; value = 1", "helper.py", "exec")
sys.stdout.buffer.write(importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]) + bytes(8) + marshal.dumps(code))
"""  # the flags of a .pyc file whose source is not compared with it


@needs_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_byte_code_that_another_user_left_beside_it(tmp_path: Path, what: str) -> None:
    path = write(tmp_path / "plugins", "bad", text=f"import helper\n{PLUGIN.format(name='bad')}")
    (path.parent / "helper.py").write_text("value = 1")
    cache = path.parent / "__pycache__"
    cache.mkdir(mode=0o755)
    assert file_trust.why_untrusted(path) == ""
    planted = cache / f"helper.{sys.implementation.cache_tag}.pyc"
    owned = cache
    if what == "file":
        owned = planted
        planted.write_bytes(subprocess.check_output([sys.executable, "-c", COMPILED]))
    os.chown(owned, STRANGER, STRANGER)
    said = refused(path)
    assert f"{owned} belongs to another user" in said
    assert said.endswith(f"rm -r {owned}")
    planted.unlink(missing_ok=True)
    cache.rmdir()
    assert refused(path) == "", "the remedy"


def test_a_folder_of_byte_code_that_all_can_write(tmp_path: Path) -> None:
    path = write(tmp_path / "plugins", "bad", text=f"import helper\n{PLUGIN.format(name='bad')}")
    (path.parent / "helper.py").write_text("value = 1")
    cache = path.parent / "__pycache__"
    cache.mkdir()
    cache.chmod(0o1777)
    assert refused(path) == f"{path} is not loaded: other users can write {cache} (mode 1777); chmod go-w {cache}"
    cache.chmod(0o755)
    assert refused(path) == "", "the remedy"


GROUPS: dict[str, tuple[Any, list[tuple[str, int, int]], bool]] = {
    "private": (("me", []), [("me", 1000, 7)], True),
    "private, with ourselves as a member": (("me", ["me", "root"]), [("me", 1000, 7)], True),
    "of root": (("root", []), [("root", 0, 7)], True),
    "with another member": (("me", ["bob"]), [("me", 1000, 7)], False),
    "primary group of another user": (("me", []), [("me", 1000, 7), ("bob", 1001, 7)], False),
    "of another name": (("users", []), [("me", 1000, 7)], False),
    "without an entry, ours": (None, [("me", 1000, 7)], True),
    "without an entry, not ours": ("not ours", [], False),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_group_that_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    import grp
    import pwd

    group, users, trusted = GROUPS[case]
    accounts = {uid: SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=gid) for name, uid, gid in users}

    def getgrgid(_: int) -> Any:
        if not isinstance(group, tuple):
            raise KeyError
        return SimpleNamespace(gr_name=group[0], gr_mem=group[1])

    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    monkeypatch.setattr(pwd, "getpwuid", accounts.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: list(accounts.values()))
    monkeypatch.setattr(os, "getegid", lambda: 8 if group == "not ours" else 7)
    monkeypatch.setattr(os, "getgroups", list)
    assert file_trust._has_no_others(7, 1000) is trusted


def test_a_group_writable_file_with_a_private_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "plugins", "mine", 0o664)
    path.parent.chmod(0o775)
    monkeypatch.setattr(file_trust, "_is_private", lambda _: True)
    assert refused(path) == "", "umask 002, as Debian and Ubuntu set it for users with a group of their own"
    monkeypatch.setattr(file_trust, "_is_private", lambda _: False)
    assert "other users can write" in refused(path)


def test_shipped_plugins_are_as_trusted_as_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "shipped", 0o666)
    package = tmp_path / "__init__.py"
    package.touch()
    monkeypatch.setattr(file_trust, "_PACKAGE_FILE", package)
    package.chmod(0o644)
    with pytest.raises(file_trust.UntrustedFile):
        file_trust.read_shipped(path)
    package.chmod(0o666)  # as on a disk without modes
    assert file_trust.read_shipped(path) == path.read_bytes()
    registry = Registry()
    discover(registry, [shipped_folder()])
    assert registry.failures == {}


def test_it_is_said_everywhere_and_the_remedy_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = write(tmp_path / "plugins", "bad", 0o666), write(tmp_path / "plugins", "good")
    monkeypatch.chdir(tmp_path)
    registry = Registry()
    settings = fs.Settings(engine="inline")
    with pytest.warns(UserWarning, match="other users can write it"):
        running = fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log")
    with running as server:
        reason = f"{bad} is not loaded: other users can write it (mode 0666); chmod go-w {bad}"
        assert server.failures == {"bad.py": reason}
        assert "bad" not in [plugin.name for plugin in server.plugins]
        assert good.stem in [plugin.name for plugin in server.plugins]
        listed = get(server, "/v1/plugins")[1]["failed"]
        assert [(one["name"], one["reason"]) for one in listed] == [("bad.py", reason)]
        assert f"cannot be loaded: bad.py: {reason}" in log_of(server)
        bad.chmod(0o600)
        wait_for(lambda: "bad" in [plugin.name for plugin in server.plugins], "the file to be loaded")
        assert server.failures == {}


@pytest.mark.parametrize("way", ["variable", "asked", "current folder"])
def test_whichever_way_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    folder = tmp_path / ("plugins" if way == "current folder" else "named")
    write(folder, "bad", 0o666)
    monkeypatch.chdir(tmp_path)
    if way == "variable":
        monkeypatch.setenv("FORGESYTE_NB_PLUGINS", str(folder))
    registry = Registry()
    with pytest.warns(UserWarning, match="other users can write it"):
        discover(registry, plugin_folders([folder] if way == "asked" else []))
    assert list(registry.failures) == ["bad.py"]


AS_ANOTHER = """
import json, os, sys, tokenize
from pathlib import Path
from forgesyte_nb.plugins.file_trust import why_untrusted
os.setgid(65534); os.setuid(65534)
print(json.dumps([why_untrusted(Path(path)) for path in sys.argv[1:]]))
"""


@needs_root
def test_a_user_trusts_files_of_root_and_of_his_own_only() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        folder = Path(made)
        folder.chmod(0o755)
        paths = [write(folder, name, 0o644) for name in ("of_root", "of_his", "of_bob")]
        os.chown(paths[1], STRANGER, STRANGER)
        os.chown(paths[2], STRANGER - 1, STRANGER - 1)
        found = subprocess.check_output([sys.executable, "-c", AS_ANOTHER, *map(str, paths)], text=True)
    reasons = json.loads(found)
    assert reasons[:2] == ["", ""]
    assert "belongs to another user" in reasons[2]
