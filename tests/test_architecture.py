"""The rooms of ARCHITECTURE.md hold: a module imports only lower levels and its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "forgesyte_nb"
LEVELS = {
    "background": 0,
    "checks": 0,
    "errors": 0,
    "keywords": 0,
    "settings": 0,
    "token_file": 0,
    "spool": 0,
    "protocol": 1,
    "image": 1,
    "backlog": 2,
    "plugins": 2,
    "jobs": 2,
    "failures": 2,
    "feeds": 2,
    "drawing": 2,
    "engines": 3,
    "outbox": 4,
    "sessions": 4,
    "subscriptions": 4,
    "reception": 4,
    "tally": 4,
    "viewers": 4,
    "job_messages": 4,
    "first_use": 4,
    "dispatch": 4,
    "transport": 4,
    "server": 5,
    "client": 5,
    "workbench": 6,
    "widgets": 6,
    "jupyter": 6,
    "demo": 6,
    "cli": 6,
}
OWNERS = {"websockets": {"server", "transport"}, "ipywidgets": {"widgets"}, "anywidget": {"widgets"}}
MAY_IMPORT_NEIGHBOURS = {
    "protocol",
    "keywords",
    "settings",
    "token_file",
    "dispatch",
    "first_use",
    "sessions",
    "reception",
    "subscriptions",
    "viewers",
    "jobs",
    "failures",
    "cli",
    "widgets",
    "workbench",
}
SANS_IO = {
    *("errors", "keywords", "settings", "protocol", "image", "jobs", "feeds"),
    *("outbox", "sessions", "subscriptions", "viewers", "job_messages", "tally"),
}
NOT_SANS_IO = {PACKAGE / "image/memory.py", PACKAGE / "image/pillow.py"}
"""They ask for threads, and lock out others."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(module: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import; say forgesyte_nb.…"
            yield node.lineno, node.module or ""


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(module: Path) -> None:
    room = room_of(module)
    if room == "__init__":
        return
    assert room in LEVELS, f"{room} has no level: place it in ARCHITECTURE.md and here"
    for line, name in imports_of(module):
        parts = name.split(".")
        if parts[0] != "forgesyte_nb" or len(parts) == 1:
            continue
        other = parts[1]
        neighbours = LEVELS[other] == LEVELS[room] and room in MAY_IMPORT_NEIGHBOURS
        assert other == room or LEVELS[other] < LEVELS[room] or neighbours, (
            f"{module.name}:{line}: {room} (level {LEVELS[room]}) imports {other} (level {LEVELS[other]})"
        )


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_rooms(module: Path) -> None:
    for line, name in imports_of(module):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room_of(module) in owners, f"{module.name}:{line}: {name} belongs to {owners}"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if room_of(m) in SANS_IO and m not in NOT_SANS_IO], ids=lambda path: path.name
)
def test_sans_io_rooms_do_no_io(module: Path) -> None:
    for line, name in imports_of(module):
        assert name.split(".")[0] not in {"asyncio", "socket", "threading", "subprocess", "selectors"}, (
            f"{module.name}:{line}: {name} in a sans-I/O room"
        )


def test_shipped_plugins_import_only_the_public_package() -> None:
    for module in sorted((ROOT / "plugins").glob("*.py")):
        for line, name in imports_of(module):
            assert name.split(".")[0] != "forgesyte_nb" or name == "forgesyte_nb", (
                f"{module.name}:{line}: a plugin imports forgesyte_nb itself, not {name}"
            )


def test_every_module_states_its_contract() -> None:
    for module in MODULES:
        assert ast.get_docstring(ast.parse(module.read_text())), f"{module} opens without a paragraph"
