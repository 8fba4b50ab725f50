"""The options of a stream while its plugin changes: what is dropped is told, and no picture fails for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.workbench.options import without_refused
from tests.conftest import PATIENCE_S, run_cell, wait_for

PLUGINS = """
@fs.plugin
def bright(frame, *, gain: float = 1.0):
    return {"bright": float(frame.gray.mean()) * gain, "gain": gain}
"""

Begin = Callable[..., fs.Stream]


@pytest.fixture
def begin() -> Iterator[Begin]:
    streams: list[fs.Stream] = []

    def begin(source: Any, plugin: str = "bright", **more: Any) -> fs.Stream:
        streams.append(fs.stream(source, plugin, **more))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    run_cell(PLUGINS, registry)
    return registry


@pytest.fixture
def server(registry: Registry, tmp_path: Path) -> Iterator[fs.Server]:
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        yield server


def pictures(count: int) -> list[np.ndarray]:
    return [np.full((24, 32, 3), 10 * (index % 20), np.uint8) for index in range(count)]


def test_an_option_that_the_plugin_has_no_more_is_dropped_and_told(begin: Begin, tmp_path: Path) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        stream = begin(pictures(5), server=server, loop=True, gain=3.0, history=50)
        waiting = begin(pictures(5), server=server, gain=2.0).wait(PATIENCE_S)
        panel = fs.PluginPanel("bright", gain=3.0, server=server)
        wait_for(lambda: stream.ledger["results"] > 10, f"results: {stream!r}")
        assert stream.notice == ""
        run_cell("@fs.plugin\ndef bright(frame, *, factor: float = 1.0):\n    return {'factor': factor}", registry)
        wait_for(lambda: stream.results[-1].result.get("factor") == 1.0, f"results of the new code: {stream!r}")
        said = "gain: dropped, since revision 2 of bright has no such option"
        assert (stream.options, stream.notice) == ({}, said)
        assert said in repr(stream)
        assert stream.state()["problem"] == said
        before = stream.ledger["results"]
        wait_for(lambda: stream.ledger["results"] > before + 50, f"more results: {stream!r}")
        assert stream.ledger["errors"] == 0, "what was under way is sent again"
        assert panel.target.state()["problem"] == said
        assert panel.options == {}
        panel.options = {"factor": 2.0}
        assert panel.target.state()["problem"] == ""
        wait_for(lambda: stream.results[-1].result.get("factor") == 2.0, f"the panel's option: {stream!r}")
        assert (stream.notice, stream.state()["problem"]) == ("", "")
        assert waiting.tune(factor=4.0).options == {"factor": 4.0}
        panel.close()
        stream.close()


def test_another_pass_goes_without_an_option_that_is_gone(begin: Begin, tmp_path: Path) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        stream = begin(pictures(5), server=server, gain=2.0).wait(PATIENCE_S)
        run_cell("@fs.plugin\ndef bright(frame):\n    return {'new': True}", registry)
        stream.play().wait(PATIENCE_S)
        assert stream.ledger["errors"] == 0
        assert stream.results[-1]["new"]
        assert "gain: dropped" in stream.notice


OPTIONS = """
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

