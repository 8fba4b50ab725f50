"""Checks of the numbers that callers pass: a wrong one is refused where it is given, in words."""

from __future__ import annotations

import math
from typing import Any


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number, {least} or more")


def check_number(name: str, value: Any, *, least: float) -> None:
    """Refuse what is no number of at least `least`; not-a-number is none.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or math.isnan(value) or value < least:
        raise ValueError(f"{name}={value!r}: give a number, {least:g} or more")


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no number greater than 0; not-a-number is none.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or not value > 0:
        raise ValueError(f"{name}={value!r}: give a number greater than 0")
