"""The course of a run is what the reference interpreter says, on random workflows; and a plan gives its tree back."""

from __future__ import annotations

import pytest

from minuet.engine.course import FAILED, course, facts_of, read_body
from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.ids import round_text
from minuet.plans.plan import _drawn, load_plan, make_plan
from tests.property.interpreter import Oracle, interpret, leaves
from tests.property.maker import Maker
from tests.property.performer import Performer


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_the_course_of_random_workflows_is_that_of_the_interpreter(first: int) -> None:
    compared = 0
    for seed in range(first, first + 40):
        tree, input_ = Maker(seed).workflow(3), seed % 13
        plan = load_plan(make_plan(tree).to_json())
        assert _drawn(read_body(plan)) == plan.body
        performer = Performer(Program(plan), tree, Oracle(seed), input_, seed)
        performer.run()
        assert performer.rows.run is not None
        if performer.rows.run.state == RunState.STUCK:
            continue
        known = {place: (f.label, f.value) for place, f in performer.rows.facts.items()}
        got, want = course(read_body(plan), known, input_), interpret(tree, Oracle(seed), input_)
        facts = {(f.position, f.round, f.label) for f in facts_of(got.trace) if not f.label.startswith("failed:")}
        assert facts == {(position, round_text(round_), label) for (position, round_, label), _ in leaves(want.trace)}
        assert (got.end == FAILED, got.code) == (want.end == "failed", want.code)
        assert got.end == FAILED or got.value == want.value
        compared += 1
    assert compared > 20
