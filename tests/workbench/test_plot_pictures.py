"""What a plot looks like: its pixels, live and for keeps, whatever a cell does to rcParams.

Left out of what cells do are settings of the rasterizer (`text.hinting`, `path.snap`, `path.simplify`), which move
pixels by less than one, and of `savefig`, which are the caller's.
"""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import PluginError
from forgesyte_nb.server.loop import SWITCH_INTERVAL_S
from forgesyte_nb.workbench.plot import LivePlotter
from forgesyte_nb.workbench.plot_figure import PlotFigure
from forgesyte_nb.workbench.plot_look import THEMES
from forgesyte_nb.workbench.plot_points import PointRing, Points, Window
from forgesyte_nb.workbench.plot_settings import Look, PlotSpec
from tests.conftest import PATIENCE_S

Picture = NDArray[np.uint8]
MISSING = "no result has 'result.a'; there are: result.b"
FIELDS = ("result.share", "latency_ms")


def points(*series: Sequence[float], totals: bool = False, window: Window | None = None) -> Points:
    """A point a second."""
    ring = PointRing(len(series), 1000)
    for second, values in enumerate(zip(*series, strict=True)):
        ring.append(float(second), values)
    return ring.view(window or Window(), totals=totals)


def drawn(
    *series: Sequence[float],
    fields: Sequence[str] = (),
    kind: str = "lines",
    boolean: bool = False,
    look: Look | None = None,
    window: Window | None = None,
    notes: dict[int, str] | None = None,
) -> Picture:
    """The picture of a live plot."""
    paths = tuple(fields) or ("result.a", "result.b", "result.c")[: len(series)]
    spec = PlotSpec(paths, (boolean,) * len(paths), kind, window or Window())
    plot = PlotFigure(spec, look or Look(), live=True)
    plot.update(points(*series, totals=kind == "cumulative", window=window), notes)
    return plot.draw()[..., :3].copy()


def of_colour(picture: Picture, colour: str, tolerance: int = 12) -> NDArray[np.bool_]:
    """Pixels of a colour."""
    rgb = [int(colour[index : index + 2], 16) for index in (1, 3, 5)]
    return np.all(np.abs(picture.astype(int) - rgb) <= tolerance, axis=-1)


def below_header(picture: Picture, colour: str) -> NDArray[np.bool_]:
    """Pixels of a curve."""
    found = of_colour(picture, colour)
    found[:23] = False
    return found


@pytest.fixture(autouse=True)
def rc_params_as_before() -> Iterator[None]:
    with mpl.rc_context():
        yield


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["lines", "histogram", "cumulative"])
@pytest.mark.parametrize("width", [600, 1200])
def test_every_series_is_there_in_its_colour(kind: str, theme: str, width: int) -> None:
    rising = [float(value % 40) for value in range(200)]
    picture = drawn(rising, [60 - value for value in rising], kind=kind, look=Look(width, 300, 1.0, theme))
    assert picture.shape == (300, width, 3)
    assert of_colour(picture, THEMES[theme].background, 0).mean() > 0.5
    for colour in THEMES[theme].series[:2]:
        assert below_header(picture, colour).sum() > 50
    assert not below_header(picture, THEMES[theme].series[2]).any()


def test_a_line_lies_where_its_values_are() -> None:
    picture = drawn([float(value) for value in range(100)], window=Window(count=100))
    ys, xs = np.nonzero(below_header(picture, THEMES["light"].series[0]))
    slope, _ = np.polyfit(xs, ys, 1)
    assert xs.min() < 60
    assert xs.max() > 570
    assert slope < -0.3
    assert np.corrcoef(xs, ys)[0, 1] < -0.99


def test_failed_results_leave_a_gap() -> None:
    values = [1.0] * 40 + [math.nan] * 20 + [1.0] * 40
    columns = below_header(drawn(values, window=Window(count=100)), THEMES["light"].series[0]).any(axis=0)
    gap = columns[52 + int(528 * 0.42) : 52 + int(528 * 0.58)]
    assert not gap.any()
    assert columns[60:240].all()
    assert columns[380:570].all()


def test_a_single_value_between_gaps_is_seen() -> None:
    picture = drawn([math.nan] * 50 + [1.0] + [math.nan] * 49, window=Window(count=100))
    assert 2 <= below_header(picture, THEMES["light"].series[0]).sum() <= 40


