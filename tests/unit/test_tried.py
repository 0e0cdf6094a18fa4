"""The table of what was tried: counts of all tests are added up, and what did not happen is shown as zero."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.conftest import add_up, table


def report(*properties: tuple[str, object], when: Literal["setup", "call", "teardown"] = "call") -> pytest.TestReport:
    return pytest.TestReport("test", ("test.py", 1, "test"), {}, "passed", None, when, user_properties=list(properties))


def test_counts_are_added_up_over_all_tests_each_once() -> None:
    counts = ("simulated", {"crash": 2, "partition": 0})
    tried = add_up([report(counts), report(counts, when="teardown"), report(("simulated", {"crash": 3}))])
    assert tried == {"simulated": {"crash": 5, "partition": 0}}
    assert [line.split() for line in table(tried)[1:]] == [["crash", "5"], ["partition", "0"]]


def test_other_properties_are_left_alone() -> None:
    assert add_up([report(("seed", 17), ("cut", "17"))]) == {}


def test_kinds_are_shown_in_their_order_and_only_where_there_are_any() -> None:
    tried = add_up([report(("cut", {"images": 2_000})), report(("killed", {"kills_at_start": 7}))])
    assert table(tried) == [
        "Killed and paused, for real",
        "  kills at start           7",
        "Power cuts and failing disks",
        "  images       2,000",
    ]
