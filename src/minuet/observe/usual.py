"""How long things usually take: from when a rule became true to its outcome, learnt from the facts of runs.

So a free slot that is waited for, and failed attempts, are part of it. A sleep is not: how long that takes, the plan
says. What is learnt is kept by the place in the workflow's text and by what is done there, across changes of the text
elsewhere; a bounded number of the newest outcomes each, since what was usual a month ago may not be usual now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from minuet.ids import round_text
from minuet.observe.derivation import Derivation
from minuet.observe.traced import TracedRun
from minuet.plans.plan import Plan

SAMPLE: Final = 200
"""Outcomes that are kept of a place: enough for a 95th percentile, few enough to forget what has changed."""

PLACES: Final = 5_000
"""Places that are kept: some hundred workflows; the one that was learnt of longest ago is forgotten first."""

RUN_SAMPLE: Final = 20
"""Outcomes that one run adds to a place: a loop of thousands must not be all that is known."""

FACTS: Final = 300
"""Facts of one run that are looked at: what caused what is found at leisure, but not for ten thousand at once."""

LATE_TIMES: Final = 10
"""How often the 95th percentile may pass before something is late."""

LATE_MS: Final = 30_000
"""What is never late: shorter than that, nobody would have looked yet."""

PAST_MS: Final = 10_000
"""How long after its own timeout or deadline something is late: whoever decides that has its own clock and queue."""

UNKNOWN_MS: Final = 3_600_000
"""When something is late of which nothing is known."""

_CALLED_OFF: Final = frozenset({"cancelled", "timeout", "exhausted", "invalid-value"})


class Place(NamedTuple):
    """What takes time: `what` is an action (`payments.charge`, or what takes it back), or the event of a wait."""

    workflow: str
    position: str
    what: str


class Took(NamedTuple):
    """That something has taken so long once, in milliseconds."""

    place: Place
    took_ms: int


class Usual(NamedTuple):
    """How long something usually takes, in milliseconds: half of its last `outcomes`, and 95 of 100."""

    median_ms: int
    p95_ms: int
    outcomes: int


class Usuals:
    """What is known of how long things take."""

    def __init__(self) -> None:
        self._took: dict[Place, deque[int]] = {}
        self._usual: dict[Place, Usual] = {}  # computed when it is asked for

    def learn(self, found: Iterable[Took]) -> None:
        """Take outcomes, the oldest first."""
        for place, took_ms in found:
            kept = self._took.pop(place, None)
            if kept is None:
                kept = deque(maxlen=SAMPLE)
                if len(self._took) >= PLACES:
                    longest_ago = next(iter(self._took))
                    del self._took[longest_ago]
                    self._usual.pop(longest_ago, None)
            self._took[place] = kept
            kept.append(took_ms)
            self._usual.pop(place, None)

    def of(self, place: Place) -> Usual | None:
        """Say how long something usually takes; None where nothing is known."""
        if (known := self._usual.get(place)) is not None:
            return known
        if (took := self._took.get(place)) is None:
            return None
        usual = self._usual[place] = usual_of(took)
        return usual


def usual_of(took_ms: Iterable[int]) -> Usual:
    """Give the median and the 95th percentile of at least one duration, by the nearest rank."""
    ordered = sorted(took_ms)
    n = len(ordered)
    return Usual(ordered[(n - 1) // 2], ordered[-(-95 * n // 100) - 1], n)


def took(plan: Plan, run: TracedRun, after: int = 0) -> list[Took]:
    """Give how long each outcome of a run took, in the order of its facts, without the first `after` facts.

    What was called off has no outcome of its own: a cancellation, a timeout or a deadline says nothing about a service.
    """
    if len(run.facts) > FACTS:
        run = replace(run, facts=run.facts[:FACTS])
    derived = Derivation(plan, run)
    found: list[Took] = []
    seen: dict[Place, int] = {}
    new = {(f.position, f.round, f.label) for f in run.facts[after:]}
    for f in derived.facts[1:]:
        if (f.position, round_text(f.round), f.label) not in new:
            continue
        rule = derived.recorder(f.position, f.label)
        if rule is None or rule.position != f.position or not _is_outcome(f.label):
            continue
        if f.label == "compensated":
            what = derived.what(f.position, f.label)
        elif rule.kind == "run":
            what = f"{rule.about['service']}.{rule.about['action']}"
        elif rule.kind == "wait":
            what = rule.about["event"]
        else:
            continue
        became = derived.became(f)
        place = Place(plan.workflow, f.position, what)
        seen[place] = seen.get(place, 0) + 1
        if became is not None and seen[place] <= RUN_SAMPLE:
            found.append(Took(place, max(0, f.at_ms - became.at_ms)))
    return found


def expected_ms(usual: Usual | None, since_ms: int, until_ms: int | None, *, is_timer: bool = False) -> int:
    """Give the instant until which it is usual that something is waited for: afterwards it is late.

    That is ten times what 95 of 100 take, and at least half a minute; ten seconds after its own limit (`until_ms`)
    where that comes first; without either, an hour. A timer takes as long as it says.
    """
    limits = [] if until_ms is None else [until_ms + PAST_MS]
    if usual is not None and not is_timer:
        limits.append(since_ms + max(LATE_TIMES * usual.p95_ms, LATE_MS))
    return min(limits, default=since_ms + UNKNOWN_MS)


def _is_outcome(label: str) -> bool:
    code = label.partition(":")[2]
    return code not in _CALLED_OFF and not code.startswith("deadline@")