def test_booleans_are_steps() -> None:
    picture = drawn([0.0] * 50 + [1.0] * 50, boolean=True, window=Window(count=100))
    line = below_header(picture, THEMES["light"].series[0])
    rows = np.flatnonzero(line.sum(axis=1) > 100)
    between = line[rows.min() + 5 : rows.max() - 5]
    assert rows.max() - rows.min() > 100
    assert between.any()
    assert between.any(axis=0).sum() <= 3


def test_units_have_panels_of_their_own() -> None:
    picture = drawn([0.5, 0.6] * 50, [30.0, 40.0] * 50, fields=FIELDS)
    share, latency = (np.nonzero(below_header(picture, colour))[0] for colour in THEMES["light"].series[:2])
    assert np.ptp(share) > 20
    assert np.percentile(share, 99) < np.percentile(latency, 1)


def test_fifty_thousand_points_show_their_one_peak() -> None:
    ring = PointRing(1)
    for index in range(50_000):
        ring.append(index / 30, [100.0 if index == 20_001 else 1.0])
    plot = PlotFigure(PlotSpec(("result.a",), (False,), "lines", Window()), Look(), live=True)
    plot.update(ring.view(Window()))
    line = below_header(plot.draw()[..., :3], THEMES["light"].series[0])
    tall = np.flatnonzero(line.sum(axis=0) > 100)
    assert 1 <= tall.size <= 4
    start, end = np.flatnonzero(line.any(axis=0))[[0, -1]]
    assert (tall.mean() - start) / (end - start) == pytest.approx(0.4, abs=0.01)


def test_what_is_drawn_over_kept_pixels_is_what_is_drawn_anew() -> None:
    spec = PlotSpec(("result.a", "latency_ms"), (False, False), "lines", Window(count=50))
    rng = np.random.default_rng(0)
    first, second = ([list(rng.uniform(0.4, 1.0, 50)), list(rng.uniform(40, 100, 50))] for _ in range(2))
    live = PlotFigure(spec, Look(), live=True)
    live.update(points(*first))
    before = live.draw().copy()
    live.update(points(*second))
    after = live.draw().copy()
    anew = PlotFigure(spec, Look(), live=True)
    anew.update(points(*second))
    assert (before != after).any()
    np.testing.assert_array_equal(after, anew.draw())


def test_names_with_dollars_and_underscores_stand_as_they_are() -> None:
    for name in ("result.a_$x^2$_b", "result.$_{$", r"result.\frac", "result.ü_%"):
        assert not (drawn([1.0, 2.0], fields=[name]) == drawn([1.0, 2.0], fields=["result.ax2b"])).all()


def test_a_long_name_keeps_its_end_and_stays_in_the_picture() -> None:
    name = "result." + "very_" * 60 + "long"
    picture = drawn([1.0, 2.0], fields=[name])
    assert (of_colour(picture, THEMES["light"].background, 0)[:22, -10:]).all()


def test_a_note_stands_where_curves_would() -> None:
    middle = (slice(100, 200), slice(100, 500))
    without, said = drawn([math.nan] * 3), drawn([math.nan] * 3, notes={0: MISSING})
    assert (without[middle] != said[middle]).sum() > 500


@pytest.mark.parametrize("kind", ["lines", "histogram", "cumulative"])
@pytest.mark.parametrize("fields", [("result.a", "latency_ms"), ("result.a", "result.b")])
def test_a_note_stands_in_the_panel_of_its_field_beside_the_curves_of_the_others(
    fields: tuple[str, str], kind: str
) -> None:
    series = [math.nan] * 100, [30.0, 40.0] * 50
    without, said = (
        drawn(*series, fields=fields, kind=kind),
        drawn(*series, fields=fields, kind=kind, notes={0: MISSING}),
    )
    changed = (without != said).any(axis=-1)
    ys, xs = np.nonzero(changed)
    assert changed.sum() > 500
    assert below_header(said, THEMES["light"].series[1]).sum() > 50
    if fields[1] == "latency_ms":  # has a panel of its own
        assert (xs.max() < 300) if kind == "histogram" else (ys.max() < 150)


