"""The trace of a dry run: its facts, in the order in which they came about."""

from __future__ import annotations

from typing import Any, NamedTuple

from minuet.contracts.action import Rejection
from minuet.workflows import tree

Round = tuple[int, ...]
"""One index for each enclosing loop or `each`, outermost first."""


class Entry(NamedTuple):
    """A fact of a trace: where, in which round, what became of it, and its value."""

    position: str
    round: Round
    label: str
    value: Any = None


class Trace:
    """Collects the facts of one dry run."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, position: str, round_: Round, label: str, value: Any = None) -> None:
        """Add a fact."""
        self.entries.append(Entry(position, round_, label, value))

    def rejected(self, position: str, round_: Round, rejection: Rejection) -> None:
        """Add the fact that something was rejected."""
        self.record(position, round_, *_told(rejection))

    def outcome(self, step: tree.Step, round_: Round, outcome: Rejection | Any) -> None:
        """Add the outcome of a step, and the verdict on it where the step may be abandoned."""
        label, value = _told(outcome) if isinstance(outcome, Rejection) else ("ok", outcome)
        is_abandoned = step.timeout_ms is not None and step.timeout_then == "abandon"
        if not (is_abandoned and label == "rejected:timeout"):
            self.record(step.position, round_, label, value)
        if is_abandoned:
            self.record(f"{step.position}!", round_, label, value)


def _told(rejection: Rejection) -> tuple[str, dict[str, Any]]:
    return f"rejected:{rejection.code}", {"message": rejection.message, "details": rejection.details}
