"""A folder with pictures and plugins, and a server that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.shell import Serving

BROKEN_PLUGIN = 'import forgesyte_nb as fs\n\n\ndef broken(:\n    """\x1b[31mred"""\n'
SEQUENCE_PLUGIN = '''
import forgesyte_nb as fs


@fs.plugin
def count(frame, *, word: str = "", start: int = 0, state: dict) -> dict:
    """Counts the frames of a stream. \x1b[31m"""
    state["n"] = state.get("n", start - 1) + 1
    return {"n": state["n"], "word": word}
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures a.png … c.png in pictures/, one plugin in mine/, and one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "pictures").mkdir()
    for index, name in enumerate("cab"):
        Image.new("RGB", (32 + index, 24), (80 * index, 20, 20)).save(folder / "pictures" / f"{name}.png")
    (folder / "mine").mkdir()
    (folder / "mine" / "count.py").write_text(SEQUENCE_PLUGIN)
    (folder / "mine" / "broken.py").write_text(BROKEN_PLUGIN)
    return folder


@pytest.fixture(scope="module")
def serving(folder: Path) -> Iterator[Serving]:
    server = Serving(folder, "--plugins", "mine", "--workers", "1")
    yield server
    code, stdout, stderr = server.stop()
    assert (code, stdout, stderr) == (0, "closed\n", "")
