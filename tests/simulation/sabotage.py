"""Sabotage: each guard of the product is broken in simulated worlds, and the checks of these worlds have to see it.

A suite that cannot fail proves nothing. So for each guard there is a switch (`broken.py`), the worlds in which its
absence can show, what it has to be seen as, and within how many seeds.

`python -m tests.simulation.sabotage` prints after how many seeds each was found; with `--ranges`, from several on.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import NamedTuple

from minuet.testing.simulation import store
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.trial import Trial, Trials
from minuet.testing.simulation.world import Layout, Verdict
from tests.simulation import broken
from tests.simulation.broken import Break
from tests.simulation.impatient import Impatient
from tests.simulation.reactions import ReactionWorkload
from tests.simulation.workload import SETTINGS, Workload

SEEDS_MAX = 1_000  # within which any switch has to be found
ENDS_WITHIN_S = 300.0  # of simulated time: what ends at all does so soon after the last message has come
SOON_ENDS_WITHIN_S = 100.0
SLOW_ENDS_WITHIN_S = 3_600.0
RANGES = (0, 10_000, 20_000, 30_000, 40_000)


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A guard that is broken. `worlds`: where that can show; `seen`: a pattern of the violation that tells it.

    `first`: other guards that come before it and have to be broken too, else it is never asked. `within`: how many
    seeds it may take, about three times the most that it took from any of `RANGES` on. `around`: how these worlds
    differ from others.
    """

    break_: Break
    worlds: Trials
    seen: str
    within: int
    first: tuple[Break, ...] = ()
    around: Break = nullcontext

    @property
    def name(self) -> str:
        """Give it as its function is called."""
        return getattr(self.break_, "__name__", "").replace("_", " ")


class Found(NamedTuple):
    """By what a broken guard was seen. `seeds`: how many it took; `seconds`: of processor time."""

    seeds: range
    violation: str
    seconds: float

    @property
    def invariant(self) -> str:
        """Give which of the invariants it was."""
        return re.split(r"[:. ]", self.violation, maxsplit=1)[0]


# Worlds


def runs(
    kind: str, faults: str, *, is_apart: bool = False, workers: int = 1, ends_within_s: float = ENDS_WITHIN_S
) -> Trials:
    """Give worlds of random workflows."""

    def trial(seed: int) -> Trial:
        workload = Workload(seed, kind)
        layout = replace(workload.layout, is_apart=is_apart, workers=workers)
        return _trial(seed, workload, layout, faults, ends_within_s)

    return trial


def events(faults: str, *, is_apart: bool = False, workers: int = 1) -> Trials:
    """Give worlds of random publishers and subscribers."""

    def trial(seed: int) -> Trial:
        workload = ReactionWorkload(seed)
        workload.is_apart, workload.workers = is_apart, workers
        return _trial(seed, workload, workload.layout, faults)

    return trial


def impatient(faults: str) -> Trials:
    """Give worlds in which steps are given up."""

    def trial(seed: int) -> Trial:
        workload = Impatient(seed)
        return _trial(seed, workload, workload.layout, faults)

    return trial


def _trial(
    seed: int,
    workload: Workload | ReactionWorkload | Impatient,
    layout: Layout,
    faults: str,
    ends_within_s: float = ENDS_WITHIN_S,
) -> Trial:
    return Trial(
        scenario=workload.perform,
        build=workload.build,
        seed=seed,
        layout=layout,
        faults=Faults.parse(faults),
        settings=SETTINGS,
        ends_within_s=ends_within_s,
    )


@contextmanager
def _commits_take(*seconds: float) -> Iterator[None]:
    """Have commits take this long, from and to: more happens while one is on its way."""
    usual, store.COMMIT_S = store.COMMIT_S, (seconds[0], seconds[1])
    try:
        yield
    finally:
        store.COMMIT_S = usual


SLOWLY = partial(_commits_take, 0.5, 5.0)

