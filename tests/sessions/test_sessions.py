"""Sessions without a socket: who takes over whose, who has to go, who is subscribed to what."""

from __future__ import annotations

from typing import Any

import pytest

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.sessions import Session, SessionBook
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool
from forgesyte_nb.subscriptions import Subscriptions


class Wire:
    """A connection that counts."""

    def __init__(self, heard_at: float = 0.0) -> None:
        self.heard_at = self.reached_at = heard_at
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    wake_later = wake

    def take_over(self, session: Session) -> None:
        session.connect(self)

    def probe(self) -> None: ...

    def cut(self, reason: str) -> None: ...


def session(client_id: str = "c", *, numbered: bool = False, now: float = 0.0) -> Session:
    made = Session(client_id, Settings(), Spool(0), numbered=numbered, now=now)
    made.connect(Wire(now))
    return made


def test_frames_of_a_stream_are_numbered_each_on_its_own() -> None:
    one = session()
    assert [one.next_seq(stream) for stream in ("", "left", "", "left", "right")] == [0, 0, 1, 1, 0]


def test_a_session_shows_no_more_than_its_names() -> None:
    one = session()
    assert one.secret not in repr(one)
    assert repr(one) == f"<Session c {one.session_id}>"


# Who takes over what


def book(**settings: Any) -> SessionBook:
    return SessionBook(Settings(**{"session_grace_s": 60.0, **settings}), Spool(0))


def attached(of: SessionBook, client_id: str = "c", *, numbered: bool = False, now: float = 0.0) -> Session:
    found = of.attach(client_id, numbered=numbered, now=now)
    found.connect(Wire(now))
    return found


def test_two_live_clients_of_one_name_have_two_sessions() -> None:
    sessions = book()
    first, second = attached(sessions), attached(sessions)
    assert first is not second
    assert first.session_id != second.session_id
    assert sessions.connected() == [first, second]
    assert len(sessions) == 2


def test_of_two_that_broke_the_one_longest_away_is_resumed_first() -> None:
    sessions = book()
    first, second, other = attached(sessions), attached(sessions), attached(sessions, "d")
    for one, now in ((second, 1.0), (first, 2.0), (other, 0.0)):
        one.disconnect(now)
    assert [attached(sessions) for _ in range(2)] == [second, first]
    assert attached(sessions) not in (first, second, other)


def test_who_knows_numbers_has_a_session_of_its_own_until_it_says_which_it_resumes() -> None:
    sessions = book()
    first = attached(sessions, numbered=True)
    first.disconnect(1.0)
    again, plain = attached(sessions, numbered=True), attached(sessions)
    assert first not in (again, plain)
    assert sessions.find(first.epoch, first.secret) is first
    for epoch, secret in (("", ""), (first.epoch, ""), (first.epoch, again.secret), (again.epoch, first.secret)):
        assert sessions.find(epoch, secret) is None
    assert sessions.find(first.epoch, "\ud800") is None
    sessions.end(first)
    assert sessions.find(first.epoch, first.secret) is None


def test_sessions_expire_after_their_grace() -> None:
    sessions = book()
    there, gone, later = attached(sessions), attached(sessions), attached(sessions)
    gone.disconnect(100.0)
    later.disconnect(101.0)
    assert sessions.expired(160.0) == []
    assert sessions.expired(160.1) == [gone]
    assert sessions.expired(1000.0) == [gone, later]
    sessions.end(gone)
    sessions.end(gone)
    assert list(sessions) == [there, later]


def test_of_too_much_that_is_kept_for_all_the_longest_away_go_first() -> None:
    sessions = book(sessions_bytes=250)
    there, second, first, third = (attached(sessions, name) for name in "abcd")
    for one, now in ((first, 1.0), (second, 2.0), (third, 3.0)):
        one.disconnect(now)
    for one in (there, first, second):
        one.outbox.owe(b"x" * 100)
    assert sessions.expired(4.0) == [], "one that is there has no part in it"
    third.outbox.owe(b"x" * 100)
    assert sessions.expired(4.0) == [first]


