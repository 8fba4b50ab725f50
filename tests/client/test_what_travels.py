"""What a client gives with a picture reaches the plugin as it was given: its number, its time, options of any type."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import forgesyte_nb as fs
from forgesyte_nb.errors import InvalidOptions
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server


class Kind(enum.Enum):
    CAT = "cat"


class Area(BaseModel):
    width: int
    height: int = 2


@dataclasses.dataclass
class Limits:
    low: float
    names: set[str]


class All(BaseModel):
    area: Area


def origin(frame: Any) -> dict[str, Any]:
    return {"seq": frame.seq, "captured_at": frame.captured_at}


def typed(
    frame: Any,
    *,
    path: Path = Path("x"),
    names: set[str] = set(),  # noqa: B006 -- pydantic copies it
    raw: bytes = b"",
    kind: Kind = Kind.CAT,
    when: datetime.datetime | None = None,
    area: Area | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    return {"options": repr((path, sorted(names), raw, kind, when, area, limits))}


def whole(frame: Any, *, options: All) -> dict[str, Any]:
    return {"options": repr(options)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    registry = Registry()
    registry.register(define(origin))
    for plugin in (typed, whole):
        registry.register(define(plugin, engine="threads"))
    log = tmp_path_factory.mktemp("log") / "log"
    with Server(port=0, settings=fs.Settings(workers=1), plugin_registry=registry, log=log) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[fs.BlockingClient]:
    with fs.BlockingClient(server) as made:
        yield made


PICTURE = np.full((8, 8, 3), 128, np.uint8)


def test_number_and_time_are_the_same_inside_a_plugin_and_outside(client: fs.BlockingClient) -> None:
    results = list(client.stream([PICTURE] * 9, "origin", every=3, ordered=True))
    for result in results:
        assert result.frame is not None
        assert (result["seq"], result["captured_at"]) == (result.seq, result.frame.captured_at)
        assert result["captured_at"] is not None
    assert len({result.seq for result in results}) == 3


def test_pictures_sent_one_by_one_are_numbered_in_their_stream(client: fs.BlockingClient) -> None:
    asked = [client.analyze(PICTURE, "origin", stream_id=name) for name in "aaba"]
    assert [(result.seq, result["seq"]) for result in asked] == [(0, 0), (1, 1), (0, 0), (2, 2)]
    frame = fs.Frame.from_array(PICTURE, seq=41, captured_at=1.5)
    result = client.analyze(frame, "origin", stream_id="a")
    assert (result.seq, result["seq"], result["captured_at"]) == (41, 41, 1.5)


WHEN = datetime.datetime(2026, 1, 11, 12)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"path": Path("/a/b")}, "PosixPath('/a/b')"),
        ({"names": {"b", "a"}}, "['a', 'b']"),
        ({"raw": "ü".encode()}, repr("ü".encode())),
        ({"kind": Kind.CAT}, "<Kind.CAT: 'cat'>"),
        ({"when": WHEN}, repr(WHEN)),
        ({"area": Area(width=3)}, "Area(width=3, height=2)"),
        ({"limits": Limits(0.5, {"a"})}, "Limits(low=0.5, names={'a'})"),
    ],
)
def test_options_of_declared_types_are_given_as_they_are(
    client: fs.BlockingClient, server: Server, options: dict[str, Any], shown: str
) -> None:
    assert shown in client.analyze(PICTURE, "typed", **options)["options"]
    stream = fs.stream([PICTURE], "typed", options, server=server)
    assert [shown in result["options"] for result in stream] == [True]
    stream.close()


def test_the_whole_options_model_may_be_given(client: fs.BlockingClient) -> None:
    chosen: Any = All(area=Area(width=3))
    assert client.analyze(PICTURE, "whole", chosen)["options"] == "All(area=Area(width=3, height=2))"


def test_bytes_that_are_not_utf8_are_refused_in_words(client: fs.BlockingClient) -> None:
    with pytest.raises(InvalidOptions, match="utf-8"):
        client.analyze(PICTURE, "typed", raw=b"\xff\x00")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"area": {"widht": 3}}, r"area.widht: no such field; did you mean 'width'\? \(known: width, height\)"),
        ({"area": {}}, "area.width: field required$"),
        ({"limits": {"low": 1, "names": [], "x": 1}}, "limits.x: .*"),
        ({"areas": 1}, r"areas: no such option; did you mean 'area'\? \(known: path, names"),
    ],
)
def test_a_nested_option_names_its_own_level(client: fs.BlockingClient, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptions, match=reason):
        client.analyze(PICTURE, "typed", options)


def test_options_over_the_limit_are_refused_at_the_call(client: fs.BlockingClient, server: Server) -> None:
    many = {"names": {"x" * 70_000}}
    client.analyze(PICTURE, "origin")  # by its answer the server's limits are known
    with pytest.raises(
        InvalidOptions, match=r"options are 70\d\d\d bytes, the limit is 65536: give the path of a file"
    ):
        client.stream([PICTURE], "typed", many)
    with pytest.raises(InvalidOptions, match="the limit is 65536"):
        fs.stream([PICTURE], "typed", many, server=server)
