"""What cannot be performed where it is placed; and that what no finding is made for cannot be there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from minuet.plans.check import check
from minuet.plans.dataflow import flow_of, heard_for
from minuet.plans.placement import Placement
from minuet.plans.plan import Plan, make_plan
from minuet.plans.settled import Settled
from minuet.workflows.tree import WorkflowTree
from tests.property.maker import Maker
from tests.property.placements import _as_seq, sectioned
from tests.unit.engine.made import X, choice, loop, section, seq, step, workflow

CHOREOGRAPHED = Placement(root="choreography")
STYLES = ("orchestration", "choreography")


def placed(seed: int) -> Iterator[Plan]:
    """Give a random workflow under four placements."""
    tree = Maker(seed).workflow(3)
    mixed: WorkflowTree = replace(tree, body=_as_seq(sectioned(tree.body, random.Random(seed), [0])))
    for t in (tree, mixed):
        for style in STYLES:
            yield make_plan(t, Placement(root=style))


def unsettled(plan: Plan) -> list[str]:
    """Give where something is read that is not settled on every way that leads there."""
    settled = Settled(plan, is_certain=True)
    found = [s.position for s in plan.switches if not settled.at(s.trigger) >> s.guard & 1]
    return found + [r.position for r in plan.rules if any(not settled.at(r.when) >> v & 1 for _, v in r.arguments)]


# M501, M506: who decides knows what it asks


@pytest.mark.parametrize("seed", range(40))
def test_what_a_choice_or_a_rule_reads_is_settled_on_every_way_to_it(seed: int) -> None:
    for plan in placed(seed):
        assert unsettled(plan) == [], plan.style


def test_what_the_reader_refuses_would_not_be_settled() -> None:
    one_arm = choice("1", X, step("1.then.1", out="y"))
    asked = choice("2", ("var", "y"), step("2.then.1"))
    assert unsettled(make_plan(workflow(one_arm, asked), CHOREOGRAPHED)) == ["2"]
    both = choice("1", X, step("1.then.1", out="y"), step("1.else.1", out="y"))
    assert unsettled(make_plan(workflow(both, asked), CHOREOGRAPHED)) == []


def test_a_loop_that_would_ask_for_what_its_first_round_lacks_is_not_settled() -> None:
    body = seq(choice("1.1", ("var", "y"), step("1.1.then.1")), step("1.2", out="y"))
    late = workflow(choice("0", X, step("0.then.1", out="y")), loop("1", 3, body))
    assert "1.1" in unsettled(make_plan(late, CHOREOGRAPHED))
    early = workflow(step("0", out="y"), loop("1", 3, body))
    assert unsettled(make_plan(early, CHOREOGRAPHED)) == []


# M504: each timer has one owner, who hears the end of what it limits


@pytest.mark.parametrize("seed", range(40))
def test_whoever_owns_a_deadline_hears_the_end_of_its_block_and_the_block_hears_it_pass(seed: int) -> None:
    for plan in placed(seed):
        hears = flow_of(plan).hears
        timers = {r.position: r for r in plan.rules if r.kind == "deadline"}
        for r in plan.rules:
            if r.kind == "disarm":
                assert r.who == timers[r.position].who
                assert heard_for(plan, r)[r.who], "it would never be disarmed"
            for d in r.about.get("deadlines", ()):
                assert r.who in hears[d, "fired"]


def test_a_service_that_has_the_name_of_an_orchestrator_has_no_place_beside_a_choreographed_part() -> None:
    desk = section("2", step("2.1", service="stock"), by="desk")
    tree = workflow(section("1", step("1.1", service="desk"), style="choreography"), desk)
    (found,) = check(tree)
    assert (found.code, found.line) == ("M504", 1)
    assert found.message.startswith('"desk" is a service, and also who orchestrates section 2')
    assert 'styles={"made/1": "orchestration"}' in found.remedy
    assert check(tree, Placement(sections={"1": "orchestration"})) == []
    other = workflow(section("1", step("1.1", service="stock"), style="choreography"), desk)
    assert check(other) == []


@pytest.mark.parametrize("name", ["home", "orchestrator"])
def test_a_service_may_not_have_one_of_our_names_beside_a_choreographed_part(name: str) -> None:
    part = section("1", step("1.1", service=name), style="choreography" if name == "home" else "orchestration")
    tree = workflow(section("0", step("0.1"), style="choreography"), part)
    assert [f.code for f in check(tree)] == ["M504"]
    assert check(tree, Placement(sections={"0": "orchestration", "1": "orchestration"})) == []


# M509: what follows a wait in one arm does not wait for it


def test_what_follows_an_arm_that_is_not_taken_hears_the_choice_before_it() -> None:
    wait = Maker(0).wait("1.then.1", ["x"])
    tree = workflow(step("0", service="a"), choice("1", X, wait), step("2", service="b"))
    plan = make_plan(tree, CHOREOGRAPHED)
    (rule,) = (r for r in plan.rules if r.kind == "run" and r.position == "2")
    heard = heard_for(plan, rule)["b"]
    assert ("0", "ok") in heard, "with the other arm it goes on from there"
    assert {p for p, _ in heard} == {"0", "1.then.1", "$cancel"}


# M512: home hears the end


@pytest.mark.parametrize("seed", range(40))
def test_home_hears_each_way_in_which_a_run_may_end(seed: int) -> None:
    for plan in placed(seed):
        hears = flow_of(plan).hears
        ends = [r for r in plan.rules if r.kind == "end"]
        assert ends
        assert len({r.who for r in ends}) == 1
        for r in ends:
            assert r.who in plan.conductors()
            assert heard_for(plan, r)[r.who]
            assert all(r.who in hears[fact] for fact in heard_for(plan, r)[r.who])


# All of them


@pytest.mark.parametrize("seed", range(25))
def test_random_workflows_have_no_findings_in_any_placement(seed: int) -> None:
    tree = Maker(seed).workflow(3)
    mixed: WorkflowTree = replace(tree, body=_as_seq(sectioned(tree.body, random.Random(seed), [0])))
    for t in (tree, mixed):
        for style in STYLES:
            assert check(t, Placement(root=style)) == []


def test_what_is_orchestrated_is_not_compiled_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> Plan:
        raise AssertionError("compiled")

    monkeypatch.setattr("minuet.plans.projectable.make_plan", compiled)
    assert check(workflow(step("1"))) == []
    with pytest.raises(AssertionError, match="compiled"):
        check(workflow(step("1")), CHOREOGRAPHED)
