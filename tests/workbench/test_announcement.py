"""What a cell shows that defines plugins, in a real shell."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source
from forgesyte_nb.plugins.registry import Registry, registering_in

BRIGHT = """
@fs.plugin
def bright(frame, *, threshold: float = 0.5) -> dict:
    return {}
"""
AGAIN = BRIGHT.replace("0.5", "0.7")
FORMS = """
@fs.plugin("counts", version="2")
class Counts:
    def process(self, frame): return {}

doubles = fs.plugin("doubles")(bright)
"""


def shown(shell: InteractiveShell, cell: str) -> list[str]:
    with capture_output() as captured:
        shell.run_cell(cell).raise_error()
    assert captured.stdout == captured.stderr == ""
    return [output.data["text/plain"] for output in captured.outputs]


def test_a_cell_shows_what_it_registered(shell: InteractiveShell) -> None:
    shell.user_ns["fs"] = fs
    with registering_in(Registry()):
        assert shown(shell, BRIGHT) == ["bright, revision 1; options: threshold=0.5"]
        assert shown(shell, BRIGHT) == ["bright, revision 1; options: threshold=0.5"]
        assert shown(shell, AGAIN) == ["bright, revision 2; options: threshold=0.7"]
        assert shown(shell, FORMS) == [
            "counts, revision 1; options: none",
            "doubles, revision 1; options: threshold=0.7",
        ]


def test_what_a_cell_does_not_define_itself_is_not_shown(shell: InteractiveShell) -> None:
    shell.user_ns.update(fs=fs, load_source=load_source)
    inside = f"def make():\n    {BRIGHT.strip().replace(chr(10), chr(10) + '    ')}\nmake()"
    with registering_in(Registry()):
        assert shown(shell, inside) == []
        assert shown(shell, f"found = load_source({'import forgesyte_nb as fs' + BRIGHT!r}, 'bright.py')") == []


def test_nothing_is_shown_for_a_cell_that_fails(shell: InteractiveShell) -> None:
    shell.user_ns["fs"] = fs
    with registering_in(Registry()), capture_output() as captured, pytest.raises(fs.PluginDefinitionError):
        shell.run_cell("@fs.plugin\nasync def bright(frame): return {}").raise_error()
    assert captured.outputs == []
