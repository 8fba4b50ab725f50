"""Sessions against a model: people come, send, subscribe, lose their connections and come back, in any order.

Without sockets, on `Dispatcher`, `SessionBook` and `Outbox` as they are, with an engine whose jobs end when a rule says
so. The invariants are asserted by `session_hearing.py` and `session_due.py`: every accepted frame has one terminal
message, which its session's client hears at least once whatever breaks, never twice on one connection, in order; nobody
hears what is another's; and who is told that all was recovered has missed nothing, unless told of what was dropped.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.settings import Settings
from tests.conftest import run_cell
from tests.figures import Figures
from tests.fuzz.session_lines import Line, Person
from tests.fuzz.session_world import World

ROOMY = Settings()
TIGHT = Settings(session_messages=6, outbox_bytes=500)
MOST_PEOPLE = 4
_REGISTRY = Registry()
run_cell("@fs.plugin\ndef ocr(frame): return {}", _REGISTRY)

which = st.integers(0, 59)


def may_speak(person: Person) -> bool:
    """Whether it is connected, and has nothing to say before all else."""
    return person.line is not None and not (person.resumes and not person.line.hello)


class Sessions(RuleBasedStateMachine):
    """Whatever may happen, in any order."""

    limits = ROOMY
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World(_REGISTRY, self.limits, roomy=self.limits is ROOMY)

    def teardown(self) -> None:
        self.world.settle()
        type(self).runs += 1

    def person(self, number: int, *, connected: bool = True) -> Person:
        found = [person for person in self.world.people if (person.line is not None) == connected]
        return found[number % len(found)]

    def line(self, number: int) -> Line:
        line = self.person(number).line
        assert line is not None
        return line

    def index_of(self, person: Person) -> int:
        return [one for one in self.world.people if one.line is not None].index(person)

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
    @rule(who=which, write=st.booleans())
    def break_off(self, who: int, write: bool) -> None:
        line = self.line(who)
        if write:
            line.write()
        self.world.end(line)

    @precondition(anybody)
    @rule(who=which, write=st.booleans(), counts=st.lists(st.sampled_from([0, 1, 2, 1000]), max_size=2))
    def blink(self, who: int, write: bool, counts: list[int]) -> None:
        """Away and back at once; greeted, it resumes, and hears a part of what it missed."""
        person = self.person(who)
        self.break_off(who, write)
        self.world.connect(person)
        for count in counts:
            self.exchange(self.index_of(person), count)

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

    @precondition(any_speaker)
    @rule(who=which, count=st.integers(1, 3))
    def send_and_have_done(self, who: int, count: int) -> None:
        line = self.speaker(who)
        for _ in range(count):
            self.world.send_frame(line)
        for job in self.world.under_way[-count:]:
            self.world.start(job)
            self.world.finish(job, ok=True)

    # What travels

    @precondition(anybody)
    @rule(who=which, count=st.sampled_from([1, 2, 1000, 1000]))
    def exchange(self, who: int, count: int) -> None:
        self.line(who).write(receipt=True)
        self.world.deliver(self.person(who), count)

    @precondition(anybody)
    @rule(who=which, max_bytes=st.sampled_from([1, 400, 1 << 30, 1 << 30]), receipt=st.booleans())
    def write(self, who: int, max_bytes: int, receipt: bool) -> None:
        self.line(who).write(max_bytes, receipt=receipt)

    @precondition(anybody)
    @rule(who=which, count=st.sampled_from([1, 2, 3, 1000]))
    def arrive(self, who: int, count: int) -> None:
        self.world.deliver(self.person(who), count)


class TightSessions(Sessions):
    """The same where much must be let go."""

    limits = TIGHT


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("sessions", [Sessions, TightSessions])
def test_sessions_keep_their_promises(sessions: type[Sessions], figures: Figures) -> None:
    chosen = settings(
        max_examples=2500 if figures.soak else 50,
        stateful_step_count=40,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        derandomize=not figures.soak,
        suppress_health_check=list(HealthCheck),
    )
    sessions.runs = 0
    run_state_machine_as_test(sessions, settings=chosen)
    which_limits = "with room" if sessions.limits is ROOMY else "at the limits"
    figures.add("sessions against a model", f"runs, {which_limits}", sessions.runs)
    figures.add("sessions against a model", f"promises broken, {which_limits}", 0, 0)
