"""What all tests together have tried, as a table at the end of a run of pytest.

A test hands its counts over: `record_property("simulated", {"crash": 17})`. They are added up by the name of the
property, over all processes that run tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest

TRIED = {
    "simulated": "In simulated worlds",
    "killed": "Killed and paused, for real",
    "cut": "Power cuts and failing disks",
}
"""The properties that hold counts, with their headings, in the order of the table."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was tried, where anything was."""
    reports = [r for kind in terminalreporter.stats.values() for r in kind if isinstance(r, pytest.TestReport)]
    if tried := add_up(reports):
        terminalreporter.section("what was tried")
        for line in table(tried):
            terminalreporter.write_line(line)


def add_up(reports: Iterable[pytest.TestReport]) -> dict[str, Counter[str]]:
    """Add up the counts of all tests, each of which has one report of its call."""
    tried: dict[str, Counter[str]] = {}
    for report in reports:
        if report.when == "call":
            for name, counts in report.user_properties:
                if name in TRIED and isinstance(counts, Mapping):
                    tried.setdefault(name, Counter()).update(counts)
    return tried


def table(tried: Mapping[str, Counter[str]]) -> list[str]:
    """Give the lines of the table. What is zero is shown: it did not happen, and so it was not tried."""
    lines = []
    for name in (n for n in TRIED if n in tried):
        counts = tried[name]
        wide = max(map(len, counts), default=0)
        lines += [TRIED[name], *(f"  {what.replace('_', ' '):<{wide}}  {counts[what]:>10,}" for what in sorted(counts))]
    return lines
