"""Coming back, as the client reckons it: which number it says, and when it knows what has to be sent again."""

from __future__ import annotations

from typing import Any

import pytest

from forgesyte_nb.client.resumption import Resumption
from forgesyte_nb.protocol.messages import Resume


def hello(epoch: str, seq: int = 1) -> dict[str, Any]:
    return {"type": "hello", "seq": seq, "epoch": epoch, "secret": f"secret of {epoch}"}


def resumed(epoch: str, seq: int, *, recovered: bool = True, missed: int = 0) -> dict[str, Any]:
    return {"type": "resumed", "seq": seq, "epoch": epoch, "recovered": recovered, "missed": missed}


@pytest.fixture
def broken() -> Resumption:
    """Had the messages 1 to 3 of epoch "a" when its connection broke; on the next it was greeted."""
    client = Resumption()
    client.connected(is_v2=True)
    greeting = hello("a")
    assert client.take(greeting) is None
    assert "secret" not in greeting, "it is for nobody else"
    assert client.settled
    for seq in (2, 3):
        client.take({"type": "job_update", "seq": seq})
    client.connected(is_v2=True)
    assert client.take(hello("b")) == Resume("a", 3, "secret of a")
    assert not client.settled
    return client


def test_it_is_settled_when_all_that_was_missed_has_come(broken: Resumption) -> None:
    broken.take(resumed("a", 4, missed=2))
    assert (broken.recovered, broken.settled) == (True, False)
    broken.take({"type": "job_update", "seq": 5})
    assert not broken.settled
    broken.take({"type": "frame_result", "seq": 6})
    assert broken.settled
    broken.connected(is_v2=True)
    assert broken.take(hello("c")) == Resume("a", 6, "secret of a")


def test_what_comes_before_the_answer_is_numbered_by_another_epoch(broken: Resumption) -> None:
    broken.take({"type": "broadcast", "seq": 2})
    broken.take({"type": "broadcast", "seq": 77})
    assert not broken.settled
    broken.connected(is_v2=True)
    assert broken.take(hello("c")) == Resume("a", 3, "secret of a"), "what it really has"


def test_an_earlier_answer_does_not_settle_a_later_question(broken: Resumption) -> None:
    broken.take(resumed("a", 4))
    broken.connected(is_v2=True)
    broken.take(hello("c"))
    broken.take({"type": "broadcast", "seq": 50})
    assert not broken.settled
    broken.take(resumed("a", 5))
    assert (broken.settled, broken.recovered) == (True, True)


def test_a_session_that_is_gone_is_followed_by_the_one_that_was_offered(broken: Resumption) -> None:
    broken.take(resumed("b", 2, recovered=False))
    assert (broken.settled, broken.recovered) == (True, False)
    broken.connected(is_v2=True)
    assert broken.take(hello("c")) == Resume("b", 2, "secret of b")


@pytest.mark.parametrize("greeting", [{"type": "hello", "seq": 1}, None])
def test_a_server_that_knows_no_epochs_is_asked_for_nothing(
    broken: Resumption, greeting: dict[str, Any] | None
) -> None:
    broken.connected(is_v2=greeting is not None)
    if greeting is not None:
        assert broken.take(greeting) is None
    assert (broken.settled, broken.recovered) == (True, False)
