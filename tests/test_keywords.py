"""A misspelt keyword at any public door names the one that was meant, and opens nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import forgesyte_nb as fs

DOORS: list[tuple[Callable[..., Any], str, str]] = [
    (fs.serve, "prot", "serve() has no setting 'prot'; did you mean 'port'?"),
    (fs.serve, "queue_frames", "did you mean settings=fs.Settings(queue_frames=…)?"),
    (fs.serve, "plugin_timeout", "did you mean settings=fs.Settings(plugin_timeout_s=…)?"),
    (fs.Server, "worker", "did you mean settings=fs.Settings(workers=…)?"),
    (fs.Settings, "enigne", "Settings() has no setting 'enigne'; did you mean 'engine'?"),
    (fs.plugin, "timeout", "plugin() has no setting 'timeout'; did you mean 'timeout_s'?"),
    (fs.plugin, "name", 'did you mean @fs.plugin("…"), the name in front and without a keyword?'),
    (fs.Client, "tokn", "Client() has no setting 'tokn'; did you mean 'token'?"),
    (fs.Client, "server", "Client() has no setting 'server'; did you mean 'url'?"),
    (fs.BlockingClient, "max_retry", "did you mean 'max_retries'?"),
    (fs.open_source, "ever", "open_source() has no setting 'ever'; did you mean 'every'?"),
    (fs.synthetic, "frame", "synthetic() has no setting 'frame'; did you mean 'frames'?"),
    (fs.doctor, "ulr", "doctor() has no setting 'ulr'; did you mean 'url'?"),
    (fs.LivePlot, "knd", "LivePlot() has no setting 'knd'; did you mean 'kind'?"),
    (fs.StreamView, "url", "StreamView() has no setting 'url'; did you mean 'server'?"),
    (fs.StreamView, "servr", "StreamView() has no setting 'servr'; did you mean 'server'?"),
    (fs.TopicMonitor, "topic", "TopicMonitor() has no setting 'topic'; did you mean 'topics'?"),
    (fs.JobTable, "severs", "JobTable() has no setting 'severs'; did you mean 'server'?"),
]


@pytest.mark.parametrize(("door", "keyword", "said"), DOORS)
def test_a_misspelt_keyword_names_the_one_that_was_meant(door: Callable[..., Any], keyword: str, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        door(**{keyword: None})
    assert said in str(raised.value)


def test_a_keyword_like_no_other_names_them_all() -> None:
    with pytest.raises(TypeError) as raised:
        fs.plugin(colour="red")  # type: ignore[call-overload]
    assert str(raised.value) == "plugin() has no setting 'colour'; there are timeout_s, engine, version, setup"


def test_a_door_still_shows_what_it_takes() -> None:
    assert list(inspect.signature(fs.serve).parameters)[:2] == ["host", "port"]
    assert "queue_frames" in inspect.signature(fs.Settings).parameters
    assert fs.Settings(workers=3).workers == 3


def test_every_public_door_with_keywords_and_no_options_is_one() -> None:
    """A public name that takes keywords explains them, or hands those it does not know on to what does."""
    explained = {door for door, _, _ in DOORS}
    held = {
        "Box",
        "Context",
        "Diagnosis",
        "Frame",
        "Keypoint",
        "Label",
        "Mask",
        "Result",
        "ServerView",
        "Stream",
        "Text",
    }
    for name in fs.__all__:
        door = getattr(fs, name)
        if not callable(door) or name in held or (inspect.isclass(door) and issubclass(door, BaseException)):
            continue
        kinds = [one.kind for one in inspect.signature(door).parameters.values()]
        takes_options = inspect.Parameter.VAR_KEYWORD in kinds
        assert takes_options or door in explained or not kinds or name in ("load_ipython_extension", "unload"), name
