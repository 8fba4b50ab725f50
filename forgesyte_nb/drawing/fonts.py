"""The fonts of captions: DejaVu Sans of matplotlib's wheel, and a font of the system for each letter that it lacks."""

from __future__ import annotations

import contextlib
import unicodedata
import warnings
from functools import cache
from pathlib import Path

from PIL import ImageFont

SIZE = 12
"""Pixels."""


def runs_of(text: str) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    r"""A text in pieces of one font each.

    A letter that no font has is replaced by its code, such as `\u4e2d`, with a warning once in a process.
    """
    runs: list[tuple[str, ImageFont.FreeTypeFont]] = []
    for character in text:
        shown, font = _shown(character)
        before, last = runs[-1] if runs else ("", None)
        if font is last:
            runs[-1] = (before + shown, font)
        else:
            runs.append((shown, font))
    return runs


def length(text: str) -> float:
    """Its width in pixels."""
    return sum(font.getlength(run) for run, font in runs_of(text))


@cache
def main_font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans: Latin, Greek, Cyrillic, Arabic and more."""
    return ImageFont.truetype(_main_path(), SIZE)


def _main_path() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"))


@cache
def _shown(character: str) -> tuple[str, ImageFont.FreeTypeFont]:
    """What is drawn for a letter, and its font."""
    code = ord(character)
    if code in _codes_of(_main_path()):
        return character, main_font()
    if path := _system_fonts().get(code):
        return character, _font(path)
    if unicodedata.category(character) in ("Cf", "Mn"):  # a mark on another letter, or a direction: no letter itself
        return "", main_font()
    _warn()
    return character.encode("unicode_escape").decode(), main_font()


@cache
def _warn() -> None:
    warnings.warn(
        "captions show some letters by their codes, since no font of the kernel's machine has them: install one, such "
        "as the package fonts-noto-cjk for Chinese, Japanese and Korean, and start the kernel again",
        stacklevel=2,
    )


@cache
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, SIZE)


@cache
def _codes_of(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


@cache
def _system_fonts() -> dict[int, str]:
    """Maps the code of each letter to the path of a font that has it, one without serifs if there is one."""
    from matplotlib.font_manager import findSystemFonts
    from matplotlib.ft2font import FT2Font

    found: dict[int, str] = {}
    for path in sorted(findSystemFonts(), key=lambda path: ("sans" not in Path(path).name.lower(), path)):
        if Path(path).name.startswith("LastResort"):  # its letters are boxes
            continue
        with contextlib.suppress(OSError, RuntimeError):  # damaged, or emoji as pictures of other sizes
            ImageFont.truetype(path, SIZE)
            for code in FT2Font(path).get_charmap():
                found.setdefault(code, path)
    return found
