"""What is owed beyond memory: it comes out whole and in order, and the spool's file is as it was before."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forgesyte_nb as fs
from forgesyte_nb.outbox.outbox import Outbox
from forgesyte_nb.outbox.owed import LARGE_BYTES, MEMORY_BYTES, OwedQueue
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.protocol.messages import Error, FrameResult, Timings
from forgesyte_nb.protocol.wire import decode_server, encode
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool
from tests.conftest import run_cell

LIMIT = 4 * LARGE_BYTES
LARGE_RESULT = msgspec.Raw(b'"%s"' % (b"x" * MEMORY_BYTES))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3 * LARGE_BYTES)),
        st.tuples(st.just("take"), st.integers(0, 4 * LIMIT)),
        st.tuples(st.just("put_back"), st.integers(1, LARGE_BYTES)),
    ),
    max_size=60,
)


def broken(*_: object) -> bytes:
    raise OSError(5, "Input/output error")


def numbered(number: int, size: int) -> bytes:
    return b"%d " % number + b"x" * size


@given(STEPS, st.sampled_from([0, 5 * LARGE_BYTES, 1 << 30]))
def test_it_is_a_queue_whatever_lies_where(steps: list[tuple[str, int]], room: int) -> None:
    spool = Spool(room)
    queue, known = OwedQueue(spool, LIMIT), list[bytes]()
    for number, (step, size) in enumerate(steps):
        if step == "append":
            queue.append(numbered(number, size))
            known.append(numbered(number, size))
        elif step == "put_back":
            queue.put_back([numbered(number, size)])
            known.insert(0, numbered(number, size))
        else:
            taken = queue.take(size)
            assert known[: len(taken)] == taken
            assert taken or not known
            assert len(taken) <= 1 or sum(map(len, taken)) <= size
            del known[: len(taken)]
        assert (len(queue), queue.bytes) == (len(known), sum(map(len, known)))
    while queue:
        taken = queue.take(LIMIT)
        assert known[: len(taken)] == taken
        del known[: len(taken)]
    assert known == []
    assert spool.bytes == 0


def test_what_is_beyond_memory_is_in_the_file_and_small_messages_are_not() -> None:
    spool = Spool(1 << 30)
    queue = OwedQueue(spool, LIMIT)
    for number in range(8):
        queue.append(numbered(number, LARGE_BYTES))
        queue.append(numbered(number, 10))
    assert 4 * LARGE_BYTES < spool.bytes < 6 * LARGE_BYTES
    queue.keep(lambda message: len(message) > LARGE_BYTES)
    assert len(queue) == 8
    queue.clear()
    assert (len(queue), queue.bytes, spool.bytes) == (0, 0, 0)


def test_a_session_that_ends_gives_the_file_back() -> None:
    spool = Spool(1 << 30)
    outbox = Outbox(Settings(), spool, numbered=True)
    outbox.connect(lambda: None)
    for number in range(4):
        outbox.owe(numbered(number, MEMORY_BYTES))
    assert spool.bytes > 2 * MEMORY_BYTES
    outbox.close()
    assert spool.bytes == 0


def test_one_that_takes_another_over_is_owed_what_that_had_in_the_file() -> None:
    spool = Spool(1 << 30)
    old, new = (Outbox(Settings(), spool, numbered=False) for _ in range(2))
    for number in range(4):
        new.owe(numbered(number, MEMORY_BYTES))
    old.connect(lambda: None)
    new.pour_into(old)
    assert old.take() == [numbered(number, MEMORY_BYTES) for number in range(4)]
    assert spool.bytes == 0


def test_what_cannot_be_read_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(Settings(), Spool(1 << 30), numbered=False)
    outbox.connect(lambda: None)
    for number in range(3):
        outbox.owe(numbered(number, MEMORY_BYTES))
    outbox.owe(b"small")
    monkeypatch.setattr(os, "pread", broken)
    first, small, told = outbox.take()
    assert (first, small) == (numbered(0, MEMORY_BYTES), b"small")
    assert b'"type":"dropped","count":2' in told


@pytest.mark.parametrize(
    "lost",
    [
        FrameResult('f,"status":', "job_1", "p\u00fc", "success", LARGE_RESULT, 1.0, "T", Timings(0, 0, 0, 0), 1),
        Error('f,"status":', "p\u00fc", "PROCESSING_TIMEOUT", "y" * MEMORY_BYTES, "T", "job_1"),
    ],
)
def test_in_place_of_an_answer_that_cannot_be_read_back_stands_an_error(
    lost: FrameResult | Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(Settings(), Spool(1 << 30), numbered=False)
    outbox.connect(lambda: None)
    outbox.owe(numbered(0, MEMORY_BYTES))
    outbox.owe(encode(lost))
    monkeypatch.setattr(os, "pread", broken)
    _, instead = map(bytes, outbox.take())
    error = decode_server(instead)
    assert isinstance(error, Error)
    assert (error.frame_id, error.job_id, error.plugin) == (lost.frame_id, lost.job_id, lost.plugin)
    assert error.error_code == ("PLUGIN_ERROR" if isinstance(lost, FrameResult) else "PROCESSING_TIMEOUT")
    assert "Input/output error" in error.message
    assert "send the frame again" in error.message
    assert len(instead) < 1000
    assert (outbox.waiting, outbox.dropped) == (0, 0)


def test_a_client_is_answered_for_each_frame_though_the_file_cannot_be_read(
    serve_on: Callable[..., fs.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    run_cell("@fs.plugin\ndef large(frame):\n    return {'text': 'x' * 10_000}\n", registry)
    server = serve_on(registry)
    monkeypatch.setattr(OwedQueue.__init__, "__defaults__", (0,))  # all that waits behind another goes to the file
    monkeypatch.setattr(os, "pread", broken)
    with fs.BlockingClient(server) as client:
        results = list(client.stream([np.zeros((8, 8, 3), np.uint8)] * 50, "large"))
    assert len(results) == 50
    failed = [result for result in results if not result.ok]
    assert failed
    assert all("could not read this answer back" in str(result.error) for result in failed)


def test_a_file_with_many_readers_shrinks() -> None:
    spool, dice = Spool(1 << 30), random.Random(3)
    queues = [OwedQueue(spool, 0) for _ in range(5)]
    for number in range(300):
        dice.choice(queues).append(numbered(number, LARGE_BYTES))
        dice.choice(queues).take(1)
    for queue in queues:
        queue.clear()
    assert spool.bytes == 0
