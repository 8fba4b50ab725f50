"""A dispatcher with clients whose connections break, beside a model of what each is to hear.

Nothing here is a socket. Each thing that may happen is a method: it happens to the dispatcher, and to the model, which
follows what ARCHITECTURE.md says of who comes back to what and who hears what.
"""

from __future__ import annotations

import base64
import logging
import time
from typing import Any

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.errors import PluginError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.sessions import Session
from forgesyte_nb.settings import Settings
from tests.fuzz.session_due import Due, Key
from tests.fuzz.session_hearing import Hearing
from tests.fuzz.session_lines import Line, Person

_PIXEL = bytes.fromhex("424d3a000000000000003600000028000000010000000100000001001800") + bytes(28)
_FRAME = {"type": "send_frame", "frame_id": "again", "plugin": "ocr", "image_data": base64.b64encode(_PIXEL).decode()}
_DONE = Outcome(result=b'{"n":1}')
_FAILED = Outcome(error=PluginError("on purpose"))


class _Engine:
    name = "fake"

    def submit(self, job: Job) -> None: ...

    def cancel(self, job: Job) -> bool:
        return job.status == "pending"


class _Loud(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


class World:
    """The dispatcher, everybody around it, and the model.

    Attributes:
        roomy: Whether its limits are never met.
        people: Everybody.
        lines: Connections of whose end the server does not know.
        dues: The model of each session.
        jobs: All jobs.
        owed: What was said to each session of its own jobs, in order.
    """

    def __init__(self, registry: Registry, settings: Settings, *, roomy: bool) -> None:
        """Make it without people."""
        log = logging.Logger("model", logging.ERROR)
        log.addHandler(_Loud())
        engine: Any = _Engine()
        self.dispatcher = Dispatcher(registry, settings, lambda _name: engine, log)
        self.roomy = roomy
        self.people: list[Person] = []
        self.lines: list[Line] = []
        self.dues: dict[Session, Due] = {}
        self.jobs: dict[str, Job] = {}
        self._grace_s = settings.session_grace_s
        self._heirs: dict[Session, Session] = {}
        self.owed: dict[Session, list[Key]] = {}
        self._hearing = Hearing(self)

    @property
    def under_way(self) -> list[Job]:
        """Jobs without a terminal message."""
        return [job for job in self.jobs.values() if not job.ended]

    def lineage(self, session: Session) -> list[Session]:
        """This session, and those in which its client went on."""
        found = [session]
        while found[-1] in self._heirs:
            found.append(self._heirs[found[-1]])
        return found

    def due(self, session: Session) -> Due:
        """The model of the session in which this one's client goes on."""
        return self.dues[self.lineage(session)[-1]]

    # Who comes and goes

    def connect(self, person: Person, *, resume: bool = True) -> None:
        """A person's connection begins."""
        away = [session for session in self.dues if self._waits_for(session, person)]
        expected = min(away, key=lambda session: session.away_since or 0.0, default=None)
        session = self.dispatcher.reception.enter(person.name, numbered=person.numbered)
        assert session is expected if expected else session not in self.dues, "not the session that waits for it"
        self.dues.setdefault(session, Due(person.numbered))
        person.resumes = resume and bool(person.known)
        if not person.resumes:
            self._give_up(person)
        person.line = Line(self, person.name, session)
        self.lines.append(person.line)
        session.connect(person.line)

    def _waits_for(self, session: Session, person: Person) -> bool:
        due = self.dues[session]
        is_away = session.away_since is not None and session not in self._heirs and not due.over
        return is_away and session.client_id == person.name and not due.numbered and not person.numbered

    def _known_session(self, person: Person) -> Session:
        return next(one for one in self.dues if one.session_id == person.known["session"])

    def _give_up(self, person: Person) -> None:
        """It will not come back to what it knows of."""
        if person.known:
            self.dues[self._known_session(person)].over = True
            person.known = {}

    def lose(self, person: Person) -> Line:
        """A person has lost its line; the server may not know. What it began before it resumed, it does not know of."""
        line = person.line
        assert line is not None
        line.reachable = False
        line.on_its_way.clear()
        person.line = None
        if person.numbered and line.session.session_id != person.known.get("session"):
            self.dues[line.session].over = True
        return line

    def end(self, line: Line, *, for_good: bool = False) -> None:
        """The server learns that a line has ended."""
        for person in self.people:
            if person.line is line:
                self.lose(person)
                if for_good:
                    self._give_up(person)
        self.lines.remove(line)
        session = line.session
        serves = {other: other.session for other in self.lines}
        if not for_good:
            self._hand_over(session, since=max(line.heard_at, line.reached_at), serves=serves)
        self.dispatcher.reception.leave(session, now=time.monotonic(), for_good=for_good)
        assert serves == {other: other.session for other in self.lines}, "others serve sessions that are not theirs"
        self.dues[session].over = self.dues[session].over or for_good

    def _hand_over(self, session: Session, *, since: float, serves: dict[Line, Session]) -> bool:
        """The first of its name who came since goes on in a session, if its client knows no numbers."""
        later = [
            line
            for line, served in serves.items()
            if line.name == session.client_id and not served.numbered and served.entered_at > since
        ]
        if session.numbered or not later:
            return False
        back = min(later, key=lambda line: serves[line].entered_at)
        self._unite(serves[back], session)
        serves[back] = session
        return True

    def _unite(self, newcomer: Session, old: Session) -> None:
        self.dues[old].take_in(self.dues[newcomer])
        self._heirs[newcomer] = old

    def resume(self, person: Person) -> None:
        """A person says what it has."""
        line, known, old = person.line, person.known, self._known_session(person)
        assert line is not None
        newcomer, alive = line.session, not self.dues[old].over
        line.said_before, line.told_before = len(self.dues[old].said), self.dues[old].told_lost
        if alive:
            self._unite(newcomer, old)
        line.say({"type": "resume", "epoch": known["epoch"], "seq": known["seq"], "secret": known["secret"]})
        assert line.session is (old if alive else newcomer)

    def expire(self) -> None:
        """All that are away stay away for too long: who may have come back instead, now has."""
        serves = {line: line.session for line in self.lines}
        away = [one for one in self.dues if one.away_since is not None and one not in self._heirs]
        for session in sorted(away, key=lambda one: one.away_since or 0.0):
            due = self.dues[session]
            if due.over or not self._hand_over(session, since=session.heard_at, serves=serves):
                due.over = True
        self.dispatcher.reception.expire(time.monotonic() + self._grace_s + 1.0)
        assert serves == {line: line.session for line in self.lines}, "others serve sessions that are not theirs"

    # Jobs

    def send_frame(self, line: Line) -> None:
        """A client sends a frame, under a name that is used for all."""
        before = set(self.dispatcher.jobs.active)
        line.say(_FRAME)
        (job_id,) = set(self.dispatcher.jobs.active) - before
        self.jobs[job_id] = self.dispatcher.jobs.active[job_id]
        self._tell(self.jobs[job_id], "pending", 0.0)

    def start(self, job: Job) -> None:
        """A worker starts on it."""
        self._tell(job, "processing", 0.0)
        self.dispatcher.started(job)

    def progress(self, job: Job) -> None:
        """Its plugin gets on."""
        percent = job.progress_percent + 1.0
        self._tell(job, "processing", percent)
        self.dispatcher.progressed(job, percent)

    def finish(self, job: Job, *, ok: bool) -> None:
        """Its plugin is done."""
        self._tell_end(job, ok=ok)
        self.dispatcher.ended(job, _DONE if ok else _FAILED)

    def cancel(self, line: Line, job: Job) -> None:
        """A client cancels a job, its own or another's."""
        is_own = self.lineage(job.owner)[-1] is line.session
        if is_own and job.status == "pending":
            self._tell_end(job, ok=False)
        line.say({"type": "cancel", "job_id": job.job_id})
        assert is_own or job.status in ("pending", "processing") or job.ended

    def subscribe(self, line: Line, topic: str) -> None:
        """A client subscribes; of a job that has ended it is told the end."""
        due, job = self.due(line.session), self.jobs.get(topic)
        line.say({"type": "subscribe", "topic": topic})
        if job is None or not job.ended:
            due.topics.add(topic)
            return
        for key in [key for key in self.owed[job.owner] if key[0] == topic][-2:]:
            due.may_hear.add(key)
            due.again[key] += 1

    def unsubscribe(self, line: Line, topic: str) -> None:
        """A client unsubscribes."""
        line.say({"type": "unsubscribe", "topic": topic})
        self.due(line.session).topics.discard(topic)

    def _tell_end(self, job: Job, *, ok: bool) -> None:
        self._tell(job, "terminal", 0.0)
        self._tell(job, "completed" if ok else "failed", 100.0 if ok else job.progress_percent)
        for due in self.dues.values():
            due.topics.discard(job.job_id)

    def _tell(self, job: Job, what: str, percent: float) -> None:
        key = (job.job_id, what, percent)
        owner = self.lineage(job.owner)[-1]
        self.owed.setdefault(job.owner, []).append(key)
        self.dues[owner].tell(key, owed=True)
        for session, due in self.dues.items():
            is_subscribed = due.topics & {"all", "plugin_ocr", job.job_id}
            if is_subscribed and session is not owner and session not in self._heirs:
                due.tell(key, owed=False)

    # What arrives, and the end

    def deliver(self, person: Person, count: int = 1 << 30) -> None:
        """So much of what is on its way to a person arrives."""
        self._hearing.deliver(person, count)

    def settle(self) -> None:
        """All jobs end, everybody comes back and hears what there is to hear; then everything must have been heard."""
        for session, due in self.dues.items():
            assert due.over or session in self._heirs or session.topics == due.topics
        for line in [line for line in self.lines if not line.reachable]:
            self.end(line)
        for job in self.under_way:
            self.finish(job, ok=True)
        for person in self.people:
            if person.line is None:
                self.connect(person)
        while away := [one for one in self.dues if self._waits_for(one, Person(one.client_id, numbered=False))]:
            self.people.append(Person(away[0].client_id, numbered=False))
            self.connect(self.people[-1])
        while any(line.on_its_way or line.session.outbox.waiting for line in self.lines):
            for person in self.people:
                if person.line is not None:
                    person.line.write()
                    self.deliver(person)
        for session, due in self.dues.items():
            if session not in self._heirs and not due.over:
                due.check(roomy=self.roomy)
        assert all(len(outcomes) == 1 for outcomes in self._hearing.outcomes.values()), (
            "a job with two terminal messages"
        )
        assert self.dispatcher.jobs.active == {}
        assert self.dispatcher.backlog.memory_bytes == 0
        self.dispatcher.reception.expire(float("inf"))
        assert self.dispatcher.spool.bytes == 0
