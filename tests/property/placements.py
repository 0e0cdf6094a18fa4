"""Every placement of a random workflow gives the same facts, values, end and order as the plain interpreter."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import msgspec

from minuet.engine.row import RunState
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, Placement
from minuet.plans.plan import make_plan
from minuet.workflows.tree import Node, Section, Seq, WorkflowTree
from tests.property.ensemble import HOME, Ensemble
from tests.property.equality import _difference
from tests.property.interpreter import Oracle, assert_in_order, interpret, leaves
from tests.property.maker import HERE, Maker


def sectioned(node: Any, r: random.Random, at: list[int]) -> Any:
    """Put random sections around random pieces: nested, in loops, in branches, in called workflows."""
    if isinstance(node, tuple):
        return tuple(sectioned(x, r, at) for x in node)
    if not isinstance(node, Node):
        return node
    inner = {f.name: sectioned(getattr(node, f.name), r, at) for f in fields(node) if f.name != "place"}
    node = replace(node, **inner)
    if isinstance(node, Section):
        return node.body
    if type(node).__name__ in ("Step", "Par", "Seq", "Each", "Call", "Loop", "Attempt", "Choice") and r.random() < 0.25:
        at[0] += 1
        return Section(place=HERE, position=f"§{at[0]}", style=r.choice((ORCHESTRATION, CHOREOGRAPHY)), body=node)
    return node


def check(seed: int, depth: int = 3, schedules: int = 2) -> Counter[str]:
    """Compare one random workflow under four placements; AssertionError where they differ."""
    maker = Maker(seed)
    tree = maker.workflow(depth)
    oracle, input_ = Oracle(seed), seed % 13
    want = interpret(tree, oracle, input_)
    facts = dict(leaves(want.trace))
    r = random.Random(seed)
    mixed: WorkflowTree = replace(tree, body=_as_seq(sectioned(tree.body, r, [0])))
    counts = Counter[str]()
    for name, placed, style in (
        ("O", _without(tree), ORCHESTRATION),
        ("C", _without(tree), CHOREOGRAPHY),
        ("O*", mixed, ORCHESTRATION),
        ("C*", mixed, CHOREOGRAPHY),
    ):
        raw = make_plan(placed, Placement(root=style)).to_json()
        for s in range(schedules):
            try:
                ensemble = Ensemble(raw, placed, oracle, input_, seed * 31 + s)
                ensemble.run()
                compare(ensemble, want, facts)
            except AssertionError as e:
                raise AssertionError(name, s, *e.args) from e
            counts["performances"] += 1
            counts["published " + name] += ensemble.published
    return counts


def _without(tree: WorkflowTree) -> WorkflowTree:
    """Give the workflow without its sections."""

    class Never(random.Random):
        def random(self) -> float:
            return 1.0

    return replace(tree, body=_as_seq(sectioned(tree.body, Never(), [0])))


def _as_seq(node: Any) -> Any:
    return node if isinstance(node, Seq) else Seq(place=HERE, parts=(node,))


def compare(ensemble: Ensemble, want: Any, facts: dict[Any, Any]) -> None:
    """Compare a performance with what it means."""
    k = ensemble.minds[HOME]
    got = ensemble.facts()
    stuck = [(w, m.reason) for w, m in ensemble.minds.items() if m.state == RunState.STUCK]
    if stuck and any("too-many" in (reason or "") for _, reason in stuck):
        return
    assert got == facts, ("facts", _difference(got, facts), _difference(facts, got), k.state, stuck)
    result = msgspec.json.decode(k.result) if k.result else None
    if want.end == "failed":
        assert k.state == RunState.COMPENSATED, ("end", k.state, want.code)
        assert result is not None
        assert result["code"] == want.code, ("code", result, want.code)
    else:
        assert k.state == RunState.COMPLETED, ("end", k.state, want.end)
        assert result == want.value, ("result", result, want.value)
    assert_in_order(want.trace, {f: i for i, f in enumerate(got)})
    left = {w: (m.pending, m.timers, m.waits) for w, m in ensemble.minds.items() if m.timers or m.waits or m.pending}
    assert not left, ("left", left)


def main() -> int:
    """Compare many; the exit code is 1 if any differs."""
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--workflows", type=int, default=2_500, help="each is performed in four placements, twice")
    cli.add_argument("--first", type=int, default=0, help="the first seed")
    given = cli.parse_args()
    total, differences = Counter[str](), 0
    for i in range(given.workflows):
        try:
            total += check(given.first + i)
        except Exception as e:  # every kind of failure is a difference, and is shown with its seed
            differences += 1
            if differences <= 5:
                print(f"seed {given.first + i}: {type(e).__name__}: {str(e)[:600]}", file=sys.stderr)
        if (i + 1) % 250 == 0:
            print(f"{i + 1} of {given.workflows} workflows, {differences} differences", file=sys.stderr, flush=True)
    print(json.dumps({"workflows": given.workflows, "differences": differences, **total}))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
