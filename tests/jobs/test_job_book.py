"""Jobs: each ends once, what is remembered is bounded in number and in bytes."""

from __future__ import annotations

from typing import Any

import pytest

from forgesyte_nb import jobs
from forgesyte_nb.jobs import Job, JobBook
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

REGISTRY = Registry()
run_cell("@fs.plugin\ndef p(frame): return {}", REGISTRY)


def opened(book: JobBook, frame_id: str = "f") -> Job:
    return book.open(frame_id, REGISTRY.entry("p"), b"{}", b"image", None, "", 0, 1.0)


def end(book: JobBook, job: Job, terminal: bytes = b"{}", status: Any = "completed") -> None:
    book.end(job, status, update=b"update", terminal=terminal, summary={"job_id": job.job_id})


def test_job_ids_are_unique_within_and_between_books() -> None:
    ids = [opened(book, "same").job_id for book in (JobBook(history=1), JobBook(history=1)) for _ in range(100)]
    assert len(set(ids)) == 200
    assert all(job_id.startswith("job_") for job_id in ids)


def test_a_job_ends_once_and_lets_its_image_go() -> None:
    book = JobBook(history=10)
    job = opened(book)
    assert (job.status, job.ended, book.active) == ("pending", False, {job.job_id: job})
    end(book, job, b"terminal", "failed")
    assert (job.status, job.ended, job.image, book.active) == ("failed", True, b"", {})
    ended = book.ended(job.job_id)
    assert ended is not None
    assert (ended.terminal, ended.update, ended.summary) == (b"terminal", b"update", {"job_id": job.job_id})
    with pytest.raises(ValueError, match="has ended already"):
        end(book, job)
    assert book.opened == 1


def test_the_oldest_is_forgotten() -> None:
    book = JobBook(history=3)
    ended = [opened(book) for _ in range(5)]
    for job in ended:
        end(book, job)
    assert [book.ended(job.job_id) is not None for job in ended] == [False, False, True, True, True]
    assert [one.summary["job_id"] for one in book.recent()] == [job.job_id for job in reversed(ended[2:])]


def test_no_history_at_all() -> None:
    book = JobBook(history=0)
    job = opened(book)
    end(book, job)
    assert book.ended(job.job_id) is None
    assert list(book.recent()) == []


def test_large_answers_are_let_go_before_their_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_HISTORY_BYTES", 1000)
    book = JobBook(history=100)
    ended = [opened(book) for _ in range(10)]
    for job in ended:
        end(book, job, b"x" * 300)
    kept = [book.ended(job.job_id) for job in ended]
    assert [one.terminal is not None for one in kept if one is not None] == [False] * 7 + [True] * 3
    giant = opened(book)
    end(book, giant, b"x" * 5000)
    last = book.ended(giant.job_id)
    assert last is not None
    assert last.terminal is None
    assert last.update == b"update"


def test_ten_thousand_jobs_leave_no_more_than_the_history() -> None:
    book = JobBook(history=50)
    for _ in range(10_000):
        end(book, opened(book))
    assert not book.active
    assert len(list(book.recent())) == 50
    assert book._history_bytes == 50 * len(b"{}" + b"update")