def test_a_long_note_stays_within_a_low_panel() -> None:
    note = {0: f"{MISSING}, {', '.join(f'result.field_{number}' for number in range(50))}"}
    values = [[math.nan] * 10, *([float(row)] * 10 for row in range(3))]
    fields = ("result.a", "latency_ms", "result.b_px", "result.c_s")
    without, said = drawn(*values, fields=fields), drawn(*values, fields=fields, notes=note)
    ys, _ = np.nonzero((without != said).any(axis=-1))
    assert ys.max() - ys.min() < 75


def test_which_field_no_result_has_stands_in_the_picture_until_one_has_it() -> None:
    plot = LivePlotter(["result.shar", "latency_ms"])
    for index in range(5):
        plot.add(Result(str(index), "p", {"share": 0.5}, latency_ms=20.0), float(index))
    assert any("did you mean 'result.share'" in text for text in words_in(plot))
    plot.add(Result("5", "p", {"shar": 0.5}, latency_ms=20.0), 5.0)
    assert not any("no result has" in text for text in words_in(plot))
    plot.close()


def words_in(plot: LivePlotter) -> list[str]:
    """Texts of a plot for keeps, without their line breaks."""
    return [" ".join(text.get_text().split()) for text in plot.figure().findobj(Text) if text.get_visible()]  # type: ignore[attr-defined]  # its stubs say Artist


def test_larger_scale_is_the_same_picture_in_more_pixels() -> None:
    values = [math.sin(value / 5) for value in range(100)]
    small = drawn(values)
    large = drawn(values, look=Look(scale=2.0))
    assert large.shape == (600, 1200, 3)
    halved = np.asarray(Image.fromarray(large).resize((600, 300), Image.Resampling.BOX), dtype=float)
    assert np.abs(halved - small).mean() < 6


def plotted(**settings: Any) -> LivePlotter:
    plot = LivePlotter(list(FIELDS), **settings)
    for index in range(300):
        plot.add(Result(str(index), "p", {"share": (index % 30) / 30}, latency_ms=20.0 + index % 7), index / 30)
    return plot


