"""The row of names and last values above a panel: a line of the series' colour, its name, its last value.

Names stay; values are drawn anew with every picture, each into a slot wide enough for any, so that nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from forgesyte_nb.workbench.plot_look import DPI, HEADER_PX, THEMES, Place, font
from forgesyte_nb.workbench.plot_settings import Look

_SWATCH_PX, _GAP_PX, _APART_PX = 14.0, 5.0, 16.0
_WIDEST = "−8,888.88"

WidthPx = Callable[[str], float]
"""Width of a text in CSS pixels."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a name lies: its row, and how far from the panel's left edge, in CSS pixels."""

    text: str
    row: int
    left: float
    value_left: float


def flow(names: Sequence[str], width: float, width_px: WidthPx, *, values: bool) -> list[Entry]:
    """Put names one after the other, into as many rows as they need.

    Args:
        names: As they are; what is too long loses its beginning.
        width: Of the panel, in CSS pixels.
        width_px: Measures a text.
        values: Whether a value follows each name.
    """
    slot = width_px(_WIDEST) if values else 0.0
    entries, row, left = [], 0, 0.0
    for name in names:
        text = _shortened(name, width - _SWATCH_PX - _GAP_PX * 2 - slot, width_px)
        value_left = _SWATCH_PX + _GAP_PX + width_px(text) + _GAP_PX
        if left and left + value_left + slot > width:
            row, left = row + 1, 0.0
        entries.append(Entry(text, row, left, left + value_left))
        left += value_left + slot + _APART_PX
    return entries


def _shortened(name: str, width: float, width_px: WidthPx) -> str:
    text = name
    while len(text) > 2 and width_px(text) > width:
        text = "…" + text.lstrip("…")[1:]
    return text


def put_header(
    figure: Figure, look: Look, place: Place, entries: Sequence[Entry], colours: Sequence[str], *, animated: bool
) -> list[Text]:
    """Draw lines and names; the texts that will hold the values.

    Args:
        figure: Where.
        look: Its size and theme.
        place: The panel under them.
        entries: What `flow` made.
        colours: One for each entry.
        animated: Whether the values are left out when the figure draws itself.
    """
    rows = 1 + max(entry.row for entry in entries)
    values = []
    for entry, colour in zip(entries, colours, strict=True):
        y = (look.height - (place.top - (rows - entry.row - 0.5) * HEADER_PX)) / DPI
        left = place.left + entry.left
        figure.add_artist(
            Line2D(
                [left / DPI, (left + _SWATCH_PX) / DPI],
                [y, y],
                color=colour,
                linewidth=2.5,
                linestyle="-",
                marker="",
                solid_capstyle="butt",
                transform=figure.dpi_scale_trans,
            )
        )
        put_text(figure, left + _SWATCH_PX + _GAP_PX, y * DPI, entry.text, THEMES[look.theme].text)
        value = put_text(figure, place.left + entry.value_left, y * DPI, "", THEMES[look.theme].text)
        value.set_animated(animated)
        values.append(value)
    return values


def put_text(figure: Figure, left: float, bottom: float, text: str, colour: str) -> Text:
    """A line of text, beginning at a place in CSS pixels from the lower left corner, centred vertically on it."""
    made = Text(
        left / DPI,
        bottom / DPI,
        text,
        color=colour,
        fontproperties=font(),
        verticalalignment="center_baseline",
        horizontalalignment="left",
        usetex=False,
        parse_math=False,
        transform=figure.dpi_scale_trans,
    )
    figure.add_artist(made)
    return made
