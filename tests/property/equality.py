"""The engine against a plain interpreter, on random workflows: the same facts, values, end and order.

`make equality` checks many: `tests.property.many`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.plans.plan import load_plan, make_plan
from minuet.plans.reach import cancellable, irrevocable
from minuet.workflows.tree import Step, WorkflowTree
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
