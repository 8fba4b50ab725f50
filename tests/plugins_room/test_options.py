"""Options: from a signature to a schema; raw JSON in, keyword arguments or `InvalidOptions` out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field, field_validator

from forgesyte_nb.errors import InvalidOptions, PluginDefinitionError
from forgesyte_nb.plugins.options import OptionsSchema, check_size


def plugin(
    frame: Any,
    *,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    count: Annotated[int, Field(gt=0, lt=10)] = 3,
    mode: Literal["fast", "good"] = "fast",
    words: list[str] = ["a"],  # noqa: B006 -- pydantic copies it
    name: str | None = None,
    on: bool = False,
    anything: Any = None,
) -> None: ...


SCHEMA = OptionsSchema(plugin)
DEFAULTS = {
    "threshold": 0.5,
    "count": 3,
    "mode": "fast",
    "words": ["a"],
    "name": None,
    "on": False,
    "anything": None,
}


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (b"{}", {}),
        (b" { } ", {}),
        (b'{"threshold": 0.8}', {"threshold": 0.8}),
        (b'{"threshold": 1, "count": 9}', {"threshold": 1.0, "count": 9}),
        (b'{"threshold": 0.1, "threshold": 0.2}', {"threshold": 0.2}),
        (
            b'{"mode": "good", "words": [], "name": "\\u00fc", "on": true}',
            {"mode": "good", "words": [], "name": "ü", "on": True},
        ),
        (b'{"anything": {"a": [null]}}', {"anything": {"a": [None]}}),
    ],
)
def test_options_and_defaults(options: bytes, changed: dict[str, Any]) -> None:
    for _ in range(2):  # the second time they are remembered
        assert SCHEMA.keywords(options) == {**DEFAULTS, **changed}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (b'{"threshold": 7}', "threshold: 7 is greater than 1"),
        (b'{"threshold": -0.1}', "threshold: -0.1 is less than 0"),
        (b'{"count": 10}', "count: 10 is not less than 10"),
        (b'{"count": 0}', "count: 0 is not greater than 0"),
        (b'{"threshold": "0.8"}', "threshold: input should be a valid number, got '0.8'"),
        (b'{"threshold": null}', "threshold: input should be a valid number, got None"),
        (b'{"threshold": true}', "threshold: input should be a valid number, got True"),
        (b'{"threshold": [0.5]}', "threshold: input should be a valid number, got [0.5]"),
        (b'{"threshold": 1e999}', "threshold: "),
        (b'{"count": 1.0}', "count: input should be a valid integer, got 1.0"),
        (b'{"count": true}', "count: input should be a valid integer, got True"),
        (b'{"count": ' + b"9" * 5000 + b"}", "options: "),
        (b'{"mode": "slow"}', "mode: input should be 'fast' or 'good', got 'slow'"),
        (b'{"words": "a"}', "words: input should be a valid array, got 'a'"),
        (b'{"words": ["a", 2]}', "words.1: input should be a valid string, got 2"),
        (b'{"on": 1}', "on: input should be a valid boolean, got 1"),
        (b'{"treshold": 0.5}', "treshold: no such option; did you mean 'threshold'? (known: threshold, count"),
        (b'{"xyz": 0.5}', "xyz: no such option (known: "),
        (b'{"Threshold": 0.5}', "Threshold: no such option"),
        (b'{"count": 0, "mode": 1}', "count: 0 is not greater than 0; mode: input should be"),
        (b'{"anything": ' + b"[" * 500 + b"]" * 500 + b"}", "options: "),
        (b'{"threshold": 0.5', "options: "),
    ],
)
def test_what_is_refused_says_which_option_and_why(options: bytes, reason: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        SCHEMA.keywords(options)
    assert str(caught.value).startswith(reason)


def test_a_plugin_without_options_says_so() -> None:
    with pytest.raises(InvalidOptions, match="this plugin takes none"):
        OptionsSchema(lambda frame: None).keywords(b'{"a": 1}')


def test_thousands_of_wrong_options_make_a_short_message() -> None:
    many = b"{" + b",".join(b'"x%d":1' % i for i in range(8000)) + b"}"
    with pytest.raises(InvalidOptions, match="and 7995 more") as caught:
        SCHEMA.keywords(many)
    assert len(str(caught.value)) < 1000
    with pytest.raises(InvalidOptions) as caught:
        SCHEMA.keywords(b'{"%s": 1}' % (b"x" * 60_000))
    assert len(str(caught.value)) < 300


def test_no_infinity_gets_in_through_an_exponent() -> None:
    def free(frame: Any, *, value: float = 1.0) -> None: ...

    with pytest.raises(InvalidOptions, match="finite"):
        OptionsSchema(free).keywords(b'{"value": 1e999}')


def test_remembered_options_are_not_shared_between_frames() -> None:
    SCHEMA.keywords(b'{"words": ["x"]}')["words"].append("y")
    assert SCHEMA.keywords(b'{"words": ["x"]}')["words"] == ["x"]
    SCHEMA.keywords(b"{}")["words"].append("z")
    assert SCHEMA.keywords(b"{}")["words"] == ["a"]


def test_what_is_remembered_is_bounded() -> None:
    def small(frame: Any, *, value: float = 1.0) -> None: ...

    schema = OptionsSchema(small)
    for i in range(500):
        assert schema.keywords(b'{"value": %d}' % i) == {"value": i}
    assert len(schema._known) <= 64


def test_json_schema_is_what_controls_are_made_of() -> None:
    fields = SCHEMA.json_schema["properties"]
    assert fields["threshold"] == {
        "default": 0.5,
        "maximum": 1,
        "minimum": 0,
        "title": "Threshold",
        "type": "number",
    }
    assert fields["mode"]["enum"] == ["fast", "good"]
    assert SCHEMA.json_schema["additionalProperties"] is False


def test_a_required_option() -> None:
    def needy(frame: Any, *, size: int) -> None: ...

    with pytest.raises(InvalidOptions, match="size: field required"):
        OptionsSchema(needy).keywords(b"{}")


def test_injected_parameters_are_no_options() -> None:
    def f(frame: Any, state: dict[str, Any], *, ctx: Any, a: int = 1) -> None: ...

    schema = OptionsSchema(f)
    assert schema.wants == {"state", "ctx"}
    assert list(schema.json_schema["properties"]) == ["a"]
    with pytest.raises(InvalidOptions, match="state: no such option"):
        schema.keywords(b'{"state": {}}')


class Settings(BaseModel):
    size: int = 3

    @field_validator("size")
    @classmethod
    def check(cls, value: int) -> int:
        if value == 7:
            raise KeyError("seven")
        return value


def test_a_model_of_ones_own() -> None:
    def f(frame: Any, options: Settings) -> None: ...

    schema = OptionsSchema(f)
    assert schema.keywords(b'{"size": 4}') == {"options": Settings(size=4)}
    with pytest.raises(InvalidOptions, match="size: "):
        schema.keywords(b'{"size": "4"}')
    with pytest.raises(InvalidOptions, match="cannot be checked: KeyError"):
        schema.keywords(b'{"size": 7}')
    with pytest.raises(InvalidOptions, match="sise: no such option; did you mean 'size'"):
        schema.keywords(b'{"sise": 4}')


def test_names_that_pydantic_uses_itself_are_free_to_use() -> None:
    def f(frame: Any, *, json: int = 1, copy: int = 2, schema: int = 3, model_path: str = "m") -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert OptionsSchema(f).keywords(b'{"copy": 5}') == {"json": 1, "copy": 5, "schema": 3, "model_path": "m"}


def no_frame() -> None: ...
def frame_by_name(*, frame: Any) -> None: ...
def positional(frame: Any, threshold: float = 0.5) -> None: ...
def keywords(frame: Any, **options: Any) -> None: ...
def private(frame: Any, *, _a: int = 1) -> None: ...
def reserved(frame: Any, *, model_config: int = 1) -> None: ...
def one_called_options(frame: Any, *, options: int = 1) -> None: ...
def beside_options(frame: Any, *, options: Settings, k: int = 2) -> None: ...
def function_option(frame: Any, *, call: Callable[[], int] = lambda: 1) -> None: ...
def array_option(frame: Any, *, kernel: np.ndarray = np.zeros(3)) -> None: ...  # noqa: B008 -- as users write it
def unknown(frame: Any, *, a: Nope = 1) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def no_attribute(frame: Any, *, a: np.nope = 1) -> None: ...  # type: ignore[name-defined]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (no_frame, "takes a frame first"),
        (frame_by_name, "takes a frame first"),
        (positional, r"def positional\(frame, \*, threshold=…\)"),
        (keywords, "name each option"),
        (private, "'_a' cannot be the name of an option"),
        (reserved, "'model_config' cannot be the name of an option"),
        (
            one_called_options,
            "'options' is the name of all options together, .* of type int: annotate it",
        ),
        (beside_options, "all options are fields of Settings; make k fields of it"),
        (function_option, "cannot be described"),
        (array_option, "cannot be described"),
        (unknown, "annotation names something unknown: name 'Nope'"),
        (no_attribute, "annotation names something unknown: .*nope"),
    ],
)
def test_signatures_that_cannot_be_a_plugins(call: Any, reason: str) -> None:
    with pytest.raises(PluginDefinitionError, match=reason):
        OptionsSchema(call)


@pytest.mark.parametrize("depth", [16, 17, 900, 100_000])
def test_depth_and_size(depth: int) -> None:
    options = b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    if depth <= 16:
        check_size(options, max_bytes=len(options), max_depth=16)
    else:
        with pytest.raises(InvalidOptions, match="levels deep, the limit is 16"):
            check_size(options, max_bytes=10**6, max_depth=16)
    with pytest.raises(InvalidOptions, match=f"options are {len(options)} bytes, the limit is {len(options) - 1}"):
        check_size(options, max_bytes=len(options) - 1, max_depth=16)


def test_brackets_in_text_are_not_depth() -> None:
    check_size(b'{"a": "' + b"[{" * 500 + b'"}', max_bytes=10_000, max_depth=16)
    check_size(b'{"a": [' + b",".join([b"{}"] * 500) + b"]}", max_bytes=10_000, max_depth=16)


def test_a_number_out_of_range_among_many_brackets() -> None:
    with pytest.raises(InvalidOptions, match="range"):
        check_size(b'{"a": [' + b",".join([b"[1e999]"] * 30) + b"]}", max_bytes=10_000, max_depth=16)


def test_many_brackets_that_are_not_utf8() -> None:
    with pytest.raises(InvalidOptions, match=r"(?i)utf-8"):
        check_size(b'{"a": "\xff", "b": ' + b"[" * 20 + b"]" * 20 + b"}", max_bytes=10_000, max_depth=16)
