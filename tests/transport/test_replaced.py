"""A stream in the kernel goes on when its server is replaced, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import forgesyte_nb as fs
from tests.conftest import wait_for

REPLACEMENTS = 50


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    fs.serve(port=0, engine="inline").close()


def test_nothing_is_lost_when_the_server_is_replaced_fifty_times() -> None:
    fs.serve(port=0, engine="inline")
    replaced: list[fs.Server] = []

    def pictures() -> Iterator[np.ndarray]:
        number = 0
        while len(replaced) < REPLACEMENTS or number % 100:
            yield np.full((8, 8, 3), number % 251, np.uint8)
            number += 1

    stream = fs.stream(fs.open_source(pictures(), fps=200), "image_stats")
    for number in range(REPLACEMENTS):
        wait_for(lambda before=stream.ledger["results"]: stream.ledger["results"] > before, "a result")
        other = {"engine": "threads" if number % 2 else "inline", "token": f"secret-{number}" if number % 3 else None}
        replaced.append(fs.serve(port=0 if number % 5 == 0 else None, **other))
    stream.wait(60)
    assert stream.status == "ended", stream
    sent = stream.ledger["sent"]
    assert stream.ledger == {"sent": sent, "results": sent, "errors": 0, "skipped": 0, "pending": 0}
    assert [result.seq for result in stream.results] == [*range(sent)]
    assert [server.running for server in set(replaced)] == [server is replaced[-1] for server in set(replaced)]
    stream.close()
