"""The dispatcher without sockets and without workers: a client's JSON in, the outboxes' JSON out."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from forgesyte_nb import dispatch
from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.errors import InvalidImage, InvalidMessage
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.sessions import Session
from forgesyte_nb.settings import Settings
from tests.conftest import run_cell

DONE = Outcome(result=b'{"text":"hi"}', decode_ms=1.0, plugin_ms=2.0)


class Engine:
    """Takes jobs and does nothing with them; a test says what becomes of them."""

    name = "fake"

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.fault: Exception | None = None

    def submit(self, job: Job) -> None:
        if self.fault is not None:
            raise self.fault
        self.jobs.append(job)

    def cancel(self, job: Job) -> bool:
        return job.status == "pending"


class Wire:
    """A connection that is never written to: tests take from the outbox themselves."""

    heard_at = reached_at = 0.0

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.session: Session | None = None
        self.probes = 0
        self.cuts: list[str] = []

    def open(self, session: Session) -> Session:
        self.session = session
        session.connect(self)
        return session

    def wake(self) -> None: ...

    wake_later = wake

    def take_over(self, session: Session) -> None:
        self.open(session)

    def probe(self) -> None:
        self.probes += 1

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)
        assert self.session is not None
        self.desk.dispatcher.reception.leave(self.session, now=1.0, for_good=False, reason=reason)


class Desk:
    """A dispatcher, its fake engine, and clients."""

    def __init__(self, **settings: Any) -> None:
        registry = Registry()
        run_cell("@fs.plugin\ndef ocr(frame, *, threshold: float = 0.5): return {}", registry)
        self.engine = Engine()
        self.log: list[str] = []
        log = logging.Logger("test")
        log.addHandler(logging.StreamHandler(self))  # type: ignore[type-var]
        engine: Any = self.engine
        self.dispatcher = Dispatcher(registry, Settings(**settings), lambda _name: engine, log)
        self.registry = registry

    def write(self, text: str) -> None:
        self.log.append(text)

    def flush(self) -> None: ...

    def client(self, name: str = "c", *, numbered: bool = False) -> Session:
        return Wire(self).open(self.dispatcher.reception.enter(name, numbered=numbered))

    def say(self, session: Session, message: Any) -> list[dict[str, Any]]:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.dispatcher.receive(session, data)
        return heard(session)

    def frame(self, session: Session, image: bytes, frame_id: str = "f", **more: Any) -> Job:
        message = {"type": "send_frame", "frame_id": frame_id, "plugin": "ocr", **more}
        message["image_data"] = base64.b64encode(image).decode()
        self.dispatcher.receive(session, json.dumps(message).encode())
        return self.engine.jobs[-1]


def heard(session: Session) -> list[dict[str, Any]]:
    return [json.loads(message) for message in session.outbox.take()]


def brief(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(message["type"], message.get("status", message.get("error_code"))) for message in messages]


def test_a_job_from_its_frame_to_its_result(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    job = desk.frame(session, tiny)
    desk.dispatcher.started(job)
    desk.dispatcher.progressed(job, 33.3)
    desk.dispatcher.ended(job, DONE)
    messages = heard(session)
    assert [(m["type"], m["status"], m.get("progress_percent")) for m in messages] == [
        ("job_update", "pending", 0),
        ("job_update", "processing", 0),
        ("job_update", "processing", 33.3),
        ("frame_result", "success", None),
        ("job_update", "completed", 100),
    ]
    assert {(m["frame_id"], m["job_id"], m["plugin"]) for m in messages} == {("f", job.job_id, "ocr")}
    assert messages[3]["result"] == {"text": "hi"}
    assert messages[3]["processing_time_ms"] == 3.0
    assert set(messages[3]["timings"]) == {"queue_ms", "decode_ms", "plugin_ms", "total_ms"}


def test_a_failed_job_keeps_its_progress(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    job = desk.frame(session, tiny)
    desk.dispatcher.started(job)
    desk.dispatcher.progressed(job, 50.0)
    desk.dispatcher.ended(job, Outcome(error=InvalidImage("damaged")))
    error, update = heard(session)[-2:]
    assert (error["error_code"], error["message"], error["job_id"]) == ("INVALID_IMAGE", "damaged", job.job_id)
    assert (update["status"], update["progress_percent"]) == ("failed", 50.0)


def test_no_job_is_answered_twice(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    job = desk.frame(session, tiny)
    desk.dispatcher.ended(job, DONE)
    heard(session)
    desk.dispatcher.ended(job, DONE)
    desk.dispatcher.progressed(job, 10.0)
    assert heard(session) == []
    assert any("answered twice" in line for line in desk.log)


def test_one_copy_each_however_many_topics_match(tiny: bytes) -> None:
    desk = Desk()
    sender, watcher, other = desk.client("sender"), desk.client("watcher"), desk.client("other")
    job = desk.frame(sender, tiny)
    for topic in ("all", "plugin_ocr", job.job_id):
        desk.say(watcher, {"type": "subscribe", "topic": topic})
        desk.say(sender, {"type": "subscribe", "topic": topic})
    desk.say(other, {"type": "subscribe", "topic": "plugin_ocrr"})
    heard(sender)
    desk.dispatcher.started(job)
    desk.dispatcher.ended(job, DONE)
    expected = [("job_update", "processing"), ("frame_result", "success"), ("job_update", "completed")]
    assert brief(heard(sender)) == brief(heard(watcher)) == expected
    assert heard(other) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"nonsense", "INVALID_MESSAGE"),
        ({"type": "send_frame", "frame_id": "f", "plugin": "ocr", "image_data": "!"}, "INVALID_IMAGE"),
        ({"type": "send_frame", "frame_id": "f", "plugin": "ocr", "image_data": ""}, "INVALID_IMAGE"),
        ({"type": "send_frame", "frame_id": "f", "plugin": "ocrr", "image_data": ""}, "PLUGIN_NOT_FOUND"),
        (
            {"type": "send_frame", "frame_id": "f", "plugin": "ocr", "image_data": "", "options": {"a": 1}},
            "INVALID_OPTIONS",
        ),
        ({"type": "subscribe", "topic": "x"}, "INVALID_MESSAGE"),
        ({"type": "cancel", "job_id": "job_1"}, "INVALID_MESSAGE"),
    ],
)
def test_what_is_refused_is_one_error_to_its_sender_and_no_job(message: Any, code: str) -> None:
    desk = Desk()
    sender, watcher = desk.client("sender"), desk.client("watcher")
    desk.say(watcher, {"type": "subscribe", "topic": "all"})
    assert brief(desk.say(sender, message)) == [("error", code)]
    assert heard(watcher) == []
    assert desk.engine.jobs == []
    assert not desk.dispatcher.jobs.active
    assert desk.dispatcher.tally.refused == {code: 1}


def test_a_fault_of_the_server_is_answered_and_logged(tiny: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    session = desk.client()

    def breaks(_options: bytes) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.registry.entry("ocr").plugin.schema, "keywords", breaks)
    message = {"type": "send_frame", "frame_id": "f", "plugin": "ocr", "image_data": base64.b64encode(tiny).decode()}
    (error,) = desk.say(session, message)
    assert (error["error_code"], error["frame_id"]) == ("PLUGIN_ERROR", "f")
    assert "ZeroDivisionError" in error["message"]
    assert any("ZeroDivisionError" in line for line in desk.log)


def test_an_engine_that_cannot_take_a_job_still_ends_it(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    desk.engine.jobs.append(desk.frame(session, tiny))
    heard(session)
    desk.engine.fault = BlockingIOError("no more processes")
    desk.frame(session, tiny, "g")
    messages = heard(session)
    assert brief(messages) == [("job_update", "pending"), ("error", "PLUGIN_ERROR"), ("job_update", "failed")]
    assert "no more processes" in messages[1]["message"]
    assert len(desk.dispatcher.jobs.active) == 1


def test_the_queue_is_bounded_in_frames_and_in_bytes(tiny: bytes) -> None:
    for settings in ({"queue_frames": 2}, {"queue_bytes": 2 * len(tiny), "spool_bytes": 0}):
        desk = Desk(**settings)
        session = desk.client()
        jobs = [desk.frame(session, tiny, str(number)) for number in range(2)]
        heard(session)
        desk.frame(session, tiny, "too much")
        (error,) = heard(session)
        assert (error["error_code"], error["frame_id"]) == ("QUEUE_FULL", "too much")
        desk.dispatcher.ended(jobs[0], DONE)
        heard(session)
        assert desk.frame(session, tiny, "again").frame_id == "again"


def test_room_is_given_back_by_every_ending(tiny: bytes) -> None:
    desk = Desk(queue_bytes=len(tiny), spool_bytes=0)
    session = desk.client()
    for outcome in (DONE, Outcome(error=InvalidImage("x")), DONE):
        desk.dispatcher.ended(desk.frame(session, tiny), outcome)
    assert [code for kind, code in brief(heard(session)) if kind == "error"] == ["INVALID_IMAGE"]
    assert desk.dispatcher.backlog.memory_bytes == 0


def test_cancel(tiny: bytes) -> None:
    desk = Desk()
    mine, other = desk.client(), desk.client()
    waiting, running = desk.frame(mine, tiny, "w"), desk.frame(mine, tiny, "r")
    desk.dispatcher.started(running)
    heard(mine)
    for job in (waiting, running):
        assert brief(desk.say(other, {"type": "cancel", "job_id": job.job_id})) == [("error", "INVALID_MESSAGE")]
    messages = desk.say(mine, {"type": "cancel", "job_id": waiting.job_id})
    assert brief(messages) == [("error", "PLUGIN_ERROR"), ("job_update", "failed")]
    assert desk.say(mine, {"type": "cancel", "job_id": running.job_id}) == []
    desk.dispatcher.ended(running, DONE)
    assert brief(heard(mine)) == [("frame_result", "success"), ("job_update", "completed")]


def test_a_broadcast_counts_whom_it_reached() -> None:
    desk = Desk()
    a, b, away = desk.client("a"), desk.client("b"), desk.client("away")
    for session in (a, away):
        desk.say(session, {"type": "subscribe", "topic": "all"})
    desk.dispatcher.reception.leave(away, now=1.0, for_good=False)
    assert desk.dispatcher.broadcast({"n": 1}) == 2
    assert desk.dispatcher.broadcast({"n": 2}, topic="all") == 1
    assert desk.dispatcher.broadcast({"n": 3}, client_id="b") == 1
    assert desk.dispatcher.broadcast({"n": 4}, topic="all", client_id="b") == 0
    assert [message["body"]["n"] for message in heard(a)] == [1, 2]
    assert [message["body"]["n"] for message in heard(b)] == [1, 3]
    with pytest.raises(InvalidMessage):
        desk.dispatcher.broadcast(1, topic="everyone")
    with pytest.raises(TypeError):
        desk.dispatcher.broadcast(object())


def test_a_huge_frame_id_does_not_fill_the_log() -> None:
    desk = Desk()
    session = desk.client()
    desk.say(session, {"type": "send_frame", "frame_id": "x" * 1_000_000, "plugin": "none", "image_data": ""})
    assert sum(map(len, desk.log)) < 2000


def test_streams_of_a_client_are_numbered_each_for_itself(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    seqs = [desk.frame(session, tiny, stream_id=stream).seq for stream in ("", "a", "", "a", "b")]
    assert seqs == [0, 0, 1, 1, 0]


def test_the_first_message_of_v2_is_hello_and_all_are_numbered(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client(numbered=True)
    desk.frame(session, tiny)
    desk.say(session, {"type": "subscribe", "topic": "all"})
    heard(session)
    other = desk.client(numbered=True)
    desk.say(other, {"type": "unsubscribe", "topic": "all"})
    fresh = desk.client(numbered=True)
    desk.dispatcher.receive(fresh, b'{"type": "subscribe", "topic": "all"}')
    messages = heard(fresh)
    assert [(message["seq"], message["type"]) for message in messages] == [(1, "hello"), (2, "subscribed")]
    assert messages[0]["plugins"] == ["ocr"]


def test_resuming_takes_the_session_from_a_connection_that_seems_alive(tiny: bytes) -> None:
    desk = Desk()
    old = desk.client(numbered=True)
    hello = heard(old)[0]
    job = desk.frame(old, tiny)
    wire = old.connection
    new = desk.client(numbered=True)
    desk.dispatcher.receive(
        new, json.dumps({"type": "resume", **{k: hello[k] for k in ("epoch", "seq", "secret")}}).encode()
    )
    assert isinstance(wire, Wire)
    assert wire.cuts == ["its client came back on another connection"]
    assert (new.connection, new.last_heir) == (None, old)
    assert old.connection is not wire
    desk.dispatcher.ended(job, DONE)
    said = heard(old)
    assert brief(said) == [
        ("resumed", None),
        ("job_update", "pending"),
        ("frame_result", "success"),
        ("job_update", "completed"),
    ]
    assert [m["seq"] for m in said] == [2, 3, 4, 5]
    assert len(desk.dispatcher.sessions) == 1


def test_a_resume_that_comes_too_late_on_a_connection_given_up_takes_nothing(tiny: bytes) -> None:
    """Numbers are given anew after each: what the client has by one numbering must not count by another."""
    desk = Desk()
    old = desk.client(numbered=True)
    hello = heard(old)[0]
    job = desk.frame(old, tiny)
    number = heard(old)[-1]["seq"]

    def resume(on: Session, seq: int) -> list[dict[str, Any]]:
        said = {"type": "resume", "epoch": hello["epoch"], "seq": seq, "secret": hello["secret"]}
        desk.dispatcher.receive(on, json.dumps(said).encode())
        return heard(on.last_heir)

    given_up = desk.client(numbered=True)
    used = desk.client(numbered=True)
    assert resume(used, number)[0]["recovered"] is True
    for news in range(3):
        desk.dispatcher.broadcast(news)
    number, before = heard(old)[-1]["seq"], number
    desk.dispatcher.ended(job, DONE)
    assert heard(old), "on its way"
    late = resume(given_up, before)
    assert [(m["type"], m.get("recovered")) for m in late][:2] == [("hello", None), ("resumed", False)]
    assert isinstance(old.connection, Wire)
    assert old.connection.cuts == [], "the client goes on there"
    old.connection.cut("broken")
    resumed, *missed = resume(desk.client(numbered=True), number)
    assert resumed["recovered"] is True
    assert ("frame_result", "success") in brief(missed)


def test_of_the_seeds_clients_of_one_name_the_others_are_asked_for_a_sign_of_life(tiny: bytes) -> None:
    desk = Desk()
    first, other = desk.client("twin"), desk.client("elsewhere")
    second = desk.client("twin")
    wires = [one.connection for one in (first, other, second)]
    assert [one.probes for one in wires if isinstance(one, Wire)] == [1, 0, 0]
    job = desk.frame(first, tiny, "of the first")
    later = desk.frame(second, tiny, "of the second")
    heard(first), heard(second)
    desk.dispatcher.reception.leave(first, now=5.0, for_good=False)
    assert first.connection is wires[2], "nothing was heard of the first since the second came: it is its client"
    for one in (job, later):
        desk.dispatcher.started(one)
        desk.dispatcher.ended(one, DONE)
    said = heard(first)
    assert [m["frame_id"] for m in said if m["type"] == "frame_result"] == ["of the first", "of the second"]
    assert desk.say(first, {"type": "cancel", "job_id": later.job_id}) == [], "it is its job"


def test_a_client_that_left_is_owed_nothing_more(tiny: bytes) -> None:
    desk = Desk()
    session = desk.client()
    job = desk.frame(session, tiny)
    desk.dispatcher.reception.leave(session, now=1.0, for_good=True)
    desk.dispatcher.ended(job, DONE)
    assert (session.outbox.waiting, session.outbox.kept_bytes) == (0, 0)


def test_who_sends_on_and_reads_none_of_the_refusals_is_cut_and_who_reads_is_not(
    tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike the answers to frames, whose number is that of the accepted ones, nothing else would bound them."""
    monkeypatch.setattr(dispatch, "MOST_UNREAD_ANSWERS", 10)
    desk = Desk()
    reads, does_not = desk.client("reads"), desk.client("does not")
    wires = [session.connection for session in (reads, does_not)]
    for _ in range(30):
        desk.say(reads, b"no JSON")
        desk.frame(does_not, tiny)
    assert [one.cuts for one in wires if isinstance(one, Wire)] == [[], []]
    for _ in range(10):
        desk.dispatcher.receive(does_not, b"no JSON")
    assert does_not.connection is not None
    desk.dispatcher.receive(does_not, b"no JSON")
    assert does_not.connection is None
    assert [len(one.cuts) for one in wires if isinstance(one, Wire)] == [0, 1]


def test_a_result_is_not_said_again_and_again_to_one_who_reads_none(tiny: bytes) -> None:
    desk = Desk(unread_bytes=5000)
    session = desk.client()
    job = desk.frame(session, tiny)
    desk.dispatcher.ended(job, Outcome(result=b'"' + b"x" * 3000 + b'"'))
    heard(session)
    for _ in range(5):
        desk.dispatcher.receive(session, json.dumps({"type": "subscribe", "topic": job.job_id}).encode())
    messages = heard(session)
    assert [kind for kind, _ in brief(messages)] == ["frame_result", "job_update"] * 2 + ["error"] * 3
    assert {m.get("error_code") for m in messages if m["type"] == "error"} == {"QUEUE_FULL"}
