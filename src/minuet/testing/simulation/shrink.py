"""Makes a failure small: of all that went wrong in a world, the least with which it still fails in the same way.

First the order of processes is taken back, then whole kinds of faults, then single faults by delta debugging (`ddmin`:
Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). A world with other faults is another
world: what is found is a minimum by trying, within a budget, and no proof that each fault in it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from minuet.testing.simulation.chance import ORDER
from minuet.testing.simulation.trial import Trial, kind_of
from minuet.testing.simulation.world import Verdict

WORLDS_MAX: Final = 200  # that are tried for one failure
STEPS_MAX: Final = 3_000_000  # of the loop, in all of them: some minutes
ENDS_SOON_S: Final = 300.0  # within which a run ends that ends at all, as a rule


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """The smallest failure that was found. `only`: what has to go wrong for it; `tried`: how many worlds it took."""

    only: tuple[str, ...]
    verdict: Verdict
    tried: int


def shrink(
    make: Callable[[], Trial], failed: Verdict, *, worlds_max: int = WORLDS_MAX, steps_max: int = STEPS_MAX
) -> Shrunk:
    """Make the failure of a trial small: what it ends with fails in the way of its first violation.

    `make` gives the trial anew for each world: a scenario may remember what it has seen.
    """
    return _Shrinking(make, failed, worlds_max, steps_max).run()


class _Shrinking:
    def __init__(self, make: Callable[[], Trial], failed: Verdict, worlds_max: int, steps_max: int) -> None:
        self.make = make
        self.kind = kind_of(failed.violations[0])
        self.best = failed
        self.only: tuple[str, ...] = (ORDER, *failed.struck)
        self.ends_within_s = make().ends_within_s
        self.worlds_max, self.steps_max = worlds_max, steps_max
        self.tried = self.steps = 0
        self._known: set[frozenset[str]] = {frozenset(self.only)}

    def run(self) -> Shrunk:
        self._look_sooner()
        self._adopt(())
        self._adopt([name for name in self.only if name != ORDER])
        for kind, _ in Counter(map(_kind, self.only)).most_common():
            self._adopt([name for name in self.only if _kind(name) != kind])
        self._minimise()
        return Shrunk(only=self.only, verdict=self.best, tried=self.tried)

    def _look_sooner(self) -> None:
        """Wait less for what does not end, if it fails like that too: each try of it is long otherwise."""
        if self.ends_within_s > ENDS_SOON_S:
            later, self.ends_within_s = self.ends_within_s, ENDS_SOON_S
            if (verdict := self._fails(self.only)) is not None:
                self.best = verdict
            else:
                self.ends_within_s = later

    def _adopt(self, only: Sequence[str]) -> bool:
        """Go on with these only, if it still fails."""
        wanted = frozenset(only)
        if wanted in self._known:
            return False
        self._known.add(wanted)
        if (verdict := self._fails(only)) is None:
            return False
        self.best = verdict
        struck = set(verdict.struck) | {ORDER}
        self.only = tuple(name for name in only if name in struck)  # others did not come about
        self._known.add(frozenset(self.only))
        return True

    def _fails(self, only: Sequence[str]) -> Verdict | None:
        if self.tried >= self.worlds_max or self.steps >= self.steps_max:
            return None
        self.tried += 1
        verdict = replace(self.make(), ends_within_s=self.ends_within_s).perform(only)
        self.steps += verdict.steps
        verdict.violations.sort(key=lambda violation: kind_of(violation) != self.kind)
        return verdict if verdict.violations and kind_of(verdict.violations[0]) == self.kind else None

    def _minimise(self) -> None:
        """Take single faults back: ever smaller parts, and what is left without them."""
        parts = 2
        while len(self.only) >= 2:
            pieces = _split(self.only, parts)
            if any(self._adopt(piece) for piece in pieces):
                parts = 2
            elif parts > 2 and any(self._adopt([x for x in self.only if x not in piece]) for piece in pieces):
                parts = max(parts - 1, 2)
            elif parts < len(self.only):
                parts = min(2 * parts, len(self.only))
            else:
                return


def _split(names: Sequence[str], parts: int) -> list[Sequence[str]]:
    n = len(names)
    return [names[i * n // parts : (i + 1) * n // parts] for i in range(parts)]


def _kind(name: str) -> str:
    return name.partition("#")[0]
