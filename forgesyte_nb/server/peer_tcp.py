"""Whether the machine at the other end of a TCP connection still acknowledges what it is sent.

A process that is busy reads nothing, but its operating system acknowledges, or says that its buffers are full. One
whose machine, network or process is gone without a word does not: what was sent is sent again and again. Linux tells;
elsewhere nobody is said to be unreachable.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

_HEAD = struct.Struct("=8B5I")
"""The beginning of `struct tcp_info` (linux/tcp.h), up to `tcpi_unacked`."""

_RETRANSMITS, _UNACKED = 2, 12
_LEAST_RETRANSMITS = 2  # the first may be due to a segment that was lost by chance


def is_unreachable(connection: Any) -> bool:
    """Whether what was sent last was sent again at least twice and is not acknowledged.

    Args:
        connection: The socket, or asyncio's view of it; None if there is none any more.
    """
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _HEAD.size)
    except OSError:
        return False
    if len(info) < _HEAD.size:
        return False
    fields = _HEAD.unpack(info)
    return bool(fields[_UNACKED] > 0 and fields[_RETRANSMITS] >= _LEAST_RETRANSMITS)
