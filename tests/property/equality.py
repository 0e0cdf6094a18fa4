"""The engine against a plain interpreter, on random workflows: the same facts, values, end and order.

A share is written as Python text, read by the reader, and compared with Python itself: `tests.property.text`.
`python -m tests.property.equality --workflows 10000` prints its progress, and one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.plans.plan import load_plan, make_plan
from minuet.plans.reach import cancellable, irrevocable
from minuet.workflows.tree import Step, WorkflowTree
from tests.property import text
from tests.property.interpreter import Fact, Oracle, Outcome, Recorded, assert_in_order, interpret, leaves
from tests.property.maker import Maker
from tests.property.performer import Meddler, Performer

WANTED = ("Par", "Choice", "Attempt", "Loop", "Each", "Wait", "Call", "Section", "ask", "abandon", "Return", "Break")


def check(seed: int, schedules: int = 2, depth: int = 3) -> Counter[str]:
    """Compare one random workflow in several orders; AssertionError where they differ. Gives what was in it.

    The last performance is meddled with: somebody cancels, pauses, retries, lets deadlines pass. When that happens is
    an answer of the world like any other, so the interpreter is told what was called off, and must come to the same.
    """
    maker = Maker(seed)
    tree = maker.workflow(depth)
    oracle, input_ = Oracle(seed), seed % 13
    program = Program(load_plan(make_plan(tree).to_json()))
    kinds = Counter(dict.fromkeys(maker.kinds, 1))
    for s in range(schedules):
        performer = Performer(program, tree, oracle, input_, seed * 31 + s)
        performer.run()
        kinds += compare(performer, tree, interpret(tree, oracle, input_))
    meddler = Meddler(program, tree, oracle, input_, seed)
    meddler.run()
    world = Recorded(seed, meddler.facts())
    assert_nothing_final_before(tree, meddler)
    kinds += compare(meddler, tree, interpret(tree, world, input_))
    kinds["called off"] += bool(world.codes)
    return kinds


def compare(performer: Performer, tree: WorkflowTree, want: Outcome) -> Counter[str]:
    """Compare a performance with what it should have come to."""
    run, k, rows = performer.rows.run, performer.k, performer.rows
    assert run is not None
    if run.state == RunState.STUCK and _may_park(tree, run.reason):
        return Counter(parked=1)
    facts, got = dict(leaves(want.trace)), performer.facts()
    assert got == facts, ("facts", _difference(got, facts), _difference(facts, got), run.state, run.reason)
    result: Any = msgspec.json.decode(run.result) if run.result else None
    if want.end == "failed":
        assert run.state == RunState.COMPENSATED, ("end", run, want.code)
        assert result["code"] == want.code.partition("@")[0], ("code", result, want.code)
        assert result["position"] == want.where, ("where", result, want.where)
    else:
        assert run.state == RunState.COMPLETED, ("end", run, want.value)
        assert result == want.value, ("result", result, want.value)
    assert_in_order(want.trace, {f: i for i, f in enumerate(got)})
    attempts = [a for a in rows.attempts.values() if a.state != "tombstone"]
    left = (attempts, rows.timers, rows.waits, k.pending, k.agenda, k.halted, run.load, run.reason)
    assert not any(left), ("left", left)
    found = Counter(performances=1, facts=len(facts), forgotten=performer.forgotten)
    found["failed" if want.end == "failed" else "completed"] += 1
    return found


def assert_nothing_final_before(tree: WorkflowTree, performer: Performer) -> None:
    """Assert that nothing was called off after something was done that cannot be taken back."""
    final = {n.position for n in performer.nodes.values() if isinstance(n, Step) and irrevocable(n)}
    done = False
    for f in performer.rows.stored().facts:
        called_off = f.label == "rejected:cancelled" or f.label.startswith("rejected:deadline@")
        assert not (done and called_off), ("called off too late", f, tree)
        done = done or (f.label == "ok" and f.position in final)


def _may_park(tree: WorkflowTree, reason: str | None) -> bool:
    """Say whether a run is parked as it must be: its list is too long, where nothing can be taken back any more."""
    return reason is not None and "too-many" in reason and reason.partition(":")[0] not in cancellable(tree.body)


def _difference(a: dict[Fact, Any], b: dict[Fact, Any]) -> dict[Fact, Any]:
    return {f: v for f, v in a.items() if f not in b or b[f] != v}


def main() -> int:
    """Run many; the exit code is 1 if any differs, or if some kind of node was never made."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--workflows", type=int, default=10_000)
    cli.add_argument("--texts", type=int, help="how many are written as Python text; a fifth as many if not given")
    cli.add_argument("--first", type=int, default=0, help="the first seed")
    cli.add_argument("--depth", type=int, default=3)
    given = cli.parse_args()
    texts = given.texts if given.texts is not None else given.workflows // 5
    began = time.monotonic()
    trees = _Series("workflows", lambda seed: check(seed, depth=given.depth))
    trees.run(given.first, given.workflows)
    written = _Series("texts", text.check)
    written.run(given.first, texts)
    total, differences = trees.total, trees.differences + written.differences
    missing = [k for k in WANTED if given.workflows and not total[k]]
    missing += [f"text {k}" for k in text.WANTED if texts and not written.total[k]]
    print(
        json.dumps(
            {
                "workflows": given.workflows,
                "texts": texts,
                "differences": differences,
                "performances": total["performances"] + written.total["performances"],
                "facts": total["facts"] + written.total["facts"],
                "forgotten": total["forgotten"],
                "called_off": total["called off"],
                "missing": missing,
                "with": {k: total[k] for k in sorted(total) if k[0].isupper() or k in ("ask", "abandon", "failed")},
                "secs": round(time.monotonic() - began, 1),
            }
        )
    )
    return 1 if differences or missing else 0


class _Series:
    """Many checks, one after the other, with their progress."""

    def __init__(self, what: str, check: Callable[[int], Counter[str]]) -> None:
        self.what, self.check = what, check
        self.total = Counter[str]()
        self.differences = 0

    def run(self, first: int, number: int) -> None:
        for i in range(number):
            try:
                self.total += self.check(first + i)
            except Exception as e:  # every kind of failure is a difference, and is shown with its seed
                self.differences += 1
                if self.differences <= 5:
                    print(f"seed {first + i}: {type(e).__name__}: {str(e)[:600]}", file=sys.stderr)
            if (i + 1) % 500 == 0:
                print(f"{i + 1} of {number} {self.what}, {self.differences} differences", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
