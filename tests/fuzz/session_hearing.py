"""What arrives at people of `session_world.py`, held against the model as it does."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Protocol

from forgesyte_nb.jobs import Job
from forgesyte_nb.sessions import Session
from tests.fuzz.session_due import Due, Key, key_of
from tests.fuzz.session_lines import Line, Person


class Model(Protocol):
    """What must be known of the world.

    Attributes:
        roomy: Whether its limits are never met.
        dues: The model of each session.
        jobs: All jobs.
        owed: What was said to each session of its own jobs, in order.
    """

    roomy: bool
    dues: dict[Session, Due]
    jobs: dict[str, Job]
    owed: dict[Session, list[Key]]

    def due(self, session: Session) -> Due:
        """The model of the session in which this one's client goes on."""

    def lineage(self, session: Session) -> list[Session]:
        """This session, and those in which its client went on."""

    def resume(self, person: Person) -> None:
        """A person says what it has."""


class Hearing:
    """Delivers, and asserts that nobody hears what is another's, or twice on one connection, or in the wrong order.

    Attributes:
        outcomes: The different terminal messages that were heard of each job.
    """

    def __init__(self, world: Model) -> None:
        """Nothing was heard yet."""
        self._world = world
        self.outcomes: dict[str, set[str]] = {}
        self._heard_up_to: Counter[Session] = Counter()

    def deliver(self, person: Person, count: int = 1 << 30) -> None:
        """So much of what is on its way to a person arrives."""
        line = person.line
        while count and line is not None and line is person.line and line.on_its_way:
            count -= 1
            session, item = line.on_its_way.popleft()
            if isinstance(item, tuple):
                line.confirm(item)
                continue
            message = json.loads(item)
            self._hear(line, session, message)
            if person.numbered:
                self._keep_count(person, line, message)

    def _hear(self, line: Line, session: Session, message: dict[str, Any]) -> None:
        due, key = self._world.due(session), key_of(message)
        if message["type"] == "dropped":
            due.told_lost += message["count"]
        if key is None:
            return
        assert key in due.may_hear, f"none of its business: {message}"
        line.times[session, key] += 1
        assert line.times[session, key] <= 1 + due.again[key], f"said twice on one connection: {message}"
        if key[1] == "terminal":
            self.outcomes.setdefault(key[0], set()).add(json.dumps({**message, "seq": 0}, sort_keys=True))
        owner = self._world.jobs[key[0]].owner
        if not due.heard[key] and session in self._world.lineage(owner) and not due.again[key]:
            place = self._world.owed[owner].index(key)
            assert place >= self._heard_up_to[owner], f"out of order: {message}"
            self._heard_up_to[owner] = place
        due.heard[key] += 1

    def _keep_count(self, person: Person, line: Line, message: dict[str, Any]) -> None:
        """A client of `forgesyte.v2` keeps count; greeted, it begins to resume."""
        seq, kind = message["seq"], message["type"]
        if kind == "resumed" and person.resumes:
            self._resumed(person, line, message)
        else:
            assert seq == line.last_seq + 1, f"{seq} after {line.last_seq}: {message}"
        line.last_seq = seq
        if kind == "hello":
            line.hello = {name: message[name] for name in ("session", "epoch", "secret")}
            if not person.resumes:
                person.known = dict(line.hello)
        if not person.resumes:
            person.known["seq"] = seq
        elif kind == "hello":
            self._world.resume(person)

    def _resumed(self, person: Person, line: Line, message: dict[str, Any]) -> None:
        person.resumes = False
        if message["session"] != person.known["session"]:
            assert not message["recovered"]
            assert message["seq"] == line.last_seq + 1
            person.known = dict(line.hello)
            return
        assert message["epoch"] == person.known["epoch"]
        assert message["recovered"] or not self._world.roomy, "nothing was over a limit, and yet it is not whole"
        if message["recovered"]:
            assert message["seq"] == person.known["seq"] + 1
        else:
            assert message["seq"] > person.known["seq"]
            due = self._world.dues[line.session]
            due.whole_from = line.said_before
            due.told_lost -= line.told_before
