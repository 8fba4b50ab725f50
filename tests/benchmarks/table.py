"""What was measured, as rows: a value with its target, at a scale; and the two tables and the JSON made of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How much larger than the base: area of the frames, number of clients."""

    area: int = 1
    clients: int = 1

    def __str__(self) -> str:
        """Such as "area ×4"; "base" for the base."""
        parts = [f"{name} ×{factor}" for name, factor in asdict(self).items() if factor != 1]
        return ", ".join(parts) or "base"


BASE = Scale()
GROWTH = tuple(Scale(area=factor) for factor in (2, 4, 8)) + tuple(Scale(clients=factor) for factor in (2, 4, 8))


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: What it is.
        value: Median over the rounds.
        unit: Of the value; "×" for a ratio.
        target: What it should reach; None if the issue names none.
        at_least: Whether more is better.
        samples: The rounds.
        detail: The figures behind a ratio, for a person.
        scale: Where it was measured.
    """

    name: str
    value: float
    unit: str = "×"
    target: float | None = None
    at_least: bool = True
    samples: Sequence[float] = field(default=(), repr=False)
    detail: str = ""
    scale: Scale = BASE

    @property
    def verdict(self) -> str:
        """PASS, or by how much it falls short of its target."""
        if self.target is None:
            return "–"
        if self.value >= self.target if self.at_least else self.value <= self.target:
            return "PASS"
        missing = abs(self.target - self.value)
        return f"short by {_number(missing)}{_unit(self.unit)} ({missing / abs(self.target):.0%})"


def median_row(name: str, samples: Sequence[float], **rest: Any) -> Row:
    """A row whose value is the median of its samples."""
    return Row(name, statistics.median(samples), samples=tuple(samples), **rest)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit != "×" else ""


def _spread(samples: Sequence[float]) -> str:
    if len(samples) < 3:
        return "–"
    low, _, high = statistics.quantiles(samples, n=4)
    return f"{_number(low)} – {_number(high)}"


def _target(row: Row) -> str:
    if row.target is None:
        return "–"
    return f"{'≥' if row.at_least else '≤'} {_number(row.target)}{_unit(row.unit)}"


def base_table(rows: Sequence[Row]) -> str:
    """The rows of the base scale, with their verdicts."""
    lines = ["| what | measured | quartiles | target | | behind it |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {_number(row.value)}{_unit(row.unit)} | {_spread(row.samples)} | {_target(row)} "
        f"| {row.verdict} | {row.detail} |"
        for row in rows
        if row.scale == BASE
    ]
    return "\n".join(lines)


def growth_table(rows: Sequence[Row]) -> str:
    """One line a figure, one column a scale; a figure that misses its target is marked."""
    scales = [scale for scale in (BASE, *GROWTH) if any(row.scale == scale for row in rows)]
    found = {(row.name, row.scale): row for row in rows}
    names = [name for name in dict.fromkeys(row.name for row in rows) if any((name, s) in found for s in scales[1:])]
    lines = ["| what | target | " + " | ".join(map(str, scales)) + " |", "|---" * (len(scales) + 2) + "|"]
    for name in names:
        cells = []
        for scale in scales:
            row = found.get((name, scale))
            if row is None:
                cells.append("–")
                continue
            missed = row.target is not None and row.verdict != "PASS"
            cells.append(f"{_number(row.value)}{_unit(row.unit)}{' *' if missed else ''}")
        any_row = next(row for row in rows if row.name == name)
        lines.append(f"| {name} | {_target(any_row)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n\\* short of the base's target"


def write_json(path: Path, rows: Sequence[Row], **header: Any) -> None:
    """Everything, with all samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{**asdict(row), "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({**header, "rows": listed}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
