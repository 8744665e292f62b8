"""Checks of public arguments: the type first, then the range, with one sentence for each mistake."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from bdd_tf.errors import UsageError, one_of


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Check a whole number.

    Args:
        name: The argument's name, for the message.
        value: The value; NumPy's integers are whole numbers too, True and 2.0 are not.
        low: Smallest accepted number.
        high: Largest accepted number; None for no limit.

    Returns:
        The number as `int`.

    Raises:
        UsageError: If it is no whole number, or out of range.
    """
    span = f"at least {low}" if high is None else f"between {low} and {high}"
    try:
        if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise UsageError(
            f"{name} is {value!r} of type {type(value).__name__}; it must be a whole number, {span}."
        ) from None
    if number < low or (high is not None and number > high):
        raise UsageError(f"{name} is {number}; it must be {span}.")
    return number


def number_within(name: str, value: Any, low: float, high: float) -> float:
    """Check a finite number in a closed range; NumPy's numbers are numbers too, True and "0.5" are not.

    Returns:
        The number as `float`.

    Raises:
        UsageError: If it is no number, or out of range.
    """
    try:
        if isinstance(value, (bool, str, bytes)) or type(value).__name__ in ("bool_", "bool"):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} is {value!r} of type {type(value).__name__}; it must be a number from {low:g} to {high:g}."
        ) from None
    if not (math.isfinite(number) and low <= number <= high):
        raise UsageError(f"{name} is {number:g}; it must be from {low:g} to {high:g}.")
    return number


def switch(name: str, value: Any) -> bool:
    """Check an argument that is True or False.

    Raises:
        UsageError: If it is anything else, such as 1 or "yes".
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r} of type {type(value).__name__}; it must be True or False.")
    return value


def choice(name: str, value: Any, possible: Sequence[str]) -> str:
    """Check a name out of several.

    Raises:
        UsageError: If it is no text, or none of them.
    """
    if not isinstance(value, str):
        raise UsageError(
            f"{name} is {value!r} of type {type(value).__name__}; it must be one of {', '.join(possible)}."
        )
    if value not in possible:
        raise one_of(name, value, possible)
    return value
