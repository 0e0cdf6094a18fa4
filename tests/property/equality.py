"""The engine against a plain interpreter, on random workflows: the same facts, values, end and order.

`python -m tests.property.equality --workflows 10000` prints its progress, and one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

import msgspec

from minuet.engine.row import RunState
from minuet.plans.plan import make_plan
from minuet.plans.reach import cancellable
from minuet.workflows.tree import WorkflowTree
from tests.property.interpreter import Fact, Oracle, assert_in_order, interpret, leaves
from tests.property.maker import Maker
from tests.property.performer import Performer

WANTED = ("Par", "Choice", "Attempt", "Loop", "Each", "Wait", "Call", "Section", "ask", "abandon", "Return", "Break")


def check(seed: int, schedules: int = 2, depth: int = 3) -> Counter[str]:
    """Compare one random workflow in several orders; AssertionError where they differ. Gives what was in it."""
    maker = Maker(seed)
    tree = maker.workflow(depth)
    oracle, input_ = Oracle(seed), seed % 13
    want = interpret(tree, oracle, input_)
    facts = dict(leaves(want.trace))
    raw = make_plan(tree).to_json()
    kinds = Counter({k: 1 for k in maker.kinds})
    kinds["failed" if want.end == "failed" else "completed"] += 1
    for s in range(schedules):
        performer = Performer(raw, tree, oracle, input_, seed * 31 + s)
        performer.run()
        run, k = performer.rows.run, performer.k
        assert run is not None
        if run.state == RunState.STUCK and _may_park(tree, run.reason):
            kinds["parked"] += 1
            continue
        got = performer.facts()
        assert got == facts, ("facts", _difference(got, facts), _difference(facts, got), run.state, run.reason)
        result = msgspec.json.decode(run.result) if run.result else None
        if want.end == "failed":
            assert run.state == RunState.COMPENSATED and result["code"] == want.code, ("end", run, want.code)
        else:
            assert run.state == RunState.COMPLETED and result == want.value, ("end", run, want.value)
        log = {f: i for i, f in enumerate(got)}
        assert_in_order(want.trace, log)
        rows = performer.rows
        left = [a for a in rows.attempts.values() if a.state != "tombstone"]
        assert not (left or rows.timers or rows.waits or k.pending or k.agenda or run.load), (
            "left",
            left,
            rows.timers,
            rows.waits,
            k.pending,
            k.agenda,
            run,
        )
        kinds["performances"] += 1
        kinds["facts"] += len(facts)
        kinds["forgotten"] += performer.forgotten
        kinds["duplicates"] += 1
    return kinds


def _may_park(tree: WorkflowTree, reason: str | None) -> bool:
    """Say whether a run is parked as it must be: its list is too long, where nothing can be taken back any more."""
    return reason is not None and "too-many" in reason and reason.partition(":")[0] not in cancellable(tree.body)


def _difference(a: dict[Fact, Any], b: dict[Fact, Any]) -> dict[Fact, Any]:
    return {f: v for f, v in a.items() if f not in b or b[f] != v}


def main() -> int:
    """Run many; the exit code is 1 if any differs, or if some kind of node was never made."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--workflows", type=int, default=10_000)
    cli.add_argument("--first", type=int, default=0, help="the first seed")
    cli.add_argument("--depth", type=int, default=3)
    given = cli.parse_args()
    total, differences, began = Counter[str](), 0, time.monotonic()
    for i in range(given.workflows):
        try:
            total += check(given.first + i, depth=given.depth)
        except Exception as e:  # every kind of failure is a difference, and is shown with its seed
            differences += 1
            if differences <= 5:
                print(f"seed {given.first + i}: {type(e).__name__}: {str(e)[:600]}", file=sys.stderr)
        if (i + 1) % 500 == 0:
            print(f"{i + 1} of {given.workflows} workflows, {differences} differences", file=sys.stderr, flush=True)
    missing = [k for k in WANTED if not total[k]]
    print(
        json.dumps(
            {
                "workflows": given.workflows,
                "differences": differences,
                "performances": total["performances"],
                "facts": total["facts"],
                "forgotten": total["forgotten"],
                "missing": missing,
                "with": {k: total[k] for k in sorted(total) if k[0].isupper() or k in ("ask", "abandon", "failed")},
                "secs": round(time.monotonic() - began, 1),
            }
        )
    )
    return 1 if differences or missing else 0


if __name__ == "__main__":
    sys.exit(main())
