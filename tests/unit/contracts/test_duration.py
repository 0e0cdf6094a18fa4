from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.contracts.duration import milliseconds, retry_policy
from minuet.errors import DeclarationError


def test_seconds_and_timedeltas_become_milliseconds() -> None:
    assert milliseconds(2, "x") == 2_000
    assert milliseconds(0.25, "x") == 250
    assert milliseconds(timedelta(minutes=1), "x") == 60_000
    assert milliseconds(0.0001, "x") == 1


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "5s", None, timedelta(0)])
def test_what_is_no_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="the timeout"):
        milliseconds(wrong, "the timeout")


def test_a_retry_policy_has_the_defaults_of_the_platform() -> None:
    assert retry_policy(10) == RetryPolicy()


def test_a_retry_policy_takes_what_people_write() -> None:
    policy = retry_policy(5, first=0.5, factor=3, at_most=timedelta(minutes=1), then="reject")
    assert policy == RetryPolicy(attempts=5, first_ms=500, factor=3.0, at_most_ms=60_000, then="reject")


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": -1}, {"attempts": 1.5}, {"factor": 0.5}, {"factor": math.nan}, {"then": "give up"}, {"first": 900}],
)
def test_a_retry_policy_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        retry_policy(**{"attempts": 3, **wrong})
