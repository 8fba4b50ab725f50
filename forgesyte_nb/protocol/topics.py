"""Topics and names as they appear on the wire: what is well formed, and which topics a job belongs to.

A topic is `all`, `job_<job_id>` (the id as it stands in `job_id`, which itself starts with `job_`) or
`plugin_<plugin_name>`. Sans-I/O: text in, text or an `InvalidMessage` out.
"""

from __future__ import annotations

import re

from forgesyte_nb.errors import InvalidMessage

ALL = "all"

PLUGIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
"""A plugin's name: it stands in topics, URLs and log lines, so it is kept to characters safe in all of them."""

CLIENT_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")
"""A client id: the last part of `/ws/<client_id>`."""

_TOPIC = re.compile(rf"all|job_[A-Za-z0-9_\-]{{1,120}}|plugin_{PLUGIN_NAME.pattern}")


def check_topic(topic: str) -> str:
    """Return `topic` if it is well formed.

    A job or plugin that does not exist (yet) is no error: clients may subscribe ahead.

    Raises:
        InvalidMessage: If it is none of the three forms.
    """
    if not isinstance(topic, str) or _TOPIC.fullmatch(topic) is None:
        shown = repr(topic)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}…{shown[-1]}"
        raise InvalidMessage(
            f"topic {shown} is none of 'all', 'job_<job_id>', 'plugin_<plugin_name>'; "
            "a job_id is used as it stands, such as 'job_123'"
        )
    return topic


def plugin_topic(plugin: str) -> str:
    """Topic of all jobs of one plugin."""
    return f"plugin_{plugin}"


def job_topics(job_id: str, plugin: str) -> tuple[str, str, str]:
    """All topics that a message about a job belongs to."""
    return (job_id, plugin_topic(plugin), ALL)
