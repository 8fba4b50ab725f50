"""`stream.snapshot()` draws every result that a plugin may return; letters have a font, or are shown by their codes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

import forgesyte_nb as fs
from forgesyte_nb.drawing import fonts
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

WIDTH, HEIGHT = 160, 120
INSIDE = np.zeros((HEIGHT, WIDTH), bool)
INSIDE[60:100, 80:150] = True
BOX = {"label": "cat", "bbox": [20, 40, 60, 70]}

ODD: dict[str, Any] = {
    "box": BOX,
    "box in a list": {"found": [BOX]},
    "box with x0": {"label": "cat", "bbox": {"x0": 20, "y0": 40, "x1": 60, "y1": 70}},
    "box of fs.Box": {"found": fs.Box(20, 40, 40, 30, label="cat")},
    "box of numpy": {"label": "cat", "bbox": np.array([20, 40, 60, 70], np.float32)},
    "label": {"found": [{"label": "cat"}]},
    "label beside bbox None": {"found": [{"label": "cat", "bbox": None}]},
    "whole": {"label": "cat", "bbox": [0, 0, WIDTH, HEIGHT]},
    "whole, huge": {"label": "cat", "bbox": [-1e300, -(10**15), 1e300, 10**15]},
    "nothing": {},
    "nothing, box outside": {"label": "cat", "bbox": [1e9, 1e9, 2e9, 2e9]},
    "nothing, negative size": {"label": "cat", "confidence": 0.5, "bbox": [60, 70, 20, 40]},
    "nothing, box of words": {"n": 1, "m": 2, "bbox": "20 40 60 70"},
    "nothing, None": {"bbox": None, "label": None, "text": None, "mask": None},
    "nothing, nested": {"a": [[[[[[[[[BOX]]]]]]]]]},
    "mask": {"found": [{"mask": fs.Mask(INSIDE, "road").to_json()["mask"], "label": "road"}]},
    "mask of fs.Mask": {"ground": fs.Mask(INSIDE, "road")},
    "keypoints": {"points": [{"x": 30, "y": 40, "label": "nose"}, {"x": 90, "y": 80}]},
    "keypoints of numpy": {"points": [{"x": np.float32(30), "y": np.int64(40), "name": "nose"}, {"x": 90.0, "y": 80}]},
    "text": {"text": "a line\nand another"},
    "text in a list": {"found": [{"text": "a line and another", "bbox": None}]},
    "text that is not ASCII": {"text": "Größe → Ωж"},
}
GRAY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
PLUGIN = """
@fs.plugin
def odd(frame):
    return results[frame.seq]
"""


def stream_of(results: list[Any], log: Path) -> Iterator[fs.Stream]:
    """A stream whose picture n, gray, has result n."""
    registry = Registry()
    run_cell(PLUGIN, registry, results=results)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=log) as server:
        frames = [fs.Frame.from_array(GRAY, lossless=True) for _ in results]
        stream = fs.stream(frames, "odd", server=server).wait(30)
        yield stream
        stream.close()


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fs.Stream]:
    yield from stream_of(list(ODD.values()), tmp_path_factory.mktemp("log") / "log")


def snapshot_of(stream: fs.Stream, name: str) -> Any:
    return np.asarray(stream.snapshot(len(ODD) - 1 - list(ODD).index(name)))


@pytest.mark.parametrize("name", ODD)
def test_a_snapshot_of_an_odd_result(stream: fs.Stream, name: str) -> None:
    """The first word of a name says what is drawn: the same for all that share it."""
    assert stream.ledger["results"] == len(ODD)
    drawn, kind = snapshot_of(stream, name), name.replace(",", "").split()[0]
    assert (drawn == snapshot_of(stream, kind)).all() or "ASCII" in name
    assert (drawn == GRAY).all() == (kind == "nothing")


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    """Fonts are looked for anew in this test, and again after it."""
    caches = (fonts._shown, fonts._system_fonts, fonts._warn)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def font_with(letter: str, path: Path) -> None:
    """A font of one letter, a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (900, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.mark.usefixtures("fresh_fonts")
def test_a_letter_is_drawn_in_a_font_of_the_machine_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    font_with("中", tmp_path / "square.ttf")
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    found = [str(tmp_path / name) for name in ("damaged.ttf", "square.ttf")]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)
    for stream in stream_of([{"text": "a中b"}, {"text": "ab"}], tmp_path / "log"):
        drawn = np.asarray(stream.snapshot(1))
        wide = [int((np.asarray(stream.snapshot(back)) != 90).any(axis=(0, 2)).sum()) for back in (1, 0)]
    assert wide[0] - wide[1] in (10, 11)  # 0.9 of 12 pixels
    dark = (drawn < 40).all(axis=2)
    assert sum(dark[:, column].sum() >= 9 for column in range(WIDTH)) >= 8  # the square


@pytest.mark.usefixtures("fresh_fonts")
def test_a_letter_that_no_font_has_is_shown_by_its_code_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    results = [{"text": text} for text in ("a中文", r"a\u4e2d\u6587", "a", "a\u200d\ufe0f")]
    for stream in stream_of(results, tmp_path / "log"):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            by_code, written, plain, invisible = (np.asarray(stream.snapshot(back)) for back in (3, 2, 1, 0))
            stream.snapshot(3)
        assert (by_code == written).all()
        assert (plain == invisible).all()
        assert [str(one.message)[:41] for one in said] == ["captions show some letters by their codes"]
        assert "fonts-noto-cjk" in str(said[0].message)
