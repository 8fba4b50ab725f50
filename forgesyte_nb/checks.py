"""Checks of numbers in public calls; errors name the parameter."""

from __future__ import annotations

import math
from typing import Any


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raise if a value is not an integer of at least `least`.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number, {least} or more")


def check_number(name: str, value: Any, *, least: float) -> None:
    """Raise if a value is not a number of at least `least`; NaN is refused.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or math.isnan(value) or value < least:
        raise ValueError(f"{name}={value!r}: give a number, {least:g} or more")


def check_positive(name: str, value: Any) -> None:
    """Raise if a value is not a number greater than 0; NaN is refused.

    Raises:
        ValueError: Naming the parameter, what was given and what is allowed.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or not value > 0:
        raise ValueError(f"{name}={value!r}: give a number greater than 0")
