"""A run as it is looked at: its facts and what it waits for, without values; the same wherever it was performed.

Instants are milliseconds since 1970 UTC; a round is text, `""`, `"2"` or `"2.0"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedFact:
    """A recorded fact."""

    position: str
    round: str = ""
    label: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedWait:
    """Something that a run waits for: `owner` is to bring `needs`, since then, until then (None: no limit).

    `what`: `action` (it runs, or waits for its next attempt), `event`, `timer`, `person`.
    """

    position: str
    round: str = ""
    what: str
    needs: str
    owner: str
    since_ms: int
    until_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """A run, with its facts in the order in which they were recorded; `code`: why it was compensated, else ""."""

    run: str
    key: str
    state: str
    started_at_ms: int
    ended_at_ms: int | None = None
    code: str = ""
    facts: Sequence[TracedFact] = ()
    waiting: Sequence[TracedWait] = ()

    @property
    def name(self) -> str:
        """Give the run's id, and its key where it has one."""
        return self.run if self.key == self.run else f"{self.run} of key {self.key}"
