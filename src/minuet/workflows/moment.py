"""What an expression's value means as time: milliseconds, as everywhere else in the engine."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from minuet.workflows.expression import ExpressionFailed

LONGEST_MS: Final = round(timedelta.max / timedelta(milliseconds=1))
"""The longest duration, so that every due time fits a store's integers."""


def span_ms(value: Any) -> int:
    """Give a duration in whole milliseconds, at least 0: of a `timedelta`, or of a number of milliseconds.

    Raises:
        ExpressionFailed: it is no duration.
    """
    if isinstance(value, timedelta):
        return max(0, round(value / timedelta(milliseconds=1)))
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LONGEST_MS:
        return max(0, round(value))
    raise ExpressionFailed(f"{value!r} is no duration")


def instant_ms(value: Any) -> int:
    """Give an instant in milliseconds since 1970 UTC.

    Raises:
        ExpressionFailed: it is no `datetime`, or has no offset.
    """
    if isinstance(value, datetime) and value.tzinfo is not None:
        return round(value.timestamp() * 1000)
    raise ExpressionFailed(f"{value!r} is no instant with an offset")
