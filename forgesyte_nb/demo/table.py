"""The demo's table: one row for each plugin, with what it found in words; from results to text, nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forgesyte_nb.client.results import Result
from forgesyte_nb.demo.media import Media, words_read
from forgesyte_nb.demo.rounds import Round

HEADER = ("plugin", "sent", "results", "errors", "frames/s", "p50 ms", "p95 ms", "found")


@dataclass(frozen=True)
class Row:
    """One plugin's row.

    Attributes:
        frames_per_s: Results by the time from the first picture sent to the last result; 0 if there are none.
        p50_ms: Median time from sending a frame to its answer; None if there are no results.
        p95_ms: The time that 95 % of the answers kept.
        found: What the plugin found, in words.
    """

    plugin: str
    sent: int
    results: int
    errors: int
    frames_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    found: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as texts, under `HEADER`."""
        p50, p95 = ("–" if ms is None else f"{ms:.1f}" for ms in (self.p50_ms, self.p95_ms))
        counts = (str(self.sent), str(self.results), str(self.errors))
        return (self.plugin, *counts, f"{self.frames_per_s:.1f}", p50, p95, self.found)


def rows_of(rounds: Sequence[Round], media: Media) -> list[Row]:
    """A row for each round."""
    return [_row(one, media) for one in rounds]


def _row(one: Round, media: Media) -> Row:
    good = [result for result in one.results if result.ok]
    failed = next((result for result in one.results if not result.ok), None)
    latencies_ms = [result.latency_ms for result in good if result.latency_ms is not None]
    found = _FOUND[one.plugin](good, media) if good else ""
    return Row(
        plugin=one.plugin,
        sent=len(one),
        results=len(good),
        errors=len(one.results) - len(good),
        frames_per_s=len(good) / one.took_s if one.took_s else 0.0,
        p50_ms=percentile(latencies_ms, 50),
        p95_ms=percentile(latencies_ms, 95),
        found=found if failed is None else f"{found} {failed.error_code}: {failed.error}".strip(),
    )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The value that `percent` of the values do not exceed, interpolated; None of none."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _motion(good: list[Result], _: Media) -> str:
    moving = [result for result in good if result["motion_detected"]]
    boxes = sum(len(result["blocks"]) for result in moving)
    return f"motion in {len(moving)} of {len(good)} frames, {boxes} boxes"


def _faces(good: list[Result], media: Media) -> str:
    expected = {photo.frame.frame_id: photo.faces for photo in media.photos}
    on_photos = [result for result in good if result.name in expected]
    found = sum(result["count"] for result in on_photos)
    text = f"{found} of {sum(expected.values())} faces in {len(on_photos)} photos"
    in_clip = [result for result in good if result.name not in expected]
    if in_clip:
        text += f"; one in {sum(result['count'] == 1 for result in in_clip)} of {len(in_clip)} clip frames"
    return text


def _stats(good: list[Result], _: Media) -> str:
    brightness = [result["brightness"] for result in good]
    return f"brightness {min(brightness):.2f} to {max(brightness):.2f}"


def _blocks(good: list[Result], _: Media) -> str:
    kinds = {name for result in good for name in result["palette"]}
    return f"{sum(result['total_blocks'] for result in good):,} blocks of {len(kinds)} kinds"


def _words(good: list[Result], media: Media) -> str:
    texts = {result.name: result["text"] for result in good}
    parts = []
    for page in media.pages:
        if page.frame.frame_id in texts:
            read, printed = words_read(texts[page.frame.frame_id], page.text)
            parts.append(f"{read} of {printed} words of {page.frame.frame_id}")
    return "; ".join(parts)


_FOUND: dict[str, Callable[[list[Result], Media], str]] = {
    "motion_detector": _motion,
    "face_detector": _faces,
    "image_stats": _stats,
    "block_mapper": _blocks,
    "ocr": _words,
}


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal: numbers to the right, words to the left."""
    lines = [HEADER, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(HEADER) - 1
    rule = "  ".join("-" * width for width in widths[:last]) + "  " + "-" * len(HEADER[last])
    texts = [
        "  ".join(
            cell if column == last else cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([texts[0], rule, *texts[1:]])
