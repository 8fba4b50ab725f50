"""Topics, plugin names and client ids: what is well formed, whole."""

from __future__ import annotations

import pytest

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.protocol.topics import CLIENT_ID, PLUGIN_NAME, check_topic, job_topics, plugin_topic


@pytest.mark.parametrize("topic", ["all", "job_123", "job_ab12_7", "job_" + "x" * 120, "plugin_ocr", "plugin_a.b-c_d"])
def test_topics(topic: str) -> None:
    assert check_topic(topic) == topic


@pytest.mark.parametrize(
    "topic",
    [
        *("", "ALL", "all ", " all", "all\n", "job", "job_", "job_1\n", "job_a/b", "job_" + "x" * 121, "plugin_"),
        *("plugin__x", "plugin_-x", "plugin_" + "x" * 65, "plugin_öcr", "plugin_a b", "ocr", "client_1", "all,job_1"),
        "\x00",
    ],
)
def test_what_is_no_topic_is_told_the_forms(topic: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_topic(topic)
    assert repr(topic)[:60] in str(caught.value)
    assert "'job_<job_id>'" in str(caught.value)


def test_a_long_topic_is_shortened_in_the_message() -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_topic("x" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_the_topics_of_a_job_are_topics() -> None:
    topics = job_topics("job_1", "ocr")
    assert topics == ("job_1", "plugin_ocr", "all")
    assert [check_topic(topic) for topic in topics] == list(topics)
    assert plugin_topic("ocr") == "plugin_ocr"


@pytest.mark.parametrize(("pattern", "longest"), [(PLUGIN_NAME, 64), (CLIENT_ID, 128)])
def test_names_are_bounded(pattern: object, longest: int) -> None:
    assert pattern.fullmatch("x" * longest)  # type: ignore[attr-defined]
    assert not pattern.fullmatch("x" * (longest + 1))  # type: ignore[attr-defined]
    assert not pattern.fullmatch("")  # type: ignore[attr-defined]
    assert not pattern.fullmatch("a/b")  # type: ignore[attr-defined]
    assert not pattern.fullmatch("a\n")  # type: ignore[attr-defined]
