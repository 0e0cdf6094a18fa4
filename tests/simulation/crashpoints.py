"""Every crash point of the reference workflows: a crash after each step of each process, for every outcome.

`python -m tests.simulation.crashpoints` does all of them. A step is what an event loop does at a time: whatever a
process did up to there stands, what it would have done next is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import NamedTuple

from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process
from minuet.testing.simulation.report import story_text
from minuet.testing.simulation.world import Layout, Verdict, World
from tests.simulation.reference import REJECTING, WORKFLOWS, Reference

BACK_S = 0.5  # after which a process that has crashed is started again

FLOWS = {flow.name: flow for flow in WORKFLOWS}
PLACEMENTS = {
    "orchestrated": ("orchestration", False, 1),
    "orchestrated, two workers": ("orchestration", False, 2),
    "orchestrated, apart": ("orchestration", True, 1),
    "choreographed": ("choreography", True, 1),
}


class Case(NamedTuple):
    """A workflow, what it comes to, and where it is performed."""

    workflow: str
    rejecting: str
    cancel: bool
    placement: str

    def __str__(self) -> str:
        """Say it in a few words."""
        outcome = f"{self.rejecting} rejects" if self.rejecting else "all goes well"
        return f"{self.workflow}, {self.placement}, {outcome}{', cancelled' if self.cancel else ''}"


def cases(workflows: int = len(WORKFLOWS)) -> Iterator[Case]:
    """Give all that there are."""
    for flow in WORKFLOWS[:workflows]:
        for placement in PLACEMENTS:
            for rejecting in REJECTING[flow.name]:
                yield Case(flow.name, rejecting, False, placement)
            yield Case(flow.name, "", True, placement)


def perform(case: Case, crash_after: int | None) -> tuple[Verdict, int]:
    """Perform a case, with a crash after the step of this number; gives how many steps there were."""
    style, is_apart, workers = PLACEMENTS[case.placement]
    reference = Reference(FLOWS[case.workflow], case.rejecting, cancel=case.cancel)
    layout = Layout(styles={case.workflow: style}, is_apart=is_apart, workers=workers)
    world = World(reference.build, seed=1, layout=layout, faults=Faults())
    steps = 0

    def count(process: Process) -> None:
        nonlocal steps
        steps += 1
        if steps == crash_after:
            member = next(m for m in world.members if m.process is process)
            world.note(process.name, f"!! crash after step {steps}")
            world.loop.call_outside(0, member.crash)
            world.loop.call_outside(BACK_S, member.start_if_down)

    world.loop.on_step = count
    try:
        return world.run(reference.perform), steps
    finally:
        world.close()


def enumerate_case(case: Case, stride: int = 1, first: int = 1) -> tuple[int, list[str]]:
    """Crash after every `stride`-th step; gives how many crashes there were, and what was wrong."""
    verdict, steps = perform(case, None)
    wrong = [f"{case}, no crash: {v}" for v in verdict.violations]
    expected = verdict.states
    crashes = 0
    for n in range(first, steps + 1, stride):
        verdict, _ = perform(case, n)
        crashes += 1
        wrong += [f"{case}, crash after step {n}: {v}" for v in verdict.violations]
        if not case.cancel and verdict.states != expected:
            wrong.append(f"{case}, crash after step {n}: came to {verdict.states}, and to {expected} without")
    return crashes, wrong


def main() -> int:
    """Do all of them, and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--every", "--stride", dest="stride", type=int, default=1, help="crash after every so manyeth step only"
    )
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--step", type=int, help="crash after this step only, and tell the story")
    parser.add_argument("--jobs", type=int, default=2, help="in so many processes")
    given = parser.parse_args()
    chosen = [case for case in cases() if given.only in str(case)]
    if given.step is not None:
        for case in chosen:
            verdict, _ = perform(case, given.step)
            print(story_text(verdict.story), case, verdict.states, *verdict.violations, sep="\n")
        return 0
    total, wrong = 0, list[str]()
    with ProcessPoolExecutor(given.jobs) as pool:
        for case, (crashes, found) in zip(chosen, pool.map(enumerate_case, chosen, repeat(given.stride)), strict=True):
            total, wrong = total + crashes, wrong + found
            print(f"{case}: {crashes} crash points, {len(found)} wrong", *found[:3], sep="\n  ", flush=True)
    print(f"{total} crash points, {len(wrong)} wrong")
    print(json.dumps({"crash points": total, "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
