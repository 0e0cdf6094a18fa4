from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from minuet.workflows.expression import ExpressionFailed
from minuet.workflows.moment import LONGEST_MS, instant_ms, span_ms


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        (timedelta(days=14), 1_209_600_000),
        (timedelta(microseconds=1_600), 2),
        (timedelta(seconds=-1), 0),
        (timedelta.max, LONGEST_MS),
        (1500, 1500),
        (1.6, 2),
        (-7, 0),
        (0, 0),
    ],
)
def test_durations_are_whole_milliseconds_from_zero_upwards(given: Any, ms: int) -> None:
    assert span_ms(given) == ms


@pytest.mark.parametrize(
    "given", [None, "soon", "P1D", True, [], {}, float("inf"), -float("inf"), float("nan"), 1e300, 10**30]
)
def test_what_is_no_duration_has_no_value(given: Any) -> None:
    with pytest.raises(ExpressionFailed, match="no duration"):
        span_ms(given)


def test_an_instant_counts_from_1970_whatever_its_offset() -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert instant_ms(at) == 1_893_499_200_000
    assert instant_ms(at.astimezone(timezone(timedelta(hours=5, minutes=30)))) == instant_ms(at)
    assert instant_ms(datetime(1960, 1, 1, tzinfo=UTC)) < 0


@pytest.mark.parametrize("given", [None, 5, "2030-01-01T00:00:00Z", datetime(2030, 1, 1), timedelta(1)])  # noqa: DTZ001
def test_what_is_no_instant_with_an_offset_has_no_value(given: Any) -> None:
    with pytest.raises(ExpressionFailed, match="no instant"):
        instant_ms(given)