class Named(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    threshold: float = Field(0.5, alias="thr")

class Chosen(BaseModel):
    gain: float = Field(1.0, validation_alias=AliasChoices("gain", "factor"))

class Nested(BaseModel):
    children: list["Nested"] = []

class Former(BaseModel):
    gain: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def renamed(cls, given):
        return {"gain": given["factor"]} if "factor" in given else given

def takes(model):
    def called(frame, *, options):
        return options.model_dump()
    called.__annotations__["options"] = model
    fs.plugin(model.__name__, engine="inline")(called)

for model in (Named, Chosen, Nested, Former):
    takes(model)
"""


@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("Named", {"threshold": 0.25}),
        ("Named", {"thr": 0.25}),
        ("Chosen", {"factor": 2.0}),
        ("Nested", {"children": [{"children": []}]}),
        ("Former", {"factor": 2.0}),
    ],
)
def test_no_option_is_dropped_that_the_plugin_takes(
    begin: Begin, tmp_path: Path, plugin: str, options: dict[str, Any]
) -> None:
    registry = Registry()
    run_cell(OPTIONS, registry)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        stream = begin(pictures(3), plugin, server=server, options=options).wait(PATIENCE_S)
        panel = fs.PluginPanel(plugin, server=server, **options)
        assert (stream.options, stream.notice, stream.ledger["results"]) == (options, "", 3)
        assert (panel.options, panel.target.state()["problem"]) == (options, "")
        assert next(iter(options.values())) in stream.results[-1].result.values()
        panel.close()


def test_an_option_set_while_another_is_dropped_holds(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    run_cell(PLUGINS, registry)
    settings = fs.Settings(engine="inline")
    with fs.Server(port=0, settings=settings, plugin_registry=registry, log=tmp_path / "log") as server:
        panel = fs.PluginPanel("bright", gain=2.0, server=server)
        stream = begin(pictures(5), server=server, gain=2.0).wait(PATIENCE_S)
        run_cell("@fs.plugin\ndef bright(frame, *, factor: float = 1.0):\n    return {'factor': factor}", registry)

        def meanwhile(setting: Callable[[], None]) -> threading.Thread:
            """Has another thread set options just after what is to be dropped was found out, and before it is."""
            setter = threading.Thread(target=setting)

            def slowly(*asked: Any) -> Any:
                monkeypatch.setattr("forgesyte_nb.workbench.options.without_refused", without_refused)
                setter.start()
                setter.join(0.2)  # it may have to wait until this has returned
                return without_refused(*asked)

            monkeypatch.setattr("forgesyte_nb.workbench.options.without_refused", slowly)
            return setter

        of_stream = meanwhile(lambda: setattr(stream, "options", {"factor": 3.0}))
        stream.play()
        of_stream.join(PATIENCE_S)
        assert stream.options == {"factor": 3.0}
        of_panel = meanwhile(lambda: setattr(panel, "options", {"factor": 4.0}))
        panel.target.state()
        of_panel.join(PATIENCE_S)
        assert panel.options == {"factor": 4.0}
        panel.close()


def test_an_option_of_another_type_is_dropped_and_told(begin: Begin, server: fs.Server, registry: Registry) -> None:
    stream = begin(pictures(5), server=server, loop=True, gain=3.0, history=50)
    panel = fs.PluginPanel("bright", gain=3.0, server=server)
    wait_for(lambda: stream.ledger["results"] > 10, f"results: {stream!r}")
    run_cell("@fs.plugin\ndef bright(frame, *, gain: str = 'low'):\n    return {'gain': gain}", registry)
    wait_for(lambda: stream.results[-1].result.get("gain") == "low", f"results of the new code: {stream!r}")
    said = "gain: dropped, since revision 2 of bright refuses its value (input should be a valid string, got 3.0)"
    assert (stream.options, stream.notice, stream.ledger["errors"]) == ({}, said, 0)
    assert (panel.options, panel.target.state()["problem"]) == ({}, said)
    panel.close()


def test_a_required_option_of_another_type_is_told_to_be_chosen(
    begin: Begin, server: fs.Server, registry: Registry
) -> None:
    stream = begin(pictures(5), server=server, loop=True, gain=3.0, history=50)
    wait_for(lambda: stream.ledger["results"] > 10, f"results: {stream!r}")
    run_cell("@fs.plugin\ndef bright(frame, *, gain: str):\n    return {'gain': gain}", registry)
    wait_for(lambda: stream.ledger["errors"] > 0, f"pictures that are refused: {stream!r}")
    assert stream.notice.endswith("refuses what is left of the options (gain: field required): choose others")
    seen = stream.ledger["errors"]
    wait_for(lambda: stream.ledger["errors"] > seen + 20, "it to have told more than once")
    assert stream.notice.startswith("gain: dropped, since revision 2 of bright refuses its value")
    assert stream.tune(gain="high").notice == ""
    wait_for(lambda: stream.results[-1].result.get("gain") == "high", f"results again: {stream!r}")


def test_no_picture_fails_or_is_overtaken_at_any_of_many_swaps(
    begin: Begin, server: fs.Server, registry: Registry
) -> None:
    """A picture that was sent with the old options is refused and sent again, in front of those read after it."""
    cell = "@fs.plugin\ndef follows(frame, *, {option} = {value}, state):\n    {body}\n    return {{'in_order': order}}"
    body = "order = state.get('seq', -1) < frame.seq; state['seq'] = frame.seq"
    run_cell(cell.format(option="gain: int", value=0, body=body), registry)
    stream = begin("synthetic", "follows", server=server, loop=True, gain=1)
    for number in range(1, 31):
        before = stream.ledger["results"]
        wait_for(lambda before=before: stream.ledger["results"] > before + 20, f"results: {stream!r}")  # type: ignore[misc]
        kind, value = ("str", "a") if number % 2 else ("int", 1)
        run_cell(cell.format(option=f"gain: {kind}", value=repr(value), body=body), registry)
        stream.tune(gain=value)
    stream.stop().wait(PATIENCE_S)
    assert stream.ledger["errors"] == 0, stream.results
    assert stream.ledger["results"] > 600
    assert all(result["in_order"] for result in stream.results)


def test_options_chosen_after_the_end_are_told_to_wait_for_another_pass(begin: Begin, server: fs.Server) -> None:
    stream = begin(pictures(3), server=server, gain=2.0).wait(PATIENCE_S)
    assert stream.notice == ""
    said = "the options wait for another pass: this one has ended; play() begins it"
    assert stream.tune(gain=3.0).notice == said
    assert said in repr(stream)
    assert stream.state()["problem"] == said
    stream.play().wait(PATIENCE_S)
    assert (stream.notice, stream.results[-1]["gain"]) == ("", 3.0)
    stream.stop().close()
    stream.options = {"gain": 4.0}
    assert stream.notice == ("the options have no effect: the stream is closed; run its cell again, or fs.stream(…)")


def test_a_panel_names_a_keyword_that_was_meant(begin: Begin, server: fs.Server) -> None:
    stream = begin(pictures(3), server=server).wait(PATIENCE_S)
    said = r"^servr: no such option .*; did you mean server=, which PluginPanel\(\) takes\?$"
    for target in (stream, "bright"):
        with pytest.raises(fs.InvalidOptions, match=said):
            fs.PluginPanel(target, server=server, servr=None)
    with pytest.raises(fs.PluginNotFound, match=r"did you mean server=, which PluginPanel\(\) takes\?$"):
        fs.PluginPanel("theirs", server=server, url="ws://127.0.0.1:9")


def test_a_view_takes_no_settings_and_says_so(begin: Begin, server: fs.Server) -> None:
    stream = begin(pictures(3), server=server).wait(PATIENCE_S)
    with pytest.raises(TypeError, match=r"^view\(\) has no setting 'wdith'; it takes none$"):
        stream.view(wdith=3)  # type: ignore[call-arg]  # the mistake
    with pytest.raises(TypeError, match=r"did you mean fs\.StreamView\(stream, server=…\)\?"):
        stream.view(url="ws://127.0.0.1:9")  # type: ignore[call-arg]  # the mistake
    with pytest.raises(TypeError, match=r"did you mean fs\.PluginPanel\(stream, server=…\)\?"):
        stream.panel(servr=None)  # type: ignore[call-arg]  # the mistake
    with pytest.raises(TypeError, match=r"^LivePlot\(\) has no setting 'knd'; did you mean 'kind'\?"):
        stream.plot("result.bright", knd="lines")
