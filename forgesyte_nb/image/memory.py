"""Limits the memory that decoding one picture takes, where the system can.

A decoder of a damaged or malicious file may allocate more than a picture of the header's size needs. In a worker
process on Linux the address space is limited for as long as one picture is decoded, to what the process has and
16 bytes for each pixel, and restored afterwards: plugins are not limited. Only where
`limit_in_this_process` was called, and not while a plugin has threads of its own: the limit is the process's, and would
hit what they do meanwhile; so it is not for a kernel either.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from forgesyte_nb.image.formats import ImageHeader

BYTES_PER_PIXEL = 16
"""16 bits of 4 channels, the 8 bits of the result, a turned copy of it, and room."""

LEAST_BYTES = 128 * 1024 * 1024
"""Whatever the picture's size: buffers of decoders, arenas of the allocator."""

_STATM = Path("/proc/self/statm")

_usual_threads = 0  # of a process that is limited


def limit_in_this_process() -> None:
    """Limit decoding from now on, if this system can."""
    global _usual_threads  # noqa: PLW0603 -- of the process, as the limit is
    if sys.platform == "linux" and _STATM.exists():
        _usual_threads = threading.active_count()


@contextlib.contextmanager
def decoding(header: ImageHeader) -> Iterator[None]:
    """Limit the address space within the block, in which a picture is decoded.

    Raises:
        MemoryError: In the block, if a decoder allocates too much; OpenCV raises its own error, or returns None.
    """
    pixels = header.width * header.height
    if threading.active_count() > _usual_threads:
        yield
        return
    import resource

    page_bytes = resource.getpagesize()
    used_bytes = int(_STATM.read_text().split()[0]) * page_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used_bytes + LEAST_BYTES + pixels * BYTES_PER_PIXEL
    for limit in (soft, hard):
        if limit != resource.RLIM_INFINITY:
            wanted = min(wanted, limit)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
