"""`asyncio.run(main())` in a cell, for those who ask for it.

A kernel's loop is running already, so code that ends in `asyncio.run` fails in a cell. `nest_asyncio` changes
asyncio for the whole process to allow it, which is why it is never applied on import.
"""

from __future__ import annotations

import asyncio
from typing import Any

from forgesyte_nb.errors import ForgeSyteError


def allow_nested_asyncio() -> None:
    """Let `asyncio.run(…)` and `loop.run_until_complete(…)` work while this thread's loop is running.

    Nothing happens where no loop is running: there `asyncio.run` works as it is. Also done by
    `%load_ext forgesyte_nb`.

    Raises:
        ForgeSyteError: If the running loop is of a kind that cannot be changed, such as uvloop's.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    import nest_asyncio

    try:
        nest_asyncio.apply(loop)
    except ValueError as error:
        raise ForgeSyteError(f"{error}: use 'await main()' in the cell instead of asyncio.run(main())") from error


def load_ipython_extension(_ipython: Any) -> None:
    """Called by `%load_ext forgesyte_nb`."""
    allow_nested_asyncio()
