"""The table of words: each phrase in it is one that the package says; none is replaced by more of the notebook's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import forgesyte_nb
from forgesyte_nb.cli.wording import IN_A_SHELL, in_a_shell

PACKAGE = Path(forgesyte_nb.__file__).parent
NOTEBOOK_WORDS = ("fs.", "server.url", "server.log", "Settings(", "token=", "port=", "plugins=")


def texts_of_the_package() -> list[str]:
    """Every literal text outside of the command line, parts of f-strings one by one."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli"]
    nodes = (node for path in modules for node in ast.walk(ast.parse(path.read_text())))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


TEXTS = texts_of_the_package()


@pytest.mark.parametrize("phrase", IN_A_SHELL)
def test_each_phrase_is_said_somewhere(phrase: str) -> None:
    assert any(phrase in text for text in TEXTS), "the package says it no longer: change the table with it"


@pytest.mark.parametrize("phrase", IN_A_SHELL)
def test_no_phrase_is_replaced_by_the_notebooks_words(phrase: str) -> None:
    said = in_a_shell(f"before {phrase} after")
    assert phrase not in said
    assert not [word for word in NOTEBOOK_WORDS if word in said]


def test_the_longest_phrase_counts() -> None:
    assert in_a_shell("server = fs.serve(); server.url says where it listens") == (
        "`forgesyte-nb serve`, which says where it listens"
    )
    assert in_a_shell("None is loaded; define one with @fs.plugin").count("forgesyte-nb") == 1
