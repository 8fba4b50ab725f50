"""A server's secret in a file: made with a mode of 0600, read by those who may, refused if others may."""

from __future__ import annotations

import os
import stat
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


def test_a_link_is_not_followed_when_it_is_made(tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", tmp_path / "token")
    with pytest.raises(OSError):
        make_token(tmp_path / "token")
    assert not (tmp_path / "elsewhere").exists()


def test_a_server_and_its_clients_agree_by_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with fs.serve(port=0, token=path, engine="inline") as server:
        assert get(server, "/v1/plugins")[0] == 403
        with fs.BlockingClient(server.url, token=path) as client:
            assert client.connected
        assert path.read_text().strip() not in f"{server!r} {server.settings!r} {server.log_tail(100)}"
