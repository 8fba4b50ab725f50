"""The ledger: what was sent, and what came back for it, counted one by one.

A frame is settled when its sender has one answer and the wire has one terminal message for its job, as a second
connection that is subscribed to `all` hears it. The sender alone could not tell: its client swallows repeats. Sans-I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TERMINAL = ("frame_result", "error")
Key = tuple[str, str]
"""Plugin, and name of the picture."""


@dataclass(slots=True)
class Heard:
    """Terminal messages of one job, as the second connection heard them.

    Attributes:
        types: Their types, in order.
        frame_id: The frame they are about.
        plugin: The plugin.
        at: When the last came, seconds since the epoch.
    """

    types: list[str] = field(default_factory=list)
    frame_id: str = ""
    plugin: str = ""
    at: float = 0.0


class Ledger:
    """Counts."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._expected: dict[Key, None] = {}
        self._answers: dict[Key, list[tuple[str, str]]] = defaultdict(list)
        self._unanswered: dict[Key, str] = {}
        self._heard: dict[str, Heard] = {}

    def expect(self, plugin: str, name: str) -> None:
        """A picture is about to be sent."""
        self._expected[plugin, name] = None

    def answer(self, plugin: str, name: str, *, frame_id: str, job_id: str) -> None:
        """The sender has a terminal message for it; `job_id` is empty if it was refused at the door."""
        self._answers[plugin, name].append((frame_id, job_id))

    def give_up(self, plugin: str, name: str, reason: str) -> None:
        """The sender's client gave up on it without a terminal message."""
        self._unanswered[plugin, name] = reason

    def hear(self, message: Mapping[str, Any], at: float) -> None:
        """The second connection heard a message, at `at` seconds since the epoch; what is no job's end is ignored."""
        job_id = message.get("job_id")
        if message.get("type") in TERMINAL and job_id:
            heard = self._heard.setdefault(job_id, Heard())
            heard.types.append(message["type"])
            heard.frame_id, heard.plugin, heard.at = message["frame_id"], message["plugin"], at

    @property
    def sent(self) -> int:
        """Pictures that were to be sent."""
        return len(self._expected)

    @property
    def answered(self) -> int:
        """Terminal messages that senders have."""
        return sum(map(len, self._answers.values()))

    @property
    def jobs(self) -> set[str]:
        """Jobs that senders have an answer of."""
        return {job_id for answers in self._answers.values() for _, job_id in answers if job_id}

    @property
    def all_heard(self) -> bool:
        """Whether the second connection has heard of every job that a sender has an answer of."""
        return self.jobs <= self._heard.keys()

    def heard_between(self, began: float, ended: float) -> int:
        """Terminal messages that came between two times, in seconds since the epoch."""
        return sum(began <= heard.at <= ended for heard in self._heard.values())

    def heard_at(self, plugin: str) -> list[float]:
        """When the terminal messages of a plugin came, seconds since the epoch."""
        return [heard.at for heard in self._heard.values() if heard.plugin == plugin]

    @property
    def heard(self) -> int:
        """Terminal messages on the wire."""
        return sum(len(heard.types) for heard in self._heard.values())

    def problems(self) -> list[str]:
        """Every frame that has not exactly one terminal message, and every such message without a frame."""
        found = []
        for key in self._expected:
            found += self._problems_of(key)
        strange = [key for key in self._answers if key not in self._expected]
        found += [f"{plugin} {name}: answered, and was never sent" for plugin, name in strange]
        known = self.jobs
        for job_id, heard in self._heard.items():
            if job_id not in known:
                found.append(
                    f"{heard.plugin} {heard.frame_id}: {' and '.join(heard.types)} on the wire ({job_id}), which its "
                    "sender did not get"
                )
        return found

    def _problems_of(self, key: Key) -> list[str]:
        name, answers = " ".join(key), self._answers.get(key, [])
        if not answers:
            reason = self._unanswered.get(key)
            return [f"{name}: no terminal message{f' ({reason})' if reason else ''}"]
        if len(answers) > 1:
            return [f"{name}: {len(answers)} terminal messages"]
        frame_id, job_id = answers[0]
        if not job_id:
            return []  # refused at the door: one error to its sender, and nobody else hears of it
        heard = self._heard.get(job_id, Heard())
        if len(heard.types) != 1:
            what = " and ".join(heard.types) or "no terminal message"
            return [f"{name}: {what} on the wire for {job_id}"]
        if heard.frame_id != frame_id:
            return [f"{name}: {job_id} answered frame {heard.frame_id!r}, sent as {frame_id!r}"]
        return []

    def check_server(self, stats: Mapping[str, Any]) -> list[str]:
        """Where the server's own count differs."""
        accepted, ended = stats["accepted"], stats["results"] + stats["errors"]
        found = []
        if accepted != len(self.jobs):
            found.append(f"the server accepted {accepted} frames, and {len(self.jobs)} were answered")
        if ended != accepted or stats["active"]:
            found.append(f"of {accepted} frames the server ended {ended}; {stats['active']} are still under way")
        return found
