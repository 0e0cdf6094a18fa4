"""What made a rule true, derived without values, against the engine that knew them; and what cannot be derived."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from minuet.engine.knowledge import Knowledge
from minuet.engine.program import CANCEL, Program
from minuet.ids import parse_round
from minuet.observe.derivation import Derivation, Known
from minuet.observe.traced import TracedFact, TracedRun, TracedWait
from minuet.plans.plan import load_plan, make_plan
from tests.property.interpreter import Oracle
from tests.property.maker import Maker
from tests.property.performer import Meddler, Performer

from .classical import BEGUN, parallel, performed, planned

Became = dict[tuple[int, tuple[int, ...]], int]  # a rule in a round -> the fact with which it became true


def as_the_engine_has_it(program: Program, performer: Performer, input_: int) -> Became:
    """Fold the facts with their values, and note after which of them each rule became true."""
    k = Knowledge(program, 1, None, str(input_).encode(), 0)
    found: Became = {}
    k.begin()
    seen = 0
    rows = sorted(performer.rows.facts.values(), key=lambda f: f.seq)
    for n, row in enumerate([None, *rows]):
        if row is not None:
            value = row.value.encode() if row.value is not None else None
            k.learn(row.position, parse_round(row.round), row.label, value)
        for rule, rnd in k.agenda[seen:]:
            found.setdefault((rule, rnd), n)
        seen = len(k.agenda)
    return found


def traced(performer: Performer) -> TracedRun:
    run = performer.rows.run
    assert run is not None
    rows = sorted(performer.rows.facts.values(), key=lambda f: f.seq)
    code = json.loads(run.result)["code"] if run.state == "compensated" and run.result is not None else ""
    return TracedRun(
        run="R",
        key="R",
        state=run.state,
        started_at_ms=0,
        ended_at_ms=run.ended_at_ms,
        code=code,
        facts=[TracedFact(position=f.position, round=f.round, label=f.label, at_ms=f.seq) for f in rows],
    )


@pytest.mark.parametrize("first", range(0, 60, 20))
@pytest.mark.parametrize("kind", [Performer, Meddler])
def test_a_rule_became_true_with_the_fact_that_the_engine_says(kind: type[Performer], first: int) -> None:
    compared = 0
    for seed in range(first, first + 20):
        tree, input_ = Maker(seed).workflow(3), seed % 13
        plan = load_plan(make_plan(tree).to_json())
        program = Program(plan)
        performer = kind(program, tree, Oracle(seed), input_, seed * 31)
        performer.run()
        run = traced(performer)
        derived = Derivation(plan, run)
        assert len(derived.facts) == 1 + len(run.facts)
        engine = as_the_engine_has_it(program, performer, input_)
        for fact in derived.facts[1:]:
            became = derived.became(fact)
            if became is None:
                assert fact.position == CANCEL
                continue
            assert all(cause.seq < fact.seq for cause in became.causes), (seed, fact)
            if fact.label == "rejected:cancelled" or "deadline@" in fact.label:
                continue  # what has called it off came later than its rule
            rule = next((i for i, r in enumerate(plan.rules) if r == became.rule), None)
            if rule is None:
                assert fact.label == "compensated"  # of an abandoned step: no rule of the plan
                continue
            assert became.after == engine[rule, became.round], (seed, fact)
            compared += 1
        end = derived.end(run.state, run.code)
        ends = [n for (i, _), n in engine.items() if plan.rules[i].kind == "end"]
        assert (end.after if end is not None else None) == (ends[0] if end is not None else None), seed
    assert compared > 50


def causes(derived: Derivation, position: str, label: str) -> list[tuple[str, str]]:
    fact = next(f for f in derived.facts if (f.position, f.label) == (position, label))
    became = derived.became(fact)
    assert became is not None
    return [(c.position, c.label) for c in became.causes]


@pytest.mark.parametrize("style", ["orchestration", "choreography"])
def test_causes_are_the_same_in_either_style(style: str) -> None:
    facts = [("1", "ok"), ("2a", "ok"), ("2b", "rejected:no"), ("2a", "compensated"), ("1", "compensated")]
    derived = Derivation(planned(parallel, style), performed(*facts, state="compensated", code="no"))
    assert causes(derived, "1", "ok") == [("start", "ok")]
    assert causes(derived, "2b", "rejected:no") == [("1", "ok")]
    assert causes(derived, "2a", "compensated") == [("2a", "ok"), ("2b", "rejected:no")]
    assert causes(derived, "1", "compensated") == [("1", "ok"), ("2b", "rejected:no"), ("2a", "compensated")]
    end = derived.end("compensated", "no")
    assert end is not None
    assert end.after == 5


def test_the_order_in_which_facts_are_told_makes_no_difference_to_what_they_need() -> None:
    facts = [("3", "ok"), ("2b", "ok"), ("1", "ok"), ("2a", "ok")]
    derived = Derivation(planned(parallel, "choreography"), performed(*facts))
    assert sorted(causes(derived, "3", "ok")) == [("2a", "ok"), ("2b", "ok")]


def test_a_cancellation_is_a_cause_of_what_it_has_called_off() -> None:
    facts = [("1", "ok"), (CANCEL, "requested"), ("2a", "rejected:cancelled")]
    derived = Derivation(planned(parallel, "orchestration"), performed(*facts))
    assert causes(derived, "2a", "rejected:cancelled") == [("1", "ok"), (CANCEL, "requested")]


def test_what_no_plan_can_have_recorded_is_left_out_and_harms_nothing() -> None:
    run = performed(("1", "ok"), ("9", "ok"), ("2a", "chosen:then"))
    odd = [TracedFact(position="2a", round=r, label="ok", at_ms=BEGUN) for r in ("0", "x", "-1", "0.1")]
    derived = Derivation(planned(parallel, "orchestration"), replace(run, facts=[*run.facts, *odd]))
    assert derived.facts == [Known(0, "start", (), "ok", BEGUN), Known(1, "1", (), "ok", BEGUN + 10)]


def test_what_is_waited_for_tells_which_arm_was_taken() -> None:
    wait = TracedWait(position="2a", what="action", needs="payments.charge", owner="payments", since_ms=BEGUN)
    derived = Derivation(planned(parallel, "orchestration"), performed(("1", "ok"), waiting=[wait]))
    rule = derived.recorder("2a", "ok")
    assert rule is not None
    became = derived.rule(rule, ())
    assert became is not None
    assert (became.after, became.at_ms) == (1, BEGUN + 10)
    later = derived.recorder("3", "ok")
    assert later is not None
    assert derived.rule(later, ()) is None
