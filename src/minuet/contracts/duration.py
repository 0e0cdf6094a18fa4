"""Durations and retry policies as people write them, checked, in milliseconds."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Literal

from minuet.contracts.action import RetryPolicy
from minuet.errors import DeclarationError

Duration = float | timedelta
"""A length of time: seconds, or a `timedelta`."""


def milliseconds(value: Duration, what: str) -> int:
    """Give a duration as whole milliseconds, at least one; `what` names it in the error."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise DeclarationError(
            f"{what} is {value!r}, which is no duration", remedy="Give seconds, or a timedelta", what=what
        )
    if not math.isfinite(seconds) or seconds <= 0:
        raise DeclarationError(f"{what} is {value!r}", remedy="Give a duration above zero", what=what)
    return max(1, round(seconds * 1000))


def retry_policy(
    attempts: int,
    *,
    first: Duration = 1,
    factor: float = 2,
    at_most: Duration = 300,
    then: Literal["park", "reject"] = "park",
) -> RetryPolicy:
    """Make a retry policy: `attempts` counts the first one, 0 means for ever."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 0:
        raise DeclarationError(f"{attempts!r} is no number of attempts", remedy="Give a whole number; 0 means for ever")
    if not isinstance(factor, (int, float)) or not math.isfinite(factor) or factor < 1:
        raise DeclarationError(f"the factor of a retry is {factor!r}", remedy="Give a number from 1 upwards")
    if then not in ("park", "reject"):
        raise DeclarationError(f"then={then!r} is not known", remedy='Give "park" or "reject"')
    first_ms, at_most_ms = milliseconds(first, "first"), milliseconds(at_most, "at_most")
    if at_most_ms < first_ms:
        raise DeclarationError(
            f"the longest delay ({at_most_ms} ms) is below the first one ({first_ms} ms)", remedy="Raise at_most"
        )
    return RetryPolicy(attempts=attempts, first_ms=first_ms, factor=float(factor), at_most_ms=at_most_ms, then=then)
