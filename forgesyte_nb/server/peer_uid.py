"""Whose process is at the other end of a loopback connection, asked of the Linux kernel.

On a machine of several users loopback is open to all of them; the kernel knows the owner of each socket. The socket
that belongs to the peer is looked up exactly, by its two addresses and ports, over netlink (some 10 µs, however many
sockets there are); where netlink is not allowed, in `/proc/net/tcp` (milliseconds). A socket that is closed already
shows uid 0 and inode 0, as if it were root's, so an inode of 0 counts as gone. Elsewhere than on Linux nobody answers.

Sources: sock_diag(7); linux/netlink.h (`nlmsghdr`), linux/inet_diag.h (`inet_diag_req_v2`, `inet_diag_msg`,
`inet_diag_sockid`); proc_net_tcp in the kernel's Documentation/networking.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
from pathlib import Path

GONE = -1
"""The peer has no such socket any more."""

UNKNOWN = -2
"""The system has the answer, but no descriptors or memory are left to ask for it."""

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ENOENT = 2
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")  # length, type, flags, seq, pid
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; a sockid follows
_SOCKID = struct.Struct("!HH16s16s")  # source and destination port, then their addresses; interface and cookie follow
_SOCKID_BYTES = 48
_OWNER = struct.Struct("=II")  # uid, inode
_OWNER_AT = _HEADER.size + 4 + _SOCKID_BYTES + 12
_TIMEOUT_S = 1.0

Address = tuple[str, int]


def peer_uid(peer: Address, local: Address) -> int | None:
    """The user id that owns the peer's socket of a connection.

    Args:
        peer: The peer's IP address and port, as `getpeername` gives them.
        local: Ours, as `getsockname` gives them.

    Returns:
        The uid; `GONE` if there is no such socket; `UNKNOWN` if it cannot be asked for at the moment; None where the
        system does not tell.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return by_netlink(peer, local)
    except OSError:
        try:
            return by_proc(peer, local)
        except OSError as error:
            return UNKNOWN if error.errno in OUT_OF_RESOURCES else None


def can_tell() -> bool:
    """Whether there is anybody to ask."""
    nobody = ("127.0.0.1", 0)
    return peer_uid(nobody, nobody) is not None


def by_netlink(peer: Address, local: Address) -> int:
    """The uid, or `GONE`, as sock_diag says.

    Raises:
        OSError: If the kernel does not answer such questions.
    """
    source, target = ipaddress.ip_address(peer[0]), ipaddress.ip_address(local[0])
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    sockid = _SOCKID.pack(peer[1], local[1], source.packed, target.packed)
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES) + sockid + bytes(4) + _NO_COOKIE
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(_TIMEOUT_S)
        asking.send(header + body)
        answer = asking.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        (number,) = struct.unpack_from("=i", answer, _HEADER.size)
        if -number == _ENOENT:
            return GONE
        raise OSError(-number, "sock_diag")
    # Where there is no such connection the kernel may name a listener on the peer's port instead.
    if kind != _SOCK_DIAG_BY_FAMILY or answer[_HEADER.size + 4 :][: _SOCKID.size] != sockid:
        return GONE
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    return int(uid) if inode else GONE


def by_proc(peer: Address, local: Address) -> int:
    """The same from `/proc/net/tcp` or `/proc/net/tcp6`.

    Raises:
        OSError: If there is no such file.
    """
    version = ipaddress.ip_address(peer[0]).version
    table = Path("/proc/net/tcp" if version == 4 else "/proc/net/tcp6").read_text(encoding="ascii")
    wanted = [_in_proc(peer), _in_proc(local)]
    for line in table.splitlines()[1:]:
        columns = line.split()
        if columns[1:3] == wanted:
            return int(columns[7]) if columns[9] != "0" else GONE
    return GONE


def _in_proc(address: Address) -> str:
    """`0100007F:1F90`: the address in words of the machine's own byte order, the port in hexadecimal."""
    packed = ipaddress.ip_address(address[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
