"""Failed frames: what stays in the process, what goes over the wire, and which are forgotten first."""

from __future__ import annotations

import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.failures import FailedFrame, FailureBook, failure_book
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import Connect, run_cell

CELL = """
@fs.plugin
def divides(frame, *, by: int = 1):
    whole = 1 // by
    return {"whole": whole}
"""
REGISTRY = Registry()


@pytest.fixture
def server(serve_on: Callable[..., fs.Server]) -> fs.Server:
    registry = Registry()
    run_cell(CELL, registry)
    return serve_on(registry)


async def test_a_client_in_this_process_has_the_traceback(server: fs.Server, tiny: bytes) -> None:
    async with fs.Client(server) as client:
        with pytest.raises(fs.PluginError, match=r"ZeroDivisionError.*\(line 4 in divides\)") as caught:
            await client.analyze(tiny, "divides", by=0)
    assert "whole = 1 // by" in caught.value.detail
    assert "whole = 1 // by" in "".join(traceback.format_exception(caught.value))
    (failed,) = failure_book().of_plugin("divides", server.registry)
    assert (failed.plugin, failed.revision, failed.options, failed.image) == ("divides", 1, b'{"by":0}', tiny)


async def test_no_client_gets_it_over_the_wire(server: fs.Server, client: Connect, tiny: bytes) -> None:
    raw = await client(server)
    answer = await raw.analyze("f", tiny, "divides", {"by": 0})
    assert set(answer) == {"type", "frame_id", "plugin", "error_code", "message", "timestamp", "job_id"}
    assert not any("1 // by" in str(message) for message in await raw.fence())


def test_nor_does_a_client_in_another_process(server: fs.Server) -> None:
    script = (
        "import sys, numpy, forgesyte_nb as fs\n"
        "with fs.BlockingClient(sys.argv[1]) as client:\n"
        "    (result,) = client.stream([numpy.zeros((8, 8), 'uint8')], 'divides', by=0)\n"
        "print(result.error_code, repr(result.error.detail))"
    )
    done = subprocess.run([sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True)
    assert done.stdout == "PLUGIN_ERROR ''\n"


def failed(number: int, plugin: str = "p", registry: Registry = REGISTRY, size: int = 1) -> FailedFrame:
    error = fs.PluginError("ill", detail="")
    return FailedFrame(f"job_{number}", plugin, 1, weakref.ref(registry), "f", 0, b"{}", b"x" * size, error)


def numbers(book: FailureBook, plugin: str = "p") -> list[str]:
    return [one.job_id for one in book.of_plugin(plugin, REGISTRY)]


def test_many_failures_of_one_plugin_displace_their_own_oldest() -> None:
    book = FailureBook(most=4)
    book.add(failed(0, "rare"))
    for number in range(1, 8):
        book.add(failed(number))
    assert numbers(book) == ["job_5", "job_6", "job_7"]
    assert numbers(book, "rare") == ["job_0"]
    assert book.of_job("job_4") is None
    found = book.of_job("job_7")
    assert found is not None and found.plugin == "p"  # noqa: PT018


def test_its_pictures_are_bounded_but_the_newest_is_always_there() -> None:
    book = FailureBook(most_bytes=100)
    for number in range(3):
        book.add(failed(number, size=60))
    assert numbers(book) == ["job_2"]
    book.add(failed(3, size=1000))
    assert numbers(book) == ["job_3"]


def test_plugins_of_one_name_in_two_registries_are_told_apart_and_none_is_kept_alive() -> None:
    book = FailureBook()
    other: Any = Registry()
    book.add(failed(1, registry=other))
    book.add(failed(2))
    assert numbers(book) == ["job_2"]
    gone = weakref.ref(other)
    del other
    assert gone() is None
