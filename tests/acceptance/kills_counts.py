"""What came of killing a program often: what must not be, what has to have happened, and how soon it went on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

TROUBLE = (
    "kills",
    "kills_under_load",
    "kills_at_start",
    "kills_at_recovery",
    "kills_while_paused",
    "pauses",
    "second_refused",
)
"""What befalls every program: killed at work, before its store was open, before it went on, and while it was stopped
for a moment; stopped, and let go on; and another process over the same file, which is refused."""

LEFT_TO_CHANCE = (*TROUBLE, "answers_lost", "outside_repeated")
"""What the moments of the kills decide, some more of which may be needed until it has happened."""


class Counts:
    """The counts of one program. `wrong` has to be zero, each; `seen` must not: what did not happen was not tested."""

    def __init__(self, wrong: Iterable[str] = (), seen: Iterable[str] = ()) -> None:
        self.wrong = Counter[str](dict.fromkeys(wrong, 0))
        self.seen = Counter[str](dict.fromkeys((*TROUBLE, *seen), 0))
        self.first_progress_s: list[float] = []
        """From each start after a kill until something was done that had not been."""
        self.after_pause_s: list[float] = []

    @property
    def missing(self) -> list[str]:
        """Name what never happened."""
        return [what for what, many in self.seen.items() if not many]

    def fell_short(self) -> list[str]:
        """Say what was wrong, and what never happened."""
        found = [f"{what} is {many}" for what, many in self.wrong.items() if many]
        return [*found, *(f"{what} is 0: it was not tested" for what in self.missing)]

    def add(self, other: Counts) -> None:
        """Add what came of another program."""
        self.wrong.update(other.wrong)
        self.seen.update(other.seen)
        self.first_progress_s += other.first_progress_s
        self.after_pause_s += other.after_pause_s


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Give the value that so many percent do not exceed, in seconds; 0 where there is none."""
    ordered = sorted(seconds)
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 3) if ordered else 0.0
