"""A server's secret in a file: made with a mode of 0600, read by those who may, refused if others may."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import forgesyte_nb as fs
from forgesyte_nb.token_file import make_token, token_of
from tests.conftest import get


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = make_token(path)
    assert len(made) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_token(path) == made == token_of(path)
    assert token_of("text") == "text"
    assert token_of(None) is None


def test_it_is_refused_if_others_may_read_it_or_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(fs.ServerError, match=f"mode {mode:o}.: chmod 600 {path}"):
            token_of(path)
    path.write_text(" \n")
    path.chmod(0o600)
    with pytest.raises(fs.ServerError, match="is empty"):
        make_token(path)


def test_what_cannot_be_read_or_made_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "binary").chmod(0o600)
    for path, reason in (
        (tmp_path / "nosuch", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "binary", "it is no text"),
        (tmp_path / "a\0b", "embedded null byte"),
    ):
        with pytest.raises(fs.ServerError, match=f"cannot be read .{reason}.: name the file with the server's secret"):
            token_of(path)
    with pytest.raises(fs.ServerError, match=r"nowhere/token cannot be made: there is no folder .*nowhere; make it"):
        fs.serve(port=0, token=tmp_path / "nowhere" / "token")
    with pytest.raises(fs.ServerError, match=r"cannot be made .*: name a file in a folder of yours"):
        make_token(Path("/proc/token"))
    with pytest.raises(fs.ServerError, match=r"cannot be made .File name too long.: name a file in a folder of yours"):
        make_token(tmp_path / ("x" * 300))
    with pytest.raises(fs.ServerError, match="nosuch cannot be read"):
        fs.Client("ws://localhost:1", token=tmp_path / "nosuch")


def test_many_that_make_it_at_once_agree(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / str(number)
        with ThreadPoolExecutor(8) as pool:
            made = set(pool.map(lambda _, path=path: make_token(path), range(8)))
        assert made == {path.read_text().strip()}
    assert len(list(tmp_path.iterdir())) == 20, "no draft is left"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    make_token(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(fs.ServerError, match=r"belongs to another user of this machine \(uid 65534\)"):
        token_of(path)


def test_a_token_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="token is empty"):
        fs.Settings(token=" ")  # noqa: S106 -- it is none
    with pytest.raises(TypeError, match=r"serve\(token=Path\(…\)\)"):
        fs.Settings(token=Path("token"))  # type: ignore[arg-type]


UNUSABLE = {
    "two words": "character 4 is a space",
    "one,two": "character 4 is a comma",
    "one\ntwo": "character 4 is a line break",
    "one\rtwo": "character 4 is a line break",
    "\u0442oken": "character 1 is not printable ASCII",
    "one\x00": "character 4 is not printable ASCII",
    "one\u200b": "character 4 is not printable ASCII",
}


@pytest.mark.parametrize("token", UNUSABLE)
def test_a_token_that_cannot_be_presented_is_refused_wherever_it_is_given(tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_text(token, newline="", encoding="utf-8")
    path.chmod(0o600)
    for use, error in (
        (lambda: fs.serve(port=0, token=token, engine="inline"), ValueError),
        (lambda: fs.Settings(token=token), ValueError),
        (lambda: fs.serve(port=0, token=path, engine="inline"), fs.ServerError),
        (lambda: fs.Client("ws://localhost:1", token=token), ValueError),
        (lambda: fs.Client("ws://localhost:1", token=path), fs.ServerError),
    ):
        with pytest.raises(error, match=UNUSABLE[token]) as refused:
            use()
        assert "; use " in str(refused.value) or "remove" in str(refused.value)
        assert token not in str(refused.value)


def test_a_browser_could_not_present_every_token_that_a_program_can(tmp_path: Path) -> None:
    for token in ("abc/def==", "(token)", "a:b"):
        with pytest.raises(ValueError, match="is a sign, which cannot be presented"):
            fs.Settings(token=token)
        assert fs.Client("http://localhost:8888/forgesyte_nb/kernel", token=token)  # of a Jupyter Server, say
    assert fs.Settings(token="!#$%&'*+-.^_`|~aZ09").token  # noqa: S106 -- of this test alone
    path = tmp_path / "token"
    path.write_text("abc/def==")
    path.chmod(0o600)
    with pytest.raises(fs.ServerError, match=r"token: token=<hidden>: its character 4 is a sign"):
        fs.serve(port=0, token=path)


def test_a_link_is_not_followed_when_it_is_made(tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", tmp_path / "token")
    with pytest.raises(fs.ServerError, match="token cannot be read"):
        make_token(tmp_path / "token")
    assert not (tmp_path / "elsewhere").exists()


def test_a_server_and_its_clients_agree_by_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with fs.serve(port=0, token=path, engine="inline") as server:
        assert get(server, "/v1/plugins")[0] == 403
        with fs.BlockingClient(server.url, token=path) as client:
            assert client.connected
        assert path.read_text().strip() not in f"{server!r} {server.settings!r} {server.log_tail(100)}"
