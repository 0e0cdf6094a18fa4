"""What a work consists of: who takes part, at which sizes, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, float]
"""What one measurement gave: `per_s`, `cpu_s_per_1000`, `p50_ms`, `p99_ms`, `secs`, `memory_mb`, and a work's own."""

SYNCED = "each result synced before the next step (SQLite WAL, synchronous=FULL), group commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Somebody who does the work: a function (`module:name`) that is called in a fresh process, once for each size.

    It is given `folder` (empty, its own), `shared` (the same for all of a work: what is dear to make is kept there),
    `size`, and `options`; it answers with figures. `what` tells variants of one work apart. `sizes` are two or more:
    what costs more with size shows it; `quick` are those of a smoke run, whose options `quick_options` change.
    """

    system: str
    what: str
    durability: str
    program: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    quick_options: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of a figure of all entries and sizes, to be asked for by name."""

    medians: Mapping[tuple[str, str, str, int], Figures]  # by work, system, what, size

    def __call__(self, name: str, work: str, system: str, what: str, size: int | None = None) -> float | None:
        """Give a figure; without a size that of the largest which was measured. None if there is none."""
        sizes = [s for w, y, t, s in self.medians if (w, y, t) == (work, system, what) and size in (None, s)]
        return self.medians[work, system, what, max(sizes)].get(name) if sizes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What is demanded of a work, or only told (neither bound): a value made of figures."""

    what: str
    value: Callable[[Figure], float | None]
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Say whether a value is good enough."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One work: its name, what it is, who does it, and what has to come out."""

    name: str
    title: str
    entries: tuple[Entry, ...]
    bars: tuple[Bar, ...]


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide; None where one of them was not measured."""
    return None if above is None or not below else above / below
