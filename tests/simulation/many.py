"""Thousands of random workflows in simulated worlds in which everything goes wrong that may.

`python -m tests.simulation.many --seeds 1000` tries so many of each kind; `--kind choreographed --seed 17` repeats one,
and tells its story. Every run must come to what the reference interpreter says, with each effect once.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial

from minuet.testing.simulation.explore import explore_trials
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.report import Report, report_text, story_text, zero_faults
from minuet.testing.simulation.trial import Trial, parse_only
from tests.simulation.workload import KINDS, SETTINGS, Workload

SHOWS_ALL = 100  # so many worlds of a kind are enough for every fault to have happened
ENDS_WITHIN_S = 1_800.0


def trial(kind: str, seed: int) -> Trial:
    """Give what is tried in the world of a seed."""
    work = Workload(seed, kind)
    return Trial(
        scenario=work.perform,
        build=work.build,
        seed=seed,
        layout=work.layout,
        faults=Faults.all(),
        settings=SETTINGS,
        ends_within_s=ENDS_WITHIN_S,
    )


def perform(kind: str, seeds: Sequence[int], *, jobs: int = 1, is_shown: bool = False) -> Report:
    """Try the worlds of these seeds."""

    def show(report: Report) -> None:
        if report.worlds % 25 == 0:
            print(f"\r{kind}: {report.worlds} of {len(seeds)}", end="", file=sys.stderr, flush=True)

    found = explore_trials(
        partial(trial, kind), seeds=seeds, jobs=jobs, on_progress=show if is_shown else None, name=kind
    )
    if is_shown:
        print("\r", end="", file=sys.stderr)
    return found


def told(kind: str, found: Report) -> str:
    """Give a report as text, with the lines that repeat what was wrong."""
    return report_text(found, repeats=lambda failure: failure.repeats(f"make sim KIND={kind}"), faults=Faults.all())


def main() -> int:
    """Try what is asked for; 1 if something was wrong, or did not happen at all."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--seeds", type=int, default=500, help="how many of each kind")
    cli.add_argument("--first", type=int, default=0, help="the first of them")
    cli.add_argument("--seed", type=int, help="this one only")
    cli.add_argument("--kind", choices=KINDS, help="this kind only")
    cli.add_argument("--only", default="", help="these faults only, as a failure names them")
    cli.add_argument("--jobs", type=int, default=2)
    given = cli.parse_args()
    logging.getLogger("minuet").propagate = False  # what goes wrong there is meant to, and is in the story
    logging.getLogger("minuet").addHandler(logging.NullHandler())
    if given.seed is not None:
        verdict = trial(given.kind or KINDS[0], given.seed).perform(parse_only(given.only))
        print(story_text(verdict.story), *verdict.violations, verdict.states, dict(verdict.counts), sep="\n")
        return 1 if verdict.violations else 0
    wrong, counts = False, Counter[str]()
    for kind in [given.kind] if given.kind else KINDS:
        seeds = range(given.first, given.first + given.seeds)
        found = perform(kind, seeds, jobs=given.jobs, is_shown=True)
        print(f"{kind}\n\n{told(kind, found)}", flush=True)
        wrong |= not found.is_clean
        counts += found.counts + Counter(worlds=found.worlds, runs=sum(found.states.values()))
        if given.seeds >= SHOWS_ALL and kind != "orchestrated":
            wrong |= bool(zero_faults(found, Faults.all()))
    print(json.dumps(dict(sorted(counts.items()))))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