SWITCHES: Sequence[Switch] = (
    # What is heard twice is taken once.
    Switch(
        break_=broken.events_without_identity,
        worlds=events("duplicate,acknowledgement_lost=0.3", is_apart=True),
        seen=r"E1: .* has applied .* times",
        within=10,
    ),
    Switch(
        break_=broken.answer_not_asked_for,
        worlds=events("unknown_applied=0.3,failure=0.3"),
        seen=r"E1: .* has applied .* times",
        within=50,
    ),
    Switch(
        break_=broken.applied_without_key,
        first=(broken.answer_not_asked_for,),
        worlds=events("unknown_applied=0.3"),
        seen=r"E1: .* has applied .* times",
        within=10,
    ),
    Switch(
        break_=broken.messages_without_identity,
        worlds=runs("orchestrated", "duplicate=0.3,acknowledgement_lost=0.3", is_apart=True),
        seen="I9: .* not counted one by one",
        within=10,
    ),
    # Nothing is told before it is durable.
    Switch(
        break_=broken.publish_without_outbox,
        worlds=runs("choreographed", "publish_lost=0.3,crash=0.5", is_apart=True),
        seen="I8: ",
        within=10,
    ),
    Switch(
        break_=broken.publish_before_commit,
        worlds=runs("choreographed", "unknown_lost=0.3,full=0.3", is_apart=True),
        seen="I1: .* was written, and not recorded",
        within=15,
    ),
    Switch(
        break_=broken.acknowledge_before_commit,
        worlds=runs("choreographed", "unknown_lost=0.3,full=0.3", is_apart=True),
        seen="I8: ",
        within=10,
    ),
    Switch(
        break_=broken.start_told_before_commit,
        worlds=runs("orchestrated", "unknown_lost=0.5,full=0.5"),
        seen="I11: ",
        within=10,
    ),
    # What comes early waits, and what has an order keeps it.
    Switch(
        break_=broken.early_events_dropped,
        worlds=runs("orchestrated", "crash"),
        seen="I12: ",
        within=40,
    ),
    Switch(
        break_=broken.early_of_stream_dropped,
        worlds=events("delay,reorder", is_apart=True),
        seen="E1: .* has not applied",
        within=10,
    ),
    Switch(
        break_=broken.stream_order_ignored,
        worlds=events("delay,reorder", is_apart=True),
        seen="I10: ",
        within=10,
    ),
    Switch(
        break_=broken.key_order_ignored,
        worlds=events("failure"),
        seen="I10: ",
        within=10,
    ),
    # A run has one owner.
    Switch(
        break_=broken.no_fence,
        worlds=runs("orchestrated", "zombie=1", workers=3, ends_within_s=SLOW_ENDS_WITHIN_S),
        seen="I9: .* after epoch",
        within=25,
    ),
    Switch(
        break_=broken.everybody_evaluates,
        worlds=runs("choreographed", "delay", is_apart=True, workers=2, ends_within_s=SOON_ENDS_WITHIN_S),
        seen="I8: |does not end: ",
        within=15,
    ),
    # An effect is had once, and taken back, last first.
    Switch(
        break_=broken.another_key_each_time,
        worlds=runs("orchestrated", "crash,reply_lost=0.3"),
        seen="I1: .* at the bank",
        within=25,
    ),
    Switch(
        break_=broken.compensation_in_memory,
        worlds=runs("orchestrated", "crash=4,failure=0.2"),
        seen="I8: ",
        within=75,
    ),
    Switch(
        break_=broken.first_taken_back_first,
        worlds=runs("orchestrated", "failure"),
        seen="I7: .* was compensated before",
        within=15,
    ),
    Switch(
        break_=broken.no_tombstone,
        worlds=impatient("delay=0.5,reorder"),
        seen="I3: .* was given up, took effect",
        within=10,
    ),
    # What is recorded is true, and known.
    Switch(
        break_=broken.no_one_outcome,
        first=(broken.no_fence,),
        worlds=runs("orchestrated", "zombie=1,pause=1", workers=3, ends_within_s=SLOW_ENDS_WITHIN_S),
        around=SLOWLY,
        seen="I[12]: .* twice at",
        within=60,
    ),
    Switch(
        break_=broken.writes_kept_beside_outcome,
        first=(broken.no_fence, broken.leases_never_over),
        worlds=runs("orchestrated", "zombie=1,pause=1", workers=3, ends_within_s=SLOW_ENDS_WITHIN_S),
        around=SLOWLY,
        seen=r"I1: .* was written \d+ times",
        within=30,
    ),
    Switch(
        break_=broken.writes_kept_unawaited,
        worlds=runs("orchestrated", "zombie=1,pause=1", workers=3, ends_within_s=SLOW_ENDS_WITHIN_S),
        around=SLOWLY,
        seen=r"I1: .* was written \d+ times",
        within=10,
    ),
    Switch(
        break_=broken.no_basis,
        worlds=runs("choreographed", "unknown_lost=0.5,full=0.5", is_apart=True),
        seen="I9: .* not counted one by one",
        within=60,
    ),
    Switch(
        break_=broken.start_not_looked_for,
        worlds=runs("orchestrated", "unknown_applied=0.5"),
        seen="does not end: ",
        within=25,
    ),
    Switch(
        break_=broken.confirmed_is_forgotten,
        worlds=runs("choreographed", "broker_crash=1,delay=0.5", is_apart=True),
        seen="I8: ",
        within=250,
    ),
)


# Looking for it


def perform(switch: Switch, seed: int, breaks: Sequence[Break]) -> Verdict:
    """Perform the world of a seed, with these guards broken."""
    with ExitStack() as stack:
        for enter in (switch.around, *breaks):
            stack.enter_context(enter())
        return switch.worlds(seed).perform()


def find(switch: Switch, first: int = 0, most: int | None = None) -> Found | None:
    """Break a guard, and look from a seed on until that is seen; None if it is not within as many as it may take."""
    began = time.process_time()
    for seed in range(first, first + (switch.within if most is None else most)):
        for violation in perform(switch, seed, (*switch.first, switch.break_)).violations:
            if re.match(switch.seen, violation):
                return Found(range(first, seed + 1), violation, time.process_time() - began)
    return None


def main() -> int:
    """Break one guard after the other, and say by what it was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="switches whose name holds this")
    parser.add_argument("--ranges", action="store_true", help=f"begin at each of {RANGES}, up to {SEEDS_MAX} seeds")
    given = parser.parse_args()
    missed = 0
    print(f"{'switch':30} {'found after':>12} {'of':>5} {'s':>6}  seen as")
    for switch in SWITCHES:
        if given.only not in switch.name:
            continue
        firsts, most = (RANGES, SEEDS_MAX) if given.ranges else ((given.first,), None)
        all_found = [find(switch, first, most) for first in firsts]
        there = [found for found in all_found if found is not None]
        missed += len(all_found) - len(there)
        if there:
            counts = [len(found.seeds) for found in there]
            took = f"{median(counts):g} ({max(counts)})" if given.ranges else f"{counts[0]}"
            seconds = sum(found.seconds for found in there) / len(there)
            print(
                f"{switch.name:30} {took:>12} {switch.within:5} {seconds:6.1f}  {there[0].violation[:110]}", flush=True
            )
        if len(there) < len(all_found):
            print(f"{switch.name:30} was not found from {len(all_found) - len(there)} of {len(all_found)} seeds on")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
