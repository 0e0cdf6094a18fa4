"""A trial: what is tried in the world of one seed, and can be tried again with some of its faults only."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from minuet.runtime.settings import Settings
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.world import ENDS_WITHIN_S, Build, Layout, Scenario, Verdict, World

_INVARIANT: Final = re.compile(r"I\d+(?=: )")
_VARYING: Final = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{13}\b|\d+(\.\d+)?")  # ids of runs, and numbers


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried. `settings`: of the app; `ends_within_s`: simulated, after the faults have stopped."""

    scenario: Scenario
    build: Build
    seed: int
    layout: Layout
    faults: Faults
    settings: Settings | None = None
    ends_within_s: float = ENDS_WITHIN_S

    def perform(self, only: Collection[str] | None = None) -> Verdict:
        """Perform it in a new world; with some of its faults only, if they are given."""
        world = World(
            self.build, seed=self.seed, layout=self.layout, faults=self.faults, only=only, settings=self.settings
        )
        try:
            return world.run(self.scenario, ends_within_s=self.ends_within_s)
        finally:
            world.close()


Trials = Callable[[int], Trial]
"""Gives the trial of a seed, the same whenever it is asked."""


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """The trials of one scenario, seed by seed in the next of the layouts: so a seed tells which one it was."""

    scenario: Scenario
    build: Build
    layouts: Sequence[Layout]
    faults: Faults
    settings: Settings | None = None
    ends_within_s: float = ENDS_WITHIN_S

    def __call__(self, seed: int) -> Trial:
        """Give the trial of a seed."""
        return Trial(
            scenario=self.scenario,
            build=self.build,
            seed=seed,
            layout=self.layouts[seed % len(self.layouts)],
            faults=self.faults,
            settings=self.settings,
            ends_within_s=self.ends_within_s,
        )


def kind_of(violation: str) -> str:
    """Say of which kind a violation is: its invariant, or else its text without numbers and ids."""
    found = _INVARIANT.match(violation)
    return found[0] if found else _VARYING.sub("#", violation)


def parse_only(text: str) -> tuple[str, ...] | None:
    """Read what `only_text` wrote; None (everything) for nothing."""
    if text == "none":
        return ()
    return tuple(name.strip() for name in text.split(",")) if text else None


def only_text(only: Collection[str]) -> str:
    """Give the names of what has to go wrong with commas, `none` where nothing has to."""
    return ",".join(only) or "none"