def pixels_of(figure: Figure) -> Picture:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("kind", ["lines", "histogram", "cumulative"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_for_keeps_is_the_same_plot(kind: str, theme: str) -> None:
    plot = plotted(kind=kind)
    figure = plot.figure(theme=theme)
    spec, seen, _ = plot._shown()
    live = PlotFigure(spec, Look(theme=theme), live=True)
    live.update(seen)
    np.testing.assert_array_equal(pixels_of(figure), live.draw()[..., :3])
    assert isinstance(figure, Figure)
    lines = [line for axes in figure.axes for line in axes.lines]
    assert kind == "histogram" or any(len(line.get_xdata()) > 100 for line in lines)
    plot.close()


def test_a_kept_figure_is_no_longer_drawn_in_and_can_be_changed() -> None:
    plot = plotted()
    figure = plot.figure()
    before = pixels_of(figure)
    plot.add(Result("x", "p", {"share": 100.0}, latency_ms=1000.0))
    np.testing.assert_array_equal(pixels_of(figure), before)
    figure.axes[0].axhline(0.5, color="red")
    assert of_colour(pixels_of(figure), "#FF0000").sum() > 200
    assert plot._repr_png_().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # KeptFigure has it
    assert plot.figure(width=1200, height=400).get_size_inches().tolist() == [12.0, 4.0]
    with pytest.raises(ValueError, match="light, dark"):
        plot.figure(theme="blue")
    plot.close()


def test_pyplot_is_never_imported_and_matplotlib_only_to_draw() -> None:
    code = """
import sys
from forgesyte_nb.workbench.plot import LivePlotter
from forgesyte_nb.client.results import Result
plot = LivePlotter(["latency_ms"])
plot.add(Result("1", "p", latency_ms=3.0))
assert "matplotlib" not in sys.modules
plot._repr_png_()
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


HOSTILE: dict[str, Any] = {
    "font.size": 30,
    "font.family": "monospace",
    "text.usetex": True,
    "text.color": "magenta",
    "axes.facecolor": "magenta",
    "axes.edgecolor": "magenta",
    "axes.grid": True,
    "axes.grid.which": "both",
    "axes.grid.axis": "x",
    "axes.linewidth": 9,
    "axes.spines.bottom": False,
    "axes.axisbelow": False,
    "axes.xmargin": 0.5,
    "axes.unicode_minus": False,
    "axes.titlepad": 40,
    "figure.facecolor": "magenta",
    "figure.edgecolor": "magenta",
    "figure.dpi": 33,
    "figure.figsize": (2, 9),
    "figure.frameon": False,
    "figure.constrained_layout.use": True,
    "grid.color": "magenta",
    "grid.linewidth": 7,
    "grid.linestyle": ":",
    "grid.alpha": 0.3,
    "lines.linewidth": 9,
    "lines.linestyle": ":",
    "lines.marker": "s",
    "lines.markersize": 20,
    "lines.antialiased": False,
    "lines.solid_capstyle": "round",
    "patch.antialiased": False,
    "patch.edgecolor": "magenta",
    "patch.force_edgecolor": True,
    "patch.linewidth": 9,
    "hatch.linewidth": 9,
    "path.sketch": (5, 20, 2),
    "xtick.labelsize": 30,
    "xtick.color": "magenta",
    "xtick.labelcolor": "magenta",
    "xtick.direction": "in",
    "xtick.top": True,
    "xtick.bottom": False,
    "xtick.labelbottom": False,
    "xtick.labeltop": True,
    "xtick.minor.visible": True,
    "xtick.alignment": "left",
    "xtick.major.size": 20,
    "xtick.major.pad": 30,
    "ytick.labelsize": 30,
    "ytick.color": "magenta",
    "ytick.direction": "inout",
    "ytick.right": True,
    "ytick.labelleft": False,
    "ytick.labelright": True,
    "ytick.minor.visible": True,
    "ytick.alignment": "top",
}


def clean_and_now(kind: str, change: Callable[[], None]) -> tuple[Picture, Picture, Picture]:
    """The live picture and the kept one, after a change of rcParams; before them the live one without it."""
    values = [math.sin(value / 5) for value in range(100)]
    ups = [float(value % 3) for value in range(100)]
    clean = drawn(values, ups, kind=kind, fields=FIELDS)
    change()
    kept = PlotFigure(PlotSpec(FIELDS, (False, False), kind, Window()), Look(), live=False)
    kept.update(points(values, ups, totals=kind == "cumulative"))
    return clean, drawn(values, ups, kind=kind, fields=FIELDS), pixels_of(kept.figure)


@pytest.mark.parametrize("kind", ["lines", "histogram", "cumulative"])
@pytest.mark.parametrize("name", ["hostile", "dark_background", "ggplot", "fivethirtyeight", "seaborn-v0_8-poster"])
def test_what_cells_set_in_rc_params_does_not_show(kind: str, name: str) -> None:
    clean, live, kept = clean_and_now(
        kind, lambda: mpl.rcParams.update(HOSTILE) if name == "hostile" else style.use(name)
    )
    np.testing.assert_array_equal(live, clean)
    np.testing.assert_array_equal(kept, clean)


def test_rc_params_that_change_while_plots_are_drawn_do_not_show_and_stay_the_cells() -> None:
    stop, mine_lost = threading.Event(), []

    def cell() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            mpl.rcParams.update(HOSTILE | {"lines.linewidth": number})
            if mpl.rcParams["lines.linewidth"] != number:
                mine_lost.append(number)
            with mpl.rc_context({"path.sketch": (9, 9, 9), "font.size": 40}):
                pass
            style.use("dark_background")
            mpl.rcdefaults()

    values = [math.sin(value / 5) for value in range(100)]
    clean = {kind: drawn(values, values, kind=kind, fields=FIELDS) for kind in ("lines", "histogram")}
    other = threading.Thread(target=cell)
    usual_interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as while a server runs: else every wait for the GIL costs 5 ms
    try:
        other.start()
        for _ in range(15):
            for kind, expected in clean.items():
                np.testing.assert_array_equal(drawn(values, values, kind=kind, fields=FIELDS), expected)
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(usual_interval_s)
    assert not mine_lost


def test_failures_are_told_when_there_is_nothing_to_draw() -> None:
    plot = LivePlotter(["result.share"])
    plot.add(Result("1", "p", error=PluginError("boom")))
    assert plot.state()["problem"] == "all 1 results so far failed, the newest with PLUGIN_ERROR: boom"
    plot.close()
