"""What a plot computes: paths into results, rings of points, columns of pixels, limits, bins and texts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import PluginError
from forgesyte_nb.workbench.plot_curves import (
    bin_edges,
    decimate,
    isolated,
    round_ticks,
    short_number,
    steady_limits,
    tick_texts,
)
from forgesyte_nb.workbench.plot_fields import Field, no_number, numeric_paths, unit_of
from forgesyte_nb.workbench.plot_points import PointRing, Window
from forgesyte_nb.workbench.plot_settings import Look, checked_fields, checked_look, checked_window

VALUES = st.one_of(st.just(math.nan), st.floats(-1e6, 1e6))
RESULT = Result(
    "f1",
    "p",
    {
        "confidence": 0.5,
        "found": True,
        "boxes": [{"score": 0.9}, {"score": 0.1}],
        "text": "four",
        "nothing": None,
        "inner": {"deep": {"n": 3}, "length": 7},
        "huge": 10**400,
    },
    processing_time_ms=12.5,
    latency_ms=14.0,
    timings={"queue_ms": 1.5},
)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("result.confidence", 0.5),
        ("result.found", 1.0),
        ("result.boxes", 2.0),
        ("result.boxes.length", 2.0),
        ("result.boxes.1.score", 0.1),
        ("result.text.length", 4.0),
        ("result.inner.deep.n", 3.0),
        ("result.inner.length", 7.0),
        ("timings.queue_ms", 1.5),
        ("latency_ms", 14.0),
        ("ok", 1.0),
        ("result.text", math.nan),
        ("result.nothing", math.nan),
        ("result.huge", math.nan),
        ("result.boxes.7.score", math.nan),
        ("result.confidence.deeper", math.nan),
        ("result.missing", math.nan),
    ],
)
def test_a_path_leads_to_a_number(path: str, number: float) -> None:
    field = Field(path)
    assert field.of(RESULT) == pytest.approx(number, nan_ok=True)
    assert field.found is not math.isnan(number)


def test_a_field_is_boolean_only_while_all_it_found_is() -> None:
    field = Field("result.x")
    for value, boolean in ((None, False), (True, True), (False, True), (None, True), (0.5, False), (True, False)):
        field.of(Result("f", "p", {"x": value}))
        assert field.boolean is boolean


def test_a_failed_result_has_no_value_but_is_not_ok() -> None:
    failed = Result("f", "p", error=PluginError("no"), latency_ms=3.0)
    assert math.isnan(Field("result.confidence").of(failed))
    assert Field("ok").of(failed) == 0.0
    assert Field("latency_ms").of(failed) == 3.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_path_that_is_offered_leads_to_a_number(value: Any) -> None:
    result = Result("f", "p", {"x": value})
    for path in numeric_paths(result):
        assert not math.isnan(Field(path).of(result))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("result.confidnce", ["'result.confidnce'", "did you mean 'result.confidence'", "result.boxes.0.score"]),
        ("result.zzz", ["no result has 'result.zzz'", "there are: result."]),
        ("result.text", ["is text, not a number", "result.confidence"]),
        ("result.nothing", ["is null"]),
    ],
)
def test_a_path_without_a_number_says_what_there_is(path: str, words: list[str]) -> None:
    assert all(word in no_number(path, RESULT) for word in [*words, "latency_ms"])


def test_the_closest_fields_are_named_first_also_when_there_are_many() -> None:
    there = {f"other_{number}": number for number in range(100)} | {"confidence": 0.5, "confident": True}
    said = no_number("result.confidnce", Result("f", "p", there))
    assert "There are: result.confidence, result.confident, " in said


@pytest.mark.parametrize("path", ["", ".", "result.", "result..x", 3, None])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="name one by its path"):
        Field(path)


def test_a_bare_name_is_told_where_it_belongs() -> None:
    with pytest.raises(ValueError, match=r"'result\.bright'"):
        Field("bright")


def test_units_are_read_from_names() -> None:
    assert [unit_of(path) for path in ("latency_ms", "result.share", "timings.queue_ms", "result.s")] == [
        "ms",
        "",
        "ms",
        "",
    ]


@given(st.lists(st.tuples(st.floats(0, 10), VALUES, VALUES), max_size=40), st.integers(2, 8), st.integers(0, 45))
def test_a_ring_keeps_the_newest(columns: list[tuple[float, float, float]], capacity: int, upto: int) -> None:
    ring = PointRing(2, capacity)
    times, sums, totals = [], [math.nan, math.nan], []
    for at_s, *values in columns:
        ring.append(at_s, values)
        times.append(max(at_s, times[-1] if times else 0.0))
        for row, value in enumerate(values):
            if not math.isnan(value):
                sums[row] = value if math.isnan(sums[row]) else sums[row] + value
        totals.append(list(sums))
    end = min(upto, len(columns))
    first = min(end, max(0, len(columns) - capacity))
    view = ring.view(Window(), upto=upto)
    assert view.first == first
    assert view.at_s.tolist() == times[first:end]
    np.testing.assert_array_equal(view.curves.T, np.array([c[1:] for c in columns[first:end]]).reshape(-1, 2))
    summed = ring.view(Window(), totals=True, upto=upto)
    np.testing.assert_array_equal(summed.curves.T, np.array(totals[first:end]).reshape(-1, 2))
    newest = ring.newest(upto)
    np.testing.assert_array_equal(newest, columns[end - 1][1:] if end > first else [math.nan] * 2)


def test_windows_cut_by_count_and_by_time() -> None:
    ring = PointRing(1, 100)
    for second in range(150):
        ring.append(float(second), [float(second)])
    assert ring.view(Window(count=3)).curves.tolist() == [[147, 148, 149]]
    assert ring.view(Window(seconds=2.5)).at_s.tolist() == [147, 148, 149]
    assert len(ring.view(Window(seconds=1000))) == 100
    assert ring.view(Window(count=10)).began_s == 0.0


def test_a_ring_takes_over_the_series_that_stay() -> None:
    old = PointRing(2, 4)
    for value in range(6):
        old.append(value, [value, 10 * value])
    new = PointRing(2, 4)
    new.take_over(old, [None, 0])
    new.append(6, [1.0, 100.0])
    np.testing.assert_array_equal(new.view(Window()).curves, [[math.nan] * 3 + [1.0], [3, 4, 5, 100]])
    assert new.view(Window(), totals=True).curves[1].tolist() == [6, 10, 15, 115]


@given(
    st.lists(st.tuples(st.floats(0, 100), VALUES), min_size=1, max_size=300),
    st.floats(0.5, 30),
)
def test_decimation_keeps_the_smallest_and_largest_of_each_column(
    points: list[tuple[float, float]], width: float
) -> None:
    points.sort(key=lambda point: point[0])
    x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    thin_x, thin_y = decimate(x, y, width)
    assert thin_x.shape == thin_y.shape
    assert thin_x.size <= max(x.size, 2) or thin_x.size <= 2 * ((x[-1] - x[0]) / width + 2)
    assert np.all(np.diff(thin_x) >= 0)
    before, after = np.floor(x / width), np.floor(thin_x / width)
    assert set(before) == set(after)
    for column in set(before):
        mine, kept = y[before == column], thin_y[after == column]
        np.testing.assert_equal(np.fmin.reduce(kept), np.fmin.reduce(mine))
        np.testing.assert_equal(np.fmax.reduce(kept), np.fmax.reduce(mine))


def test_fifty_thousand_points_become_two_a_column() -> None:
    x = np.linspace(0, 500, 50_000)
    thin_x, _ = decimate(x, np.sin(x), 1.0)
    assert thin_x.size <= 2 * 501


def test_columns_do_not_move_when_the_curve_does() -> None:
    rng = np.random.default_rng(0)
    x, y = np.arange(1000) / 10, rng.standard_normal(1000)
    _, early = decimate(x[:900], y[:900], 1.0)
    _, late = decimate(x[10:], y[10:], 1.0)
    np.testing.assert_array_equal(early[2:], late[: early.size - 2])


def test_values_without_neighbours_are_found() -> None:
    nan = math.nan
    assert isolated(np.array([1, nan, 2, 3, nan, 4, nan])) == [0, 5]
    assert isolated(np.array([1.0])) == [0]
    assert isolated(np.array([])) == []


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_limits_hold_the_values_and_stay(low: float, span: float, from_zero: bool) -> None:
    found = (low, low + span)
    limits = steady_limits(found, None, from_zero=from_zero)
    assert limits[0] <= found[0] + 1e-9 * span
    assert limits[1] >= found[1] - 1e-9 * span
    assert limits[0] < limits[1]
    inner = (low + 0.01 * span, low + 0.99 * span)
    assert steady_limits(inner, limits, from_zero=from_zero) == limits


def test_limits_change_when_values_leave_them_or_shrink() -> None:
    limits = steady_limits((0.0, 10.0), None)
    assert limits == (0.0, 12.5)
    assert steady_limits((0.0, 12.4), limits) == limits
    assert steady_limits((0.0, 16.0), limits) != limits
    assert steady_limits((0.0, 2.0), limits)[1] < 5
    assert steady_limits((5.0, 5.0), None) == steady_limits((5.0, 5.0), steady_limits((5.0, 5.0), None))


def test_ticks_are_round_and_texts_short() -> None:
    assert round_ticks((0.0, 1.0), 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert round_ticks((-29.0, 0.0), 5, inside=True) == [-20, -10, 0]
    assert tick_texts([-0.5, 0.0, 0.5]) == ["−0.5", "0", "0.5"]
    assert tick_texts([0.0, 2500.0, 5000.0]) == ["0", "2,500", "5,000"]
    assert tick_texts([0.0, 5e6]) == ["0", "5e6"]
    assert [short_number(v) for v in (None, math.nan, 3.0, 0.12345, 12.345, 123456.7, 1.5e9, -2e-7)] == [
        "–",
        "–",
        "3",
        "0.123",
        "12.35",
        "123,457",
        "1.50e9",
        "−2.00e−7",
    ]  # fmt: skip


@given(st.floats(-1e100, 1e100))
def test_every_number_is_short(value: float) -> None:
    assert len(short_number(value)) <= 10


def test_bins_lie_around_whole_numbers() -> None:
    assert bin_edges(np.array([1.0, 3.0, math.nan]), None, boolean=False).tolist() == [0.5, 1.5, 2.5, 3.5]
    assert bin_edges(np.array([0.0, 1.0]), None, boolean=True).tolist() == [-0.5, 0.5, 1.5]
    fine = bin_edges(np.array([0.1, 0.9]), None, boolean=False)
    assert fine[0] <= 0.1 < 0.9 <= fine[-1]
    assert fine.size > 20


@pytest.mark.parametrize(
    "window",
    [
        {"seconds": 0},
        {"seconds": True},
        {"seconds": math.nan},
        {"count": 1},
        {"count": 60_000},
        {"count": 2.5},
        {"seconds": 1, "count": 2},
        {"s": 1},
        30,
    ],
)
def test_what_is_no_window_is_refused(window: Any) -> None:
    with pytest.raises(ValueError, match="'seconds': 30"):
        checked_window(window)


def test_settings_say_what_they_take() -> None:
    look = checked_look(checked_look(Look(), theme="dark"), size={"width": 99999, "height": 1})
    assert (look.width, look.height, look.scale, look.theme) == (2400, 120, 1.0, "dark")
    with pytest.raises(ValueError, match="light, dark"):
        checked_look(Look(), theme="pink")
    with pytest.raises(ValueError, match="'width': 600"):
        checked_look(Look(), size={"width": "wide", "height": 300})
    with pytest.raises(ValueError, match="second plot"):
        checked_fields([f"result.f{index}" for index in range(9)])
    with pytest.raises(ValueError, match="twice"):
        checked_fields(["ok", "ok"])
    with pytest.raises(ValueError, match="list of paths"):
        checked_fields("ok")
