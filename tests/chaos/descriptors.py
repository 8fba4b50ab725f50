"""Room for many sockets: the soft limit of open files raised for a while, child processes included."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """Within it, a process may open so many files more than a few; the test is skipped where it must not."""
    resource = pytest.importorskip("resource", reason="the limit of open files is POSIX's")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors + 512
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this user may open {hard} files at most; {wanted} are needed: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