@pytest.mark.parametrize(
    ("heard_at", "came", "back"),
    [(1.0, [2.0], 0), (3.0, [2.0], None), (1.0, [3.0, 2.0], 1), (2.5, [2.0, 3.0], 1), (1.0, [], None)],
)
def test_one_of_the_name_that_came_since_the_last_sign_of_life_is_the_client_come_back(
    heard_at: float, came: list[float], back: int | None
) -> None:
    sessions = book()
    first = attached(sessions)
    first.connect(Wire(heard_at))
    others = [attached(sessions, now=now) for now in came]
    attached(sessions, "other", now=2.0)
    attached(sessions, numbered=True, now=2.0)
    first.disconnect(9.0)
    for certain in (True, False):
        assert sessions.successor(first, certain=certain) is (None if back is None else others[back])


def test_while_only_the_clients_system_gives_signs_of_life_it_is_doubtful_who_the_other_is() -> None:
    sessions = book()
    busy = attached(sessions)
    twin = attached(sessions, now=2.0)
    assert isinstance(busy.connection, Wire)
    busy.connection.reached_at = 3.0
    busy.disconnect(9.0)
    assert sessions.successor(busy, certain=True) is None
    assert sessions.successor(busy, certain=False) is twin


def test_a_session_that_is_taken_up_again_is_of_a_client_that_came_then() -> None:
    sessions = book()
    first = attached(sessions)
    other = attached(sessions, now=1.0)
    other.disconnect(2.0)
    first.disconnect(2.5)
    assert attached(sessions, now=3.0) is other
    assert sessions.successor(first, certain=True) is other


# Who is subscribed to what


class JobOf:
    def __init__(self, owner: Session) -> None:
        self.owner, self.job_id = owner, "job_1"
        self.entry = type("Entry", (), {"plugin": type("Plugin", (), {"name": "ocr"})})


def test_subscribers_of_a_job_each_once_without_its_owner() -> None:
    owner, one, other = (session() for _ in range(3))
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


def test_the_owner_that_goes_on_in_another_session_is_no_subscriber_there() -> None:
    newcomer, old = session(), session()
    subscriptions = Subscriptions(max_topics=5)
    subscriptions.add(old, "all")
    newcomer.heir = old
    assert subscriptions.of_job(JobOf(newcomer)) == set()  # type: ignore[arg-type]


def test_topics_have_a_limit_that_tells() -> None:
    one = session()
    subscriptions = Subscriptions(max_topics=2)
    for topic in ("all", "job_1", "job_1"):
        subscriptions.add(one, topic)
    with pytest.raises(InvalidMessage, match="2 topics are subscribed already, the limit; unsubscribe some"):
        subscriptions.add(one, "job_2")
    assert subscriptions.of_topic("job_2") == set()


def test_an_heir_is_subscribed_to_what_the_session_was() -> None:
    one, heir = session(), session()
    subscriptions = Subscriptions(max_topics=2)
    for who, topic in ((one, "all"), (one, "job_1"), (heir, "job_1"), (heir, "job_2")):
        subscriptions.add(who, topic)
    subscriptions.hand_over(one, heir)
    assert one.topics == set()
    assert heir.topics == {"job_1", "job_2"}, "up to the limit"
    assert subscriptions.of_topic("job_1") == {heir}
    assert subscriptions.of_topic("all") == set()


def test_of_too_many_that_are_away_those_longest_away_are_ended() -> None:
    sessions = book(max_connections=2)
    gone = [attached(sessions, f"c{number}", now=float(number)) for number in range(4)]
    stays = attached(sessions, "stays")
    for number, one in enumerate(gone):
        one.disconnect(float(number))
    assert sessions.expired(4.0) == gone[:2]
    assert stays in sessions.connected()
