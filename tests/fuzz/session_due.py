"""A simple model of what the client of each session is to hear, and has heard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, str, float]
"""One thing said of a job: its id, what, and the percentage."""


def key_of(message: dict[str, Any]) -> Key | None:
    """What a message says of a job; None if it is about none."""
    job_id = message.get("job_id")
    if job_id is None:
        return None
    if message["type"] == "job_update":
        return (job_id, message["status"], message["progress_percent"])
    return (job_id, "terminal", 0.0)


@dataclass(frozen=True)
class Said:
    """Something said to a session that must be heard.

    Attributes:
        owed: As the job's owner, not as a subscriber.
    """

    key: Key
    owed: bool


@dataclass
class Due:
    """The model of a session.

    Attributes:
        numbered: Whether its client speaks `forgesyte.v2`.
        said: What must be heard, in order.
        may_hear: All that may be heard; nothing else is its client's business.
        heard: How often its client heard what.
        again: How often it asked to be told of a job that had ended.
        topics: What it is subscribed to.
        over: Whether it has ended, or its client has given it up.
        whole_from: From which of `said` on its client believes that it has missed nothing.
        told_lost: Broadcasts of which its client was told that it lost them.
    """

    numbered: bool
    said: list[Said] = field(default_factory=list)
    may_hear: set[Key] = field(default_factory=set)
    heard: Counter[Key] = field(default_factory=Counter)
    again: Counter[Key] = field(default_factory=Counter)
    topics: set[str] = field(default_factory=set)
    over: bool = False
    whole_from: int = 0
    told_lost: int = 0

    def tell(self, key: Key, *, owed: bool) -> None:
        """Something is said to it. A client that knows no numbers may miss broadcasts without a word."""
        self.may_hear.add(key)
        if owed or self.numbered:
            self.said.append(Said(key, owed))

    def take_in(self, newcomer: Due) -> None:
        """Another session's client turns out to be its own."""
        self.said += newcomer.said
        self.may_hear |= newcomer.may_hear
        self.heard += newcomer.heard
        self.again += newcomer.again
        self.topics |= newcomer.topics
        self.told_lost += newcomer.told_lost

    def check(self, *, roomy: bool) -> None:
        """All that must have been heard was.

        Args:
            roomy: Whether nothing was over a limit, so that nothing may be missing.
        """
        believes_whole = self.said[self.whole_from :] if self.numbered else self.said if roomy else []
        for one in [one for one in self.said if one.key[1] == "terminal"] + believes_whole:
            assert not one.owed or self.heard[one.key], f"never heard: {one}"
        lost = sum(not one.owed and not self.heard[one.key] for one in believes_whole)
        assert lost <= (0 if roomy else self.told_lost), f"{lost} broadcasts lost, told of {self.told_lost}"
