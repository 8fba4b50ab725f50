"""The backlog: pictures in memory, then in a temporary file, then refused; room is given back in any order."""

from __future__ import annotations

import os
import random

import pytest

from forgesyte_nb import spool as spool_room
from forgesyte_nb.backlog import Backlog, StoredImage
from forgesyte_nb.errors import QueueFull
from forgesyte_nb.spool import Spool, Spooled


def bytes_of(stored: StoredImage) -> bytes:
    return stored.read() if isinstance(stored, Spooled) else stored


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_memory_first_then_the_file_then_a_refusal_that_names_the_setting() -> None:
    spool = Spool(12)
    backlog = Backlog(spool, memory_limit_bytes=10)
    first, second, third = backlog.add(b"a" * 10), backlog.add(b"b" * 6), backlog.add(b"c" * 6)
    assert [type(one) for one in (first, second, third)] == [bytes, Spooled, Spooled]
    assert [bytes_of(one) for one in (first, second, third)] == [b"a" * 10, b"b" * 6, b"c" * 6]
    with pytest.raises(QueueFull, match="raise spool_bytes in the server's Settings"):
        backlog.add(b"d")
    backlog.remove(first)
    assert backlog.add(b"e" * 10) == b"e" * 10
    spool.close()
    with pytest.raises(QueueFull, match="raise queue_bytes"):
        Backlog(Spool(0), memory_limit_bytes=1).add(b"zz")


def test_a_queue_that_never_runs_empty_does_not_make_the_file_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "SEGMENT_BYTES", 1000)
    before = open_files()
    dice = random.Random(7)
    spool = Spool(20_000)
    backlog = Backlog(spool, memory_limit_bytes=500)
    waiting: list[tuple[bytes, StoredImage]] = []
    for number in range(3000):
        picture = b"%d " % number * dice.randrange(1, 30)
        waiting.append((picture, backlog.add(picture)))
        if len(waiting) > 40:
            known, stored = waiting.pop(0)
            assert bytes_of(stored) == known
            backlog.remove(stored)
    assert spool.bytes < 20_000
    for known, stored in waiting:
        assert bytes_of(stored) == known
        backlog.remove(stored)
    assert (backlog.memory_bytes, spool.bytes) == (0, 0)
    assert open_files() <= before


def test_a_full_disk_is_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> int:
        raise OSError(28, "No space left on device")

    spool = Spool(1000)
    backlog = Backlog(spool, memory_limit_bytes=1)
    monkeypatch.setattr(os, "pwrite", no_room)
    with pytest.raises(QueueFull, match=r"cannot be written \(No space left on device\)"):
        backlog.add(b"picture")
    monkeypatch.undo()
    stored = backlog.add(b"picture")
    assert bytes_of(stored) == b"picture"
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        bytes_of(stored)


def test_what_one_queue_is_slow_to_let_go_of_holds_no_room_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "SEGMENT_BYTES", 1000)
    spool = Spool(20_000)
    backlog = Backlog(spool, memory_limit_bytes=0)
    kept = []
    for number in range(1000):
        backlog.remove(backlog.add(bytes(100)))
        if number % 9 == 0:
            kept.append(spool.add(b"%03d" % number, "of one who does not read"))
    assert [one.read() for one in kept] == [b"%03d" % number for number in range(0, 1000, 9)]
    assert spool.bytes < 1000
    spool.close()


def test_a_disk_that_fills_up_in_the_middle_of_a_picture_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def half(file: int, data: bytes, at: int) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(file, data[:60], at)

    before = open_files()
    spool = Spool(1000)
    monkeypatch.setattr(os, "pwrite", half)
    for _ in range(20):
        with pytest.raises(OSError, match="No space"):
            spool.add(b"x" * 150)
    assert (spool.bytes, open_files()) == (0, before)
    monkeypatch.undo()
    first = spool.add(b"a" * 150)
    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space"):
        spool.add(b"x" * 150)
    monkeypatch.undo()
    second = spool.add(b"b" * 150)
    assert (first.read(), second.read(), spool.bytes) == (b"a" * 150, b"b" * 150, 300)
    spool.close()
