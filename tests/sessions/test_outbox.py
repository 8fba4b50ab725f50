"""An outbox without a socket: what is owed, offered, confirmed, said again, let go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forgesyte_nb.outbox.outbox import Outbox
from forgesyte_nb.outbox.sent_log import KEPT_BYTES
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool

UPDATE = b'{"type":"job_update","job_id":"%d"}'
RESULT = b'{"type":"frame_result","job_id":"%d"}'
NEWS = b'{"type":"broadcast","body":%d}'


class Wakes:
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def outbox(*, numbered: bool = False, **settings: Any) -> tuple[Outbox, Wakes]:
    made, wakes = Outbox(Settings(**settings), Spool(1 << 30), numbered=numbered), Wakes()
    made.connect(wakes)
    return made, wakes


def said(messages: list[bytes]) -> list[tuple[int, str]]:
    """Number and type, or what is in the body, of numbered messages."""
    decoded = [json.loads(message) for message in messages]
    return [(one["seq"], one.get("job_id", one.get("body", one["type"]))) for one in decoded]


def test_one_wake_for_all_that_comes_before_it_is_emptied() -> None:
    one, wakes = outbox()
    one.owe(b"a")
    one.owe(b"b")
    one.offer(b"c")
    assert (wakes.count, one.waiting) == (1, 3)
    assert one.take() == [b"a", b"b", b"c"]
    assert (one.waiting, one.seq) == (0, 3)
    one.offer(b"d")
    assert wakes.count == 2


def test_of_broadcasts_the_oldest_go_and_the_client_is_told_how_many() -> None:
    one, _ = outbox(outbox_bytes=100)
    for number in range(10):
        one.offer(b"%d" % number * 30)
    told, *rest = one.take()
    assert {**json.loads(told), "timestamp": ""} == {"type": "dropped", "count": 7, "timestamp": ""}
    assert rest == [b"7" * 30, b"8" * 30, b"9" * 30]
    assert one.dropped == 7
    one.offer(b"x" * 500)
    assert one.take() == [b"x" * 500], "one that is larger than the limit is still said, and nothing was dropped for it"


def test_what_is_owed_is_not_dropped_for_broadcasts() -> None:
    one, _ = outbox(outbox_bytes=10)
    for _ in range(50):
        one.owe(b"owed message")
        one.offer(b"a broadcast!")
    messages = one.take()
    assert messages[:50] == [b"owed message"] * 50
    assert json.loads(messages[50])["count"] == 49
    assert messages[51:] == [b"a broadcast!"]


def test_a_client_that_knows_no_numbers_is_owed_again_what_it_did_not_confirm_before_the_rest() -> None:
    one, _ = outbox()
    for name in (b"1", b"2", b"3"):
        one.owe(name)
    one.take()
    one.owe(b"4")
    one.confirm(2)
    one.disconnect()
    one.connect(Wakes())
    assert one.take() == [b"3", b"4"]
    one.confirm(one.seq)
    one.disconnect()
    one.connect(Wakes())
    assert one.take() == []


@pytest.mark.parametrize("numbers", [[0], [0, 0, 1], [1, 3], [3, 1], [3, 3], [-1, 99]])
def test_receipts_may_repeat_and_come_late(numbers: list[int]) -> None:
    one, _ = outbox()
    for name in (b"1", b"2", b"3"):
        one.owe(name)
    one.take()
    for number in numbers:
        one.confirm(number)
    one.disconnect()
    one.connect(Wakes())
    assert one.take() == [b"1", b"2", b"3"][max(0, min(3, max(numbers))) :]


def test_broadcasts_are_not_kept_for_one_who_is_away_and_knows_no_numbers() -> None:
    one, _ = outbox()
    one.offer(b"not confirmed")
    one.owe(b"1")
    one.take()
    one.offer(b"not taken")
    one.disconnect()
    one.offer(b"not there")
    one.owe(b"2")
    assert one.waiting == 2
    wakes = Wakes()
    one.connect(wakes)
    assert (wakes.count, one.take()) == (1, [b"1", b"2"])


def test_only_a_part_of_what_is_owed_may_be_taken() -> None:
    one, _ = outbox()
    for name in (b"aaaa", b"bb", b"cc", b"dd"):
        one.owe(name)
    assert [one.take(4), one.take(4), one.take(1), one.take(1)] == [[b"aaaa"], [b"bb", b"cc"], [b"dd"], []]
    assert one.owed_bytes == 0


def test_news_that_may_wait_go_out_with_the_next_that_may_not() -> None:
    one, wakes = outbox()
    later = Wakes()
    one.connect(wakes, later)
    one.owe_later(b"pending")
    one.owe_later(b"processing")
    assert (wakes.count, later.count) == (0, 1)
    one.owe(b"result")
    assert wakes.count == 1
    assert one.take() == [b"pending", b"processing", b"result"]


# forgesyte.v2


def numbered(**settings: Any) -> Outbox:
    """Was sent 1 (hello) to 4: two results, one of another client."""
    one, _ = outbox(numbered=True, **settings)
    one.greet(b'{"type":"hello"}')
    for number in (1, 2):
        one.owe(RESULT % number)
    one.offer(NEWS % 7)
    assert said(one.take()) == [(1, "hello"), (2, "1"), (3, "2"), (4, 7)]
    return one


@pytest.mark.parametrize(("seq", "again"), [(1, ["1", "2", 7]), (2, ["2", 7]), (3, [7]), (4, [])])
def test_who_resumes_gets_what_it_did_not_have_under_the_numbers_that_follow(seq: int, again: list[Any]) -> None:
    one = numbered()
    one.disconnect()
    one.offer(NEWS % 8)
    one.owe(RESULT % 3)
    assert one.resume(seq) is True
    one.connect(Wakes())
    kinds = [*(x for x in again if isinstance(x, str)), "3", *(x for x in again if not isinstance(x, str)), 8]
    assert one.waiting == len(kinds), "so many are told to be missed"
    one.offer(NEWS % 9)
    assert said(one.take()) == list(enumerate([*kinds, 9], seq + 1))
    assert one.resume(one.seq) is True, "nothing was missed"


@pytest.mark.parametrize("seq", [0, 1, 2, 98, 99])
def test_what_is_gone_or_was_never_said_is_no_recovery(seq: int) -> None:
    one = numbered()
    one.confirm(3)
    one.disconnect()
    assert one.resume(seq) is False
    one.connect(Wakes())
    one.greet(b'{"type":"resumed"}')
    one.owe(RESULT % 3)
    assert said(one.take()) == [(5, "resumed"), (6, 7), (7, "3")], (
        "numbers go on, and nothing is left out that is there"
    )
    one.disconnect()
    assert one.resume(seq) is False, "who asks again by the old number has not heard that there was a hole"
    one.connect(Wakes())
    assert [name for _, name in said(one.take())] == [7, "3"]
    one.disconnect()
    assert one.resume(one.seq) is True, "from then on there is no hole"


def test_while_away_broadcasts_go_first_then_updates_and_results_never() -> None:
    one, _ = outbox(numbered=True, session_messages=12)
    one.disconnect()
    for number in range(4):
        one.offer(NEWS % number)
        one.owe_later(UPDATE % number)
        one.owe(RESULT % number)
    assert one.waiting == 12, "within its share"
    one.owe(RESULT % 4)
    assert (one.waiting, one.dropped) == (12, 1), "one broadcast was enough"
    for number in range(5, 8):
        one.owe(RESULT % number)
    assert (one.waiting, one.dropped) == (12, 4)
    one.owe(RESULT % 8)
    assert one.waiting == 9, "then updates"
    for number in range(9, 200):
        one.owe_later(UPDATE % number)
        one.owe(RESULT % number)
    assert one.resume(0) is False, "broadcasts and updates are missing"
    one.connect(Wakes())
    results = [name for _, name in said(one.take()) if isinstance(name, str)]
    assert [name for name in results if name != "dropped"][:5] == ["0", "1", "2", "3", "4"]
    assert set(results) == {str(number) for number in range(200)}
    assert one.dropped == 4


def test_a_share_in_bytes_counts_what_was_sent_and_not_confirmed_too() -> None:
    one, _ = outbox(session_bytes=1000)
    for number in range(20):
        one.owe(UPDATE % number)
        one.owe(RESULT % number)
    one.take()
    one.disconnect()
    assert one.kept_bytes < 1000
    one.connect(Wakes())
    assert one.take() == [RESULT % number for number in range(20)]


def test_what_was_dropped_while_away_is_told_and_is_a_hole() -> None:
    one = numbered(outbox_bytes=60)
    one.disconnect()
    for number in range(5):
        one.offer(NEWS % number)
    dropped = one.dropped
    assert one.resume(4) is False
    one.connect(Wakes())
    told = [one for one in map(json.loads, one.take()) if one["type"] == "dropped"]
    assert [one["count"] for one in told] == [dropped]


def test_the_answer_that_there_is_a_hole_is_given_again_if_it_was_lost() -> None:
    one, wakes = outbox(numbered=True, outbox_bytes=60)
    one.owe(RESULT % 1)
    one.take()
    one.disconnect()
    for number in range(5):
        one.offer(NEWS % number)
    for _ in range(2):
        assert one.resume(1) is False
        one.connect(wakes)
        one.greet(b'{"type":"resumed"}')
        (number, what), *_ = said(one.take())
        one.disconnect()
    assert what == "resumed"
    assert one.resume(number) is True, "who has the answer knows"


def test_word_of_what_was_dropped_is_said_again_if_it_was_lost() -> None:
    one, wakes = outbox(numbered=True, outbox_bytes=60)
    for number in range(3):
        one.offer(NEWS % number)
    assert said(one.take()) == [(1, "dropped"), (2, 1), (3, 2)]
    one.disconnect()
    assert one.resume(0) is True
    one.connect(wakes)
    assert said(one.take()) == [(1, "dropped"), (2, 1), (3, 2)]


def test_a_client_that_never_confirms_does_not_make_the_server_keep_everything() -> None:
    one, _ = outbox(numbered=True)
    size = KEPT_BYTES // 4
    for _ in range(6):
        one.owe(b'{"a":"' + b"x" * size + b'"}')
        one.take()
    assert one.kept_bytes <= KEPT_BYTES
    one.disconnect()
    assert one.resume(0) is False


def test_what_one_outbox_has_another_can_go_on_with() -> None:
    old, _ = outbox()
    old.owe(b"old 1")
    old.take()
    old.disconnect()
    new, wakes = outbox()
    new.owe(b"new 1")
    assert new.take() == [b"new 1"]
    new.owe(b"new 2")
    new.pour_into(old)
    new.owe(b"new 3")
    old.connect(wakes)
    assert old.take() == [b"old 1", b"new 2", b"new 3"], "what was given on the connection that goes on is not repeated"
    old.disconnect()
    new.owe(b"new 4")
    old.connect(wakes)
    assert old.take() == [b"new 1", b"old 1", b"new 2", b"new 3", b"new 4"], "but it may be lost with it"


def test_an_outbox_whose_session_has_ended_keeps_nothing() -> None:
    one, _ = outbox()
    one.owe(b"1")
    one.take()
    one.owe(b"2")
    one.close()
    for _ in range(3):
        one.owe(b"3" * 1000)
        one.owe_later(b"4" * 1000)
        one.offer(b"5" * 1000)
    assert (one.waiting, one.kept_bytes) == (0, 0)


def test_broadcasts_that_wait_go_along_to_the_other_outbox() -> None:
    old, wakes = outbox()
    new, _ = outbox()
    new.offer(b"news")
    new.pour_into(old)
    new.offer(b"more")
    assert old.take()[0] == b"news"
    assert wakes.count > 0
