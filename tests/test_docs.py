"""The documents say what the code does: every message, code and setting is in the README, and its snippets run."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from forgesyte_nb.errors import WIRE_ERRORS
from forgesyte_nb.plugins.discovery import discover, shipped_folder
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.protocol import messages
from forgesyte_nb.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
ENDS = {0: "print(stream.wait(60).ledger['results'])"}
OUTPUTS = {0: "300\n"}
ADDRESS = "ws://localhost:8000"
SERVED = "import forgesyte_nb\nserver = forgesyte_nb.serve(port=0)\n"
"""What stands before a snippet that is another program's, which needs a server."""
WIRE_MESSAGES = [
    thing
    for thing in vars(messages).values()
    if isinstance(thing, type) and issubclass(thing, msgspec.Struct) and thing.__struct_config__.tag is not None
]


def row_of(name: str) -> str:
    rows = [line for line in README.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    assert rows, f"`{name}` is in the first column of no table of the README"
    return rows[0]


@pytest.mark.parametrize("message", WIRE_MESSAGES, ids=lambda message: str(message.__struct_config__.tag))
def test_every_message_is_documented(message: type[msgspec.Struct]) -> None:
    assert row_of(str(message.__struct_config__.tag))


@pytest.mark.parametrize("message", [messages.SendFrame, messages.FrameResult, messages.Error, messages.JobUpdate])
def test_every_field_of_the_main_messages_is_documented(message: type[msgspec.Struct]) -> None:
    row = row_of(str(message.__struct_config__.tag))
    for field in message.__struct_fields__:
        assert f"`{field}`" in row, f"{message.__name__}.{field} is missing"


@pytest.mark.parametrize("code", WIRE_ERRORS)
def test_every_error_code_is_documented(code: str) -> None:
    assert row_of(code)


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_documented_with_its_default(field: object) -> None:
    name, default = field.name, field.default  # type: ignore[attr-defined]
    shown = row_of(name).split("|")[2].strip().replace(",", "")
    units = {"MiB": 1 << 20, "KiB": 1 << 10}
    number, _, unit = shown.partition(" ")
    if unit in units:
        assert int(number) * units[unit] == default
    else:
        assert shown in (repr(default), str(default))


def test_every_option_of_a_shipped_plugin_is_described() -> None:
    registry = Registry()
    discover(registry, [shipped_folder()])
    assert registry.plugins()
    for plugin in registry.plugins():
        assert plugin.description, f"{plugin.name} has no docstring"
        assert f"`{plugin.name}`" in README
        for name, option in plugin.schema.json_schema.get("properties", {}).items():
            assert option.get("description"), f"{plugin.name}: option {name} has no description"


def test_every_target_of_the_makefile_is_documented() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in set(targets) - {"opencv", "browser", "clean"}:
        assert f"make {target}`" in README or f"make {target} " in README


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README's snippets name."""
    import av
    import numpy as np

    folder = tmp_path_factory.mktemp("reader")
    with av.open(str(folder / "street.mp4"), "w") as clip:
        stream = clip.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 250, 25):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            clip.mux(stream.encode(picture))
        clip.mux(stream.encode(None))
    Image.new("RGB", (64, 48)).save(folder / "photo.png")
    return folder


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int, reader_folder: Path) -> None:
    script = reader_folder / f"snippet_{number}.py"
    snippet = SNIPPETS[number] + ENDS.get(number, "")
    if f'"{ADDRESS}/' in snippet:
        snippet = SERVED + snippet.replace(f'"{ADDRESS}/', 'server.url + "/')
    script.write_text(snippet)
    done = subprocess.run(
        [sys.executable, script.name], cwd=reader_folder, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == OUTPUTS.get(number, done.stdout)


def test_links_lead_somewhere() -> None:
    for document in ("README.md", "ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / document).read_text()):
            assert (ROOT / target).exists(), f"{document} links to {target}"
