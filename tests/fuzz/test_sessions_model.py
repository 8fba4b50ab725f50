"""Sessions against a model: people come, send, subscribe, lose their connections and come back, in any order.

Without sockets, on `Dispatcher`, `SessionBook` and `Outbox` as they are, with an engine whose jobs end when a rule says
so. The invariants are asserted by `session_world.py`: every accepted frame has one terminal message, which its
session's client hears at least once whatever breaks, never twice on one connection, in order; nobody hears what is
another's; and who is told that all was recovered has missed nothing, unless told that broadcasts were dropped.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.settings import Settings
from tests.conftest import run_cell
from tests.figures import Figures
from tests.fuzz.session_world import Line, Person, World

ROOMY = Settings()
TIGHT = Settings(session_messages=6, outbox_bytes=500)
MOST_PEOPLE = 5
_REGISTRY = Registry()
run_cell("@fs.plugin\ndef ocr(frame): return {}", _REGISTRY)

which = st.integers(0, 59)


def may_speak(person: Person) -> bool:
    """Whether it is connected, and has nothing to say before all else."""
    return person.line is not None and not (person.resumes and not person.line.hello)


class Sessions(RuleBasedStateMachine):
    """Whatever may happen, in any order."""

    runs = 0

    @initialize(roomy=st.booleans())
    def begin(self, roomy: bool) -> None:
        type(self).runs += 1
        self.world = World(_REGISTRY, ROOMY if roomy else TIGHT, roomy=roomy)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()

    def person(self, number: int, *, connected: bool = True) -> Person:
        found = [person for person in self.world.people if (person.line is not None) == connected]
        return found[number % len(found)]

    def line(self, number: int) -> Line:
        line = self.person(number).line
        assert line is not None
        return line

    def speaker(self, number: int) -> Line:
        found = [person.line for person in self.world.people if person.line is not None and may_speak(person)]
        return found[number % len(found)]

    def anybody(self) -> bool:
        return any(person.line is not None for person in self.world.people)

    def any_speaker(self) -> bool:
        return any(may_speak(person) for person in self.world.people)

    def anybody_away(self) -> bool:
        return any(person.line is None for person in self.world.people)

    def any_jobs(self) -> bool:
        return bool(self.world.under_way)

    # People

    @precondition(lambda self: len(self.world.people) < MOST_PEOPLE)
    @rule(name=st.sampled_from(["ann", "ann", "bob"]), numbered=st.booleans())
    def come(self, name: str, numbered: bool) -> None:
        person = Person(name, numbered)
        self.world.people.append(person)
        self.world.connect(person)

    @precondition(anybody_away)
    @rule(who=which, resume=st.sampled_from([True, True, True, False]))
    def come_back(self, who: int, resume: bool) -> None:
        self.world.connect(self.person(who, connected=False), resume=resume)

    @precondition(anybody)
    @rule(who=which)
    def break_off(self, who: int) -> None:
        self.world.end(self.line(who))

    @precondition(anybody)
    @rule(who=which, acknowledged=st.booleans())
    def vanish(self, who: int, acknowledged: bool) -> None:
        self.world.lose(self.person(who)).acknowledged = acknowledged

    @precondition(lambda self: any(not line.reachable for line in self.world.lines))
    @rule(number=which)
    def notice(self, number: int) -> None:
        gone = [line for line in self.world.lines if not line.reachable]
        self.world.end(gone[number % len(gone)])

    @precondition(anybody)
    @rule(who=which)
    def say_goodbye(self, who: int) -> None:
        self.world.end(self.line(who), for_good=True)

    @precondition(anybody_away)
    @rule(sure=st.sampled_from([False, False, True]))
    def stay_away_too_long(self, sure: bool) -> None:
        if sure:
            self.world.expire()

    # What they say

    @precondition(any_speaker)
    @rule(who=which, count=st.integers(1, 4))
    def send(self, who: int, count: int) -> None:
        line = self.speaker(who)
        for _ in range(count):
            self.world.send_frame(line)

    @precondition(any_speaker)
    @rule(who=which, topic=st.sampled_from(["all", "plugin_ocr"]))
    def subscribe(self, who: int, topic: str) -> None:
        self.world.subscribe(self.speaker(who), topic)

    @precondition(lambda self: self.any_speaker() and bool(self.world.jobs))
    @rule(who=which, number=which)
    def subscribe_to_a_job(self, who: int, number: int) -> None:
        jobs = list(self.world.jobs)
        self.world.subscribe(self.speaker(who), jobs[number % len(jobs)])

    @precondition(any_speaker)
    @rule(who=which, topic=st.sampled_from(["all", "plugin_ocr"]))
    def unsubscribe(self, who: int, topic: str) -> None:
        self.world.unsubscribe(self.speaker(who), topic)

    @precondition(lambda self: self.any_speaker() and self.any_jobs())
    @rule(who=which, number=which)
    def cancel(self, who: int, number: int) -> None:
        jobs = self.world.under_way
        self.world.cancel(self.speaker(who), jobs[number % len(jobs)])

    @precondition(any_speaker)
    @rule(who=which, own=st.booleans())
    def guess_at_secrets(self, who: int, own: bool) -> None:
        line = self.speaker(who)
        for session in list(self.world.dues):
            secret = line.session.secret if own and session is not line.session else "guessed"
            line.say({"type": "resume", "epoch": session.epoch, "seq": 0, "secret": secret})

    # What engines say

    @precondition(any_jobs)
    @rule(number=which)
    def start(self, number: int) -> None:
        waiting = [job for job in self.world.under_way if job.status == "pending"]
        if waiting:
            self.world.start(waiting[number % len(waiting)])

    @precondition(any_jobs)
    @rule(number=which)
    def progress(self, number: int) -> None:
        begun = [job for job in self.world.under_way if job.status == "processing"]
        if begun:
            self.world.progress(begun[number % len(begun)])

    @precondition(any_jobs)
    @rule(number=which, ok=st.booleans())
    def finish(self, number: int, ok: bool) -> None:
        jobs = self.world.under_way
        self.world.finish(jobs[number % len(jobs)], ok=ok)

    # What travels

    @precondition(anybody)
    @rule(who=which, max_bytes=st.sampled_from([1, 400, 1 << 30, 1 << 30]), receipt=st.booleans())
    def write(self, who: int, max_bytes: int, receipt: bool) -> None:
        self.line(who).write(max_bytes, receipt=receipt)

    @precondition(anybody)
    @rule(who=which, count=st.sampled_from([1, 2, 3, 1000]))
    def arrive(self, who: int, count: int) -> None:
        self.world.deliver(self.person(who), count)


@pytest.mark.timeout(7200)
def test_sessions_keep_their_promises(figures: Figures) -> None:
    wanted: dict[str, Any] = {"max_examples": 5000 if figures.soak else 100, "stateful_step_count": 40}
    chosen = settings(
        **wanted,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        derandomize=not figures.soak,
        suppress_health_check=list(HealthCheck),
    )
    Sessions.runs = 0
    run_state_machine_as_test(Sessions, settings=chosen)
    figures.add("sessions against a model", "runs", Sessions.runs)
    figures.add("sessions against a model", "runs in which a promise was broken", 0, 0)
