"""Results: what a plugin may return, and that what JSON cannot say is refused by its place, never bent."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import io
import json
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from forgesyte_nb.errors import InvalidImage, PluginError
from forgesyte_nb.plugins.results import Box, Keypoint, Label, Mask, Text, encode_result

MIB = 1 << 20


class Shade(enum.Enum):
    DARK = "dark"


class Level(enum.IntEnum):
    HIGH = 3


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Finding:
    name: str
    score: Any


def said(result: Any) -> Any:
    return json.loads(encode_result(result, max_bytes=MIB))


def refused(result: Any, max_bytes: int = MIB) -> str:
    with pytest.raises(PluginError) as caught:
        encode_result(result, max_bytes=max_bytes)
    return str(caught.value)


NOON = datetime.datetime(2026, 1, 11, 12)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (None, None),
        ([True, 1, 1.5, "ü\u2028\x00"], [True, 1, 1.5, "ü\u2028\x00"]),
        ("null", "null"),
        (np.int64(3), 3),
        (np.uint8(255), 255),
        (np.float16(1.5), 1.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.arange(6).reshape(2, 3)[:, ::-1], [[2, 1, 0], [5, 4, 3]]),
        (np.arange(3, dtype=">i4"), [0, 1, 2]),
        (np.array(5), 5),
        (np.array([]), []),
        (np.array(["a"]), ["a"]),
        (np.datetime64("2026-01-11T12:00"), "2026-01-11T12:00:00"),
        (NOON, "2026-01-11T12:00:00"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (Shade.DARK, "dark"),
        (Level.HIGH, 3),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({1: "one", np.int64(2): "two"}, {"1": "one", "2": "two"}),
        (Finding("x", np.float32(0.5)), {"name": "x", "score": 0.5}),
        (Box(1, 2, 3, 4), {"bbox": {"x": 1, "y": 2, "width": 3, "height": 4}}),
        (
            Box.from_xyxy(np.float32(1), 2, 5, 9, "cat", 0.5),
            {"bbox": {"x": 1, "y": 2, "width": 4, "height": 7}, "label": "cat", "confidence": 0.5},
        ),
        (Text("hi"), {"text": "hi"}),
        (
            Text("hi", Box(1, 2, 3, 4), 1.0),
            {"text": "hi", "bbox": {"x": 1, "y": 2, "width": 3, "height": 4}, "confidence": 1},
        ),
        (Keypoint(1, 2, "eye"), {"x": 1, "y": 2, "label": "eye"}),
        (Label("cat", np.float32(0.5)), {"label": "cat", "confidence": 0.5}),
        ([Label("cat"), [Label("dog")]], [{"label": "cat"}, [{"label": "dog"}]]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("beside", [{}, {"x": None}, {"x": {1: 2}}], ids=["alone", "beside null", "on the slow walk"])
def test_what_may_be_returned(value: Any, wire: Any, beside: dict[str, Any]) -> None:
    """The same whichever way it is encoded: a None elsewhere in the result must not change what is allowed."""
    got = said({"value": value, **beside})
    assert got["value"] == wire


def test_an_empty_result_is_a_result() -> None:
    assert encode_result({}, max_bytes=2) == b"{}"


def test_a_mask_is_a_png() -> None:
    pixels = np.zeros((3, 5))
    pixels[1, 2] = 0.5
    mask = said({"mask": Mask(pixels, "cat")})["mask"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(mask["mask"]))))
    assert picture.tolist() == (pixels != 0).astype(int).__mul__(255).tolist()
    assert (mask["width"], mask["height"], mask["label"]) == (5, 3, "cat")


def test_a_mask_comes_back_as_it_was_given() -> None:
    pixels = np.random.default_rng(1).integers(0, 3, (37, 53))
    inside = Mask.decode(said({"mask": Mask(pixels, "cat")})["mask"])
    assert inside.dtype == np.bool_
    assert np.array_equal(inside, pixels != 0)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("aGk=", "a str is no mask: give the object"),
        ({"bbox": {}}, "a dict is no mask"),
        ({"mask": [[0, 1]]}, "a dict is no mask"),
        ({"mask": "é"}, "`mask` is no base64"),
        ({"mask": "aGk"}, "`mask` is no base64"),
        ({"mask": base64.b64encode(b"no picture" * 5).decode()}, "No picture that can be read"),
    ],
)
def test_what_is_no_mask_says_so(found: Any, text: str) -> None:
    with pytest.raises(InvalidImage, match=text):
        Mask.decode(found)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3,), (), (0, 3)])
def test_a_mask_of_another_shape(shape: tuple[int, ...]) -> None:
    assert f"Mask of shape {shape}" in refused({"m": Mask(np.zeros(shape))})


@pytest.mark.parametrize("result", [None, [], (), 1, "text", True, b"", np.zeros(3), Box(1, 2, 3, 4), dict], ids=repr)
def test_what_is_no_dict(result: Any) -> None:
    assert "not a dict: return {'value': …}" in refused(result)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf")])
@pytest.mark.parametrize("wrap", ["list", "array", "box", "tuple", "plain"])
def test_no_nan_becomes_null(bad: float, wrap: str) -> None:
    value = {
        "list": [1, bad],
        "array": np.array([1, bad]),
        "box": Box(1, 2, bad, 4),
        "tuple": (0, (bad,)),
        "plain": bad,
    }
    place = {"list": "[1]", "array": "[1]", "box": "['bbox']['width']", "tuple": "[1][0]", "plain": ""}
    assert refused({"a": 1, "value": value[wrap]}).startswith(f"result['value']{place[wrap]} is {float(bad)}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1, 2}, "is a set"),
        (frozenset(), "is a frozenset"),
        (b"x", "is a bytes"),
        (bytearray(b"x"), "is a bytearray"),
        (np.complex64(1), "is a NumPy complex64"),
        (np.array([object()]), "is a NumPy object"),
        (decimal.Decimal("1.5"), "is a Decimal"),
        (range(3), "is a range"),
        (lambda: 0, "is a function"),
        ((i for i in ()), "is a generator"),
        (object(), "is an object"),
        (Box, "is a type"),
    ],
)
def test_what_json_cannot_say_is_named_by_its_place(value: Any, reason: str) -> None:
    assert refused({"a": [0, {"b": value}]}).startswith(f"result['a'][1]['b'] {reason}")


@pytest.mark.parametrize("key", [None, True, 1.5, (1, 2), b"x", float("nan")], ids=repr)
@pytest.mark.parametrize("value", [1, None])
def test_keys_are_text(key: Any, value: Any) -> None:
    assert f"has the key {key!r}" in refused({"a": {key: value}})


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        (2**70, "", "1180591620717411303424: whole numbers have 64 bits; return it as a float or text"),
        ([0, [1, 2**64]], "[1][1]", "18446744073709551616: whole numbers have 64 bits"),
        (-(2**63) - 1, "", "-9223372036854775809: whole numbers"),
        (2**300, "", "a whole number of 301 bits: whole numbers"),
        ([1, "\ud800"], "[1]", "text with surrogates, which UTF-8 cannot say"),
        ([0, 1, 2, np.longdouble("inf")], "[3]", "inf: JSON has no such number"),
        (np.array([1, np.nan], np.longdouble), "[1]", "nan: JSON has no such number"),
        ([0, pd.NaT], "[1]", "NaT: JSON has no such time"),
        (datetime.timedelta(1), "", "a timedelta, which JSON cannot say; return its seconds as a number"),
        (np.timedelta64(1, "s"), "", "a NumPy timedelta64[s], which JSON cannot say"),
        (pd.DataFrame({"a": [1, np.inf]}), "[1]['a']", "inf: JSON has no such number"),
        (pd.DataFrame({"a": [{1}]}), "[0]['a']", "a set, which JSON cannot say"),
    ],
)
def test_values_beyond_json_are_named_by_their_place(value: Any, place: str, reason: str) -> None:
    assert refused({"v": value}).startswith(f"result['v']{place} is {reason}")


def test_times_that_are_missing_are_not_null() -> None:
    assert "result['t'] has a NaT" in refused({"t": np.array(["2026-01-11", "NaT"], "datetime64[D]")})


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (np.longdouble(1.5), 1.5),
        (np.array([[1.5, 2]], np.longdouble), [[1.5, 2.0]]),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (pd.Timestamp("2026-01-11T12:00", tz="UTC"), "2026-01-11T12:00:00+00:00"),
        (np.array(["2026-01-11"], "datetime64[D]"), ["2026-01-11T00:00:00"]),
    ],
    ids=repr,
)
def test_numbers_and_times_of_every_width(value: Any, wire: Any) -> None:
    assert said({"value": value}) == {"value": wire}
    assert said({"value": [value], "x": None}) == {"value": [wire], "x": None}


WHEN = pd.Timestamp("2026-01-11T12:00")


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (
            pd.DataFrame({"name": ["cat", None], "score": [0.5, np.nan], "n": [1, 2], "at": [WHEN, pd.NaT]}),
            [
                {"name": "cat", "score": 0.5, "n": 1, "at": "2026-01-11T12:00:00"},
                {"name": None, "score": None, "n": 2, "at": None},
            ],
        ),
        (pd.DataFrame({"a": [1, 2]}, index=[7, 9]), [{"a": 1}, {"a": 2}]),
        (pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key")), [{"key": "x", "a": 1}]),
        (pd.DataFrame({("box", "x"): [1], 2: [3]}), [{"box.x": 1, "2": 3}]),
        (pd.DataFrame({"a": []}), []),
        (
            pd.DataFrame({"boxes": [[Box(1, 2, 3, 4)]]}),
            [{"boxes": [{"bbox": {"x": 1, "y": 2, "width": 3, "height": 4}}]}],
        ),
        (pd.Series([1.5, np.nan], index=["a", "b"]), [1.5, None]),
    ],
)
def test_a_table_is_a_list_of_its_rows(table: Any, rows: Any) -> None:
    assert said({"table": table}) == {"table": rows}
    assert said({"tables": [table], "x": None}) == {"tables": [rows], "x": None}


def test_two_columns_of_one_name_are_refused() -> None:
    table = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert "a DataFrame with two columns named 'a'; rename one" in refused({"t": table})


class Said:
    """As the results of `ultralytics` do it: `to_json()` is text."""

    def __init__(self, text: Any) -> None:
        self.text = text

    def to_json(self) -> Any:
        return self.text


def test_json_text_of_an_object_is_read() -> None:
    found = Said('[{"name": "cat", "box": {"x1": 1.5}}]')
    assert said({"found": found, "n": [found, None]})["found"] == [{"name": "cat", "box": {"x1": 1.5}}]
    assert "result['c'][0] is a Said, whose to_json() returned 'red', which is no JSON" in refused({"c": [Said("red")]})


def test_what_contains_itself_or_is_very_deep() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"a": deep}
    assert "contains itself or is nested too deeply" in refused({"a": loop})
    assert "contains itself or is nested too deeply" in refused(deep)


def test_the_limit_of_size_is_exact() -> None:
    result = {"a": "x" * 100}
    size = len(encode_result(result, max_bytes=MIB))
    assert encode_result(result, max_bytes=size)
    assert "the limit is" in refused(result, size - 1)


def test_the_errors_of_a_typed_result_are_the_plugins() -> None:
    class Strange:
        def to_json(self) -> Any:
            raise ValueError("no idea")

    assert "no idea" in refused({"a": Strange()})
