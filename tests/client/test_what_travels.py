"""What a client gives with a picture reaches the plugin as it was given: its number, its time, options of any type."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import BaseModel

import forgesyte_nb as fs
from forgesyte_nb.errors import InvalidOptions
from forgesyte_nb.plugins.contract import define
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.server import Server
from tests.conftest import PATIENCE_S


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
    return {"seq": frame.seq, "captured_at": frame.captured_at, "time_s": frame.time_s}


def late(frame: Any, *, after_s: float = 0.0) -> dict[str, Any]:
    """Fails on pictures of the clip's first seconds."""
    if frame.time_s < after_s:
        raise ValueError(f"picture {frame.seq} at {frame.time_s:.2f} s")
    return {"time_s": frame.time_s}


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
    for engine in ("processes", "threads", "inline"):
        registry.register(define(origin, name=f"origin_{engine}", engine=engine))
    registry.register(define(origin))
    for plugin in (typed, whole, late):
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


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of five pictures, 0.04 s apart."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(5):
            pixels = np.full((32, 64, 3), 10 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("engine", ["processes", "threads", "inline"])
def test_the_position_in_the_clip_is_the_same_inside_a_plugin_and_outside(
    client: fs.BlockingClient, server: Server, clip: Path, engine: str
) -> None:
    name, positions = f"origin_{engine}", pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    results = list(client.stream(clip, name, ordered=True))
    assert [result.time_s for result in results] == positions
    assert [result["time_s"] for result in results] == [result.time_s for result in results]
    assert [result.frame.time_s for result in results if result.frame] == positions
    kept = fs.stream(clip, name, server=server).wait(PATIENCE_S)
    assert sorted(result["time_s"] for result in kept.results) == positions
    assert all(result["time_s"] == result.frame.time_s == result.time_s for result in kept.results)
    kept.close()


def test_a_frame_is_sent_with_its_position_and_other_pictures_have_none(
    client: fs.BlockingClient, server: Server
) -> None:
    frame = fs.Frame.from_array(PICTURE, time_s=12.5)
    result = client.analyze(frame, "origin")
    assert (result.time_s, result["time_s"]) == (12.5, 12.5)
    again = client.analyze(result.frame, "origin")
    assert (again.time_s, again["time_s"]) == (12.5, 12.5)
    result = client.analyze(PICTURE, "origin")
    assert (result.time_s, result["time_s"]) == (None, None)
    with fs.BlockingClient(server, offer_v2=False) as seed:  # the seed's protocol has no field for it
        result = seed.analyze(frame, "origin")
    assert (result.time_s, result["time_s"]) == (12.5, None)


def test_a_failed_frame_is_run_again_at_its_position(server: Server, clip: Path) -> None:
    stream = fs.stream(clip, "late", server=server, after_s=0.1).wait(PATIENCE_S)
    failures = {failure.frame.seq: failure for failure in stream.failures}
    assert sorted(failures) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"picture 2 at 0\.08 s"):
        failures[2].rerun()
    failures[2].options["after_s"] = 0.05
    assert failures[2].rerun() == {"time_s": pytest.approx(0.08)}
    stream.close()


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
