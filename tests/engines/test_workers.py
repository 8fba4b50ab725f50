"""Worker processes as the engine sees them: their pipes, how they start, how they die, what they leave behind."""

from __future__ import annotations

from tests.engines.conftest import Open


async def test_engines_do_not_share_the_buffer_they_read_into(open_bench: Open) -> None:
    """Each server's engine has a loop thread of its own, and reading lets go of the GIL."""
    engines = [open_bench("processes").engine for _ in range(2)]
    buffers = [{id(worker.get_buffer(-1).obj) for worker in engine._workers} for engine in engines]  # type: ignore[attr-defined]
    assert [len(one) for one in buffers] == [1, 1]
    assert buffers[0] != buffers[1]
