"""Event loops on threads of this package; release of threads and sockets in a forked process.

A cell may set another event loop policy, install uvloop or have nest_asyncio replace `asyncio.run`. None of these may
change the loops that this package runs on threads of its own.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar


def loop_runner() -> asyncio.Runner:
    """A runner whose loop does not depend on the event loop policy.

    It is closed by its `with` block: tasks are cancelled, and the loop and its descriptors are closed.
    """
    return asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)


_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()

Owner = TypeVar("Owner")


def disown_when_forked(owner: Owner, disown: Callable[[Owner], None]) -> None:
    """Have an object give up its threads, locks and sockets in each process that is forked from this one.

    Args:
        owner: The object; it is not kept alive.
        disown: A function of its class, called with it in the forked process. It must leave those of the parent alone.
    """
    _owners[owner] = disown


def point_nowhere(descriptors: list[int]) -> None:
    """In a forked process: replace inherited descriptors by /dev/null.

    A descriptor is not closed: an object that closes it later would close whatever has its number by then.
    """
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (one for one in descriptors if one >= 0):
        os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)


def _forked() -> None:
    for owner, disown in list(_owners.items()):
        disown(owner)
    _owners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
