"""Sessions without a socket: what is owed, offered, confirmed, resent; who takes over what; who has to go."""

from __future__ import annotations

import json

import pytest

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.sessions import Session, SessionBook, Subscriptions


class Connection:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.wakes = 0

    def __call__(self) -> None:
        self.wakes += 1


def session(limit_bytes: int = 1000) -> tuple[Session, Connection]:
    made, connection = Session("c", limit_bytes=limit_bytes), Connection()
    made.connect(connection)
    return made, connection


def test_one_wake_for_all_that_comes_before_the_outbox_is_emptied() -> None:
    one, connection = session()
    one.owe(b"a")
    one.owe(b"b")
    one.offer(b"c")
    assert (connection.wakes, one.waiting) == (1, 3)
    assert one.take() == [b"a", b"b", b"c"]
    assert (one.waiting, one.sent) == (0, 3)
    one.offer(b"d")
    assert connection.wakes == 2


def test_of_broadcasts_the_oldest_go_when_there_are_too_many_bytes_of_them() -> None:
    one, _ = session(limit_bytes=100)
    for number in range(10):
        one.offer(b"%d" % number * 30)
    assert one.take() == [b"7" * 30, b"8" * 30, b"9" * 30]
    assert one.dropped == 7
    one.offer(b"x" * 500)
    assert one.take() == [b"x" * 500], "one that is larger than the limit is still said"


def test_what_is_owed_is_not_dropped_for_broadcasts() -> None:
    one, _ = session(limit_bytes=10)
    for _ in range(50):
        one.owe(b"owed message")
        one.offer(b"a broadcast!")
    assert one.take() == [b"owed message"] * 50 + [b"a broadcast!"]


def test_nothing_is_offered_to_one_who_is_away_but_debts_grow() -> None:
    one, _ = session()
    one.offer(b"lost")
    one.disconnect(5.0)
    one.offer(b"lost too")
    one.owe(b"kept")
    assert (one.connected, one.away_since, one.waiting) == (False, 5.0, 1)
    back = Connection()
    one.connect(back)
    assert (one.connected, one.away_since, back.wakes) == (True, None, 1)
    assert one.take() == [b"kept"]


def test_what_was_not_confirmed_is_owed_again_before_the_rest() -> None:
    one, _ = session()
    for name in (b"1", b"2", b"3"):
        one.owe(name)
    one.take()
    one.owe(b"4")
    one.confirm(2)
    one.disconnect(0.0)
    one.connect(Connection())
    assert one.take() == [b"3", b"4"]
    assert one.given == 4
    one.confirm(4)
    one.disconnect(1.0)
    one.connect(Connection())
    assert one.take() == []


@pytest.mark.parametrize("numbers", [[0], [0, 0, 1], [1, 3], [3, 1], [3, 3], [-1, 99]])
def test_receipts_may_repeat_and_come_late(numbers: list[int]) -> None:
    one, _ = session()
    for name in (b"1", b"2", b"3"):
        one.owe(name)
    one.take()
    for number in numbers:
        one.confirm(number)
    one.disconnect(0.0)
    one.connect(Connection())
    assert one.take() == [b"1", b"2", b"3"][max(0, min(3, max(numbers))) :]


def test_broadcasts_are_not_counted_as_owed() -> None:
    one, _ = session()
    one.offer(b"b")
    one.owe(b"1")
    one.take()
    assert one.given == 1
    one.confirm(1)
    one.disconnect(0.0)
    one.connect(Connection())
    assert one.take() == []


def test_a_numbered_session_counts_what_it_says() -> None:
    one, _ = session()
    one.numbered = True
    one.owe(b'{"a":1}')
    one.offer(b'{"b":2}')
    assert [json.loads(message) for message in one.take()] == [{"seq": 1, "a": 1}, {"seq": 2, "b": 2}]
    one.disconnect(0.0)
    one.connect(Connection())
    assert [json.loads(message) for message in one.take()] == [{"seq": 3, "a": 1}], "again, under a new number"


def test_frames_of_a_stream_are_numbered_each_on_its_own() -> None:
    one, _ = session()
    assert [one.next_seq(stream) for stream in ("", "left", "", "left", "right")] == [0, 0, 1, 1, 0]


def test_a_session_shows_no_more_than_its_names() -> None:
    one, _ = session()
    assert repr(one) == f"<Session c {one.session_id}>"


# Who takes over what


def book(max_owed_bytes: int = 1000) -> SessionBook:
    return SessionBook(outbox_bytes=1000, grace_s=60.0, max_owed_bytes=max_owed_bytes)


def attached(of: SessionBook, client_id: str = "c") -> Session:
    found = of.attach(client_id)
    found.connect(Connection())
    return found


def test_two_live_clients_of_one_name_have_two_sessions() -> None:
    sessions = book()
    first, second = attached(sessions), attached(sessions)
    assert first is not second
    assert first.session_id != second.session_id
    assert sessions.of_client("c") == [first, second] == sessions.connected()
    assert len(sessions) == 2


def test_of_two_that_broke_the_one_longest_away_is_resumed_first() -> None:
    sessions = book()
    first, second, other = attached(sessions), attached(sessions), attached(sessions, "d")
    for one, now in ((second, 1.0), (first, 2.0), (other, 0.0)):
        one.disconnect(now)
    assert [attached(sessions) for _ in range(2)] == [second, first]
    assert attached(sessions) not in (first, second, other)


def test_sessions_expire_after_their_grace_or_with_too_many_debts() -> None:
    sessions = book(max_owed_bytes=2)
    there, gone, owed = attached(sessions), attached(sessions), attached(sessions)
    gone.disconnect(100.0)
    owed.disconnect(159.0)
    assert sessions.expired(160.0) == []
    assert sessions.expired(160.1) == [gone]
    for _ in range(3):
        owed.owe(b"x")
        there.owe(b"x")
    assert sessions.expired(160.0) == [owed], "one that is there has no limit"
    sessions.end(gone)
    sessions.end(gone)
    assert sessions.of_client("c") == [there, owed]
    assert list(sessions) == [there, owed]


# Who is subscribed to what


class JobOf:
    def __init__(self, owner: Session) -> None:
        self.owner, self.job_id = owner, "job_1"
        self.entry = type("Entry", (), {"plugin": type("Plugin", (), {"name": "ocr"})})


def test_subscribers_of_a_job_each_once_without_its_owner() -> None:
    owner, one, other = (session()[0] for _ in range(3))
    subscriptions = Subscriptions(max_topics=5)
    assert not subscriptions
    for topic in ("all", "job_1", "plugin_ocr", "plugin_ocr"):
        subscriptions.add(one, topic)
        subscriptions.add(owner, topic)
    subscriptions.add(other, "job_2")
    assert subscriptions.of_job(JobOf(owner)) == {one}  # type: ignore[arg-type]
    subscriptions.remove(one, "all")
    assert subscriptions.of_topic("all") == {owner}
    assert subscriptions.of_job(JobOf(other)) == {one, owner}  # type: ignore[arg-type]
    for leaving in (one, owner, other):
        subscriptions.leave(leaving)
    assert not subscriptions, "nothing is kept of topics without subscribers"
    assert one.topics == set()


def test_topics_have_a_limit_that_tells() -> None:
    one, _ = session()
    subscriptions = Subscriptions(max_topics=2)
    for topic in ("all", "job_1", "job_1"):
        subscriptions.add(one, topic)
    with pytest.raises(InvalidMessage, match="2 topics are subscribed already, the limit; unsubscribe some"):
        subscriptions.add(one, "job_2")
    assert subscriptions.of_topic("job_2") == set()
