"""Warnings that point at the line of the user's code, wherever in the package they arise."""

from __future__ import annotations

import sys
import warnings

_INSIDE = (__name__.partition(".")[0], "contextlib", "functools")  # packages whose frames are no caller's


def warn_caller(message: str) -> None:
    """Issue a `UserWarning` for the nearest caller outside of the package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
