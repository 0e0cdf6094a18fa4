"""Private values: who comes to see them, who would have to decide on them, and what is no disclosure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from minuet.contracts.service import Service, action, compensation, service_spec
from minuet.errors import DeclarationError
from minuet.plans.check import check
from minuet.plans.disclosure import disclosed, leaks, shown
from minuet.plans.placement import Placement
from minuet.plans.plan import load_plan, make_plan
from minuet.workflows.tree import Step, WorkflowTree
from minuet.workflows.words import at, attempt, choreography, each, orchestration, together
from minuet.workflows.workflow import Workflow, workflow
from tests.property.ensemble import Ensemble
from tests.property.interpreter import Oracle
from tests.property.maker import Maker
from tests.property.performer import _positions
from tests.property.placements import _as_seq, _without, sectioned
from tests.unit.engine import made

CHOREOGRAPHED = Placement(root="choreography")


class Risk(Service):
    @action(pure=True, private=())
    async def score(self, order: str) -> int:
        return len(order)

    @action(pure=True, private=("desk",))
    async def grade(self, order: str) -> int:
        return len(order)

    @action(pure=True)
    async def archive(self, order: str) -> None: ...

    @action(private=())
    async def hold(self, order: str) -> int:
        return len(order)

    @compensation(hold)
    async def release(self, held: int) -> None: ...


class Desk(Service):
    @action
    async def look(self, order: str) -> None: ...

    @action
    async def note(self, number: int) -> None: ...

    @action
    async def tell(self, text: str) -> None: ...

    @action
    async def flag(self, is_risky: bool) -> None: ...

    @action
    async def undo(self, held: int) -> None: ...


class Stock(Service):
    @action
    async def pick(self, order: str) -> None: ...

    @action
    async def count(self, order: str) -> int:
        return len(order)


def codes(flow: Workflow[Any, Any, Any], where: Placement = CHOREOGRAPHED) -> list[str]:
    return [f"{f.code} {f.message}" for f in check(flow.tree, where)]


# M503


@workflow
async def decided_by_others(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    score = await risk.score(order)
    if score > 80:
        await desk.look(order)
    else:
        await stock.pick(order)


@workflow
async def decided_by_risk(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    score = await risk.score(order)
    if at(risk, score > 80):
        await desk.look(order)
    else:
        await stock.pick(order)


@workflow
async def decided_by_desk(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    score = await risk.score(order)
    if at(desk, score > 80):
        await stock.pick(order)


@workflow
async def rounds(order: str, *, risk: Risk, desk: Desk) -> None:
    for _ in range(3):
        score = await risk.score(order)
        if score < 10:
            break
        await desk.look(order)


def test_who_may_not_see_a_value_may_not_have_to_decide_on_it() -> None:
    (found,) = check(decided_by_others.tree, CHOREOGRAPHED)
    assert found.code == "M503"
    assert found.message == 'only risk may see "score", but desk and stock would have to decide'
    assert "if at(risk, …)" in found.remedy
    assert 'styles={"decided_by_others": "orchestration"}' in found.remedy
    first = decided_by_others.function.__code__.co_firstlineno
    assert (found.line, found.column) == (first + 3, 5)
    assert codes(decided_by_others, Placement()) == []


def test_a_decision_on_the_record_of_its_owner_is_heard_without_the_value() -> None:
    assert codes(decided_by_risk) == []


def test_whoever_decides_on_the_record_must_see_the_value_too() -> None:
    assert codes(decided_by_desk) == ['M503 only risk may see "score", but desk would have to decide']


def test_whether_a_loop_goes_on_is_decided_likewise() -> None:
    assert codes(rounds) == ['M503 only risk may see "score", but desk would have to decide']


# M510


@workflow
async def followed(order: str, *, risk: Risk, desk: Desk) -> None:
    await risk.score(order)
    await desk.look(order)


@workflow
async def followed_by_its_own(order: str, *, risk: Risk, desk: Desk) -> None:
    score = await risk.score(order)
    await risk.archive(order)
    await desk.flag(score > 80)


@workflow
async def followed_by_what_it_allows(order: str, *, risk: Risk, desk: Desk) -> None:
    grade = await risk.grade(order)
    await desk.note(grade)


@workflow
async def handed_over(order: str, *, risk: Risk, desk: Desk) -> None:
    score = await risk.score(order)
    await desk.note(score + 1)


@workflow
async def asked_with_another(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    score = await risk.score(order)
    await risk.archive(order)
    count = await stock.count(order)
    if score > 80 and count > 2:
        await desk.look(order)


@workflow
async def compared_before(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    score = await risk.score(order)
    is_risky = score > 80
    await risk.archive(order)
    count = await stock.count(order)
    if is_risky and count > 2:
        await desk.look(order)


@workflow
async def told(order: str, *, risk: Risk, desk: Desk) -> None:
    score = await risk.score(order)
    await risk.archive(order)
    await desk.tell(f"score {score}")


@workflow
async def taken_back_by_another(order: str, *, risk: Risk, desk: Desk) -> None:
    await risk.hold(order).compensate(desk.undo)
    await risk.archive(order)


@workflow
async def before_it(order: str, *, risk: Risk, desk: Desk) -> None:
    await desk.look(order)
    await risk.hold(order)


@workflow
async def joined(order: str, *, risk: Risk, desk: Desk, stock: Stock) -> None:
    await together(risk.score(order), stock.pick(order))
    await desk.look(order)


@workflow
async def all_of_them(orders: tuple[str, ...], *, risk: Risk, desk: Desk) -> None:
    await each(orders, lambda order: risk.score(order), limit=5, by=risk)  # noqa: PLW0108 - a workflow names its steps
    await desk.tell("done")


@workflow
async def around_it(order: str, *, risk: Risk, desk: Desk) -> None:
    async with choreography():
        await risk.score(order)
        async with orchestration():
            await desk.look(order)


@workflow
async def scored(order: str, *, risk: Risk) -> int:
    return await risk.score(order)


@workflow
async def called(order: str, *, risk: Risk, desk: Desk) -> None:
    score = await scored(order, risk=risk)
    async with attempt():
        await desk.note(score)


@pytest.mark.parametrize(
    ("flow", "found"),
    [
        (followed, ["M510 the result of risk.score would pass through desk, who may not see it"]),
        (followed_by_its_own, []),
        (followed_by_what_it_allows, []),
        (handed_over, ['M510 "score" is given to desk, who may not see it']),
        (asked_with_another, ['M510 "score" would pass through stock, who may not see it']),
        (compared_before, []),
        (told, ['M510 "score" is given to desk, who may not see it']),
        (taken_back_by_another, ["M510 the result of risk.hold is given to desk, who may not see it"]),
        (before_it, []),
        (joined, ["M510 the result of risk.score would pass through desk, who may not see it"]),
        (all_of_them, ["M510 the result of risk.score would pass through desk, who may not see it"]),
        (around_it, []),
        (called, ["M510 the result of risk.score is given to desk, who may not see it"]),
    ],
)
def test_a_private_value_comes_to_its_audience_only(flow: Workflow[Any, Any, Any], found: list[str]) -> None:
    assert codes(flow) == found


@pytest.mark.parametrize("flow", [handed_over, told, taken_back_by_another, called])
def test_what_is_handed_over_no_style_mends_and_so_none_is_offered(flow: Workflow[Any, Any, Any]) -> None:
    assert [c.partition(" ")[0] for c in codes(flow, Placement())] == ["M510"]
    assert "orchestrat" not in check(flow.tree, CHOREOGRAPHED)[0].remedy


@pytest.mark.parametrize("flow", [followed, joined, all_of_them])
def test_who_only_passes_it_on_hears_nothing_where_it_is_orchestrated(flow: Workflow[Any, Any, Any]) -> None:
    (found,) = check(flow.tree, CHOREOGRAPHED)
    assert f'styles={{"{flow.name}": "orchestration"}}' in found.remedy
    assert codes(flow, Placement()) == []


@workflow
async def in_two_sections(order: str, *, risk: Risk, desk: Desk) -> None:
    async with choreography():
        async with choreography():
            await risk.score(order)
        await desk.look(order)


def test_the_smallest_part_that_helps_is_what_is_offered() -> None:
    (found,) = check(in_two_sections.tree)
    assert 'styles={"in_two_sections/1": "orchestration"}' in found.remedy
    inner = Placement(sections={"1": "orchestration"})
    assert codes(in_two_sections, inner) == []
    (found,) = check(in_two_sections.tree, CHOREOGRAPHED)
    assert 'styles={"in_two_sections/1": "orchestration"}' in found.remedy
    assert codes(in_two_sections, replace(CHOREOGRAPHED, sections={"1": "orchestration"})) == []
    assert codes(in_two_sections, replace(CHOREOGRAPHED, sections={"1.1": "orchestration"})) == []


# What is no disclosure


@pytest.mark.parametrize(
    ("e", "variables"),
    [
        (("var", 1), {1}),
        (("compare", ("var", 1), "gt", ("lit", 80)), set()),
        (("not", ("var", 1)), set()),
        (("call", "any", ("var", 1)), set()),
        (("call", "str", ("var", 1)), {1}),
        (("and", ("compare", ("var", 1), "gt", ("lit", 0)), ("var", 2)), {2}),
        (("if", ("var", 1), ("var", 2), ("lit", 0)), {2}),
        (("record", (("score", ("var", 1)),)), {1}),
        (("add", ("var", 1), ("var", 2)), {1, 2}),
        (("format", "a", (("var", 1), "", "")), {1}),
    ],
)
def test_a_yes_or_a_no_discloses_nothing_and_all_else_does(e: tuple[Any, ...], variables: set[int]) -> None:
    assert disclosed(e) == variables


# No participant sees what the check does not know of


def private_everywhere(tree: WorkflowTree) -> WorkflowTree:
    return replace(tree, audiences={n.position: () for n in _positions(tree.body) if isinstance(n, Step)})


@pytest.mark.parametrize("seed", [*range(10), 39])
def test_what_a_service_comes_to_know_was_foreseen(seed: int) -> None:
    tree = Maker(seed).workflow(3)
    mixed: WorkflowTree = replace(tree, body=_as_seq(sectioned(tree.body, random.Random(seed), [0])))
    for t in map(private_everywhere, (_without(tree), mixed)):
        for style in ("orchestration", "choreography"):
            plan = make_plan(t, Placement(root=style))
            foreseen, discloses = {leak.pair for leak in leaks(plan)}, shown(plan)
            owner = {r.position: r.about["service"] for r in plan.steps()}
            ensemble = Ensemble(plan.to_json(), t, Oracle(seed), seed % 13, seed)
            ensemble.run()
            for service, k in ensemble.minds.items():
                if service.startswith("@"):
                    continue  # home, where all conductors are
                own = {p.removesuffix("!") for (p, _), (label, value) in k.outcomes.items() if label == "ok" and value}
                carried = {p for (v, _), raw in k.carried.items() if raw != b"[]" for p in discloses[v]}
                seen = {(p, service) for p in (own & owner.keys()) | carried if owner[p] != service}
                assert seen <= foreseen, (style, service)


# The declaration


def test_only_a_plan_that_has_private_values_says_so() -> None:
    plan = load_plan(make_plan(decided_by_others.tree).to_json())
    said = {r.position: r.about.get("private") for r in plan.steps()}
    assert said == {"1": [], "2.then.1": None, "2.else.1": None}
    open_ = replace(decided_by_others.tree, audiences={})
    assert make_plan(open_).digest != plan.digest
    assert all("private" not in r.about for r in make_plan(open_).rules)
    plain = made.workflow(made.step("1"))
    assert make_plan(plain).digest == make_plan(replace(plain, schemas={"1": {"type": "string"}})).digest


def test_an_audience_is_part_of_the_declared_action() -> None:
    assert service_spec(Risk).actions["score"].private == ()
    assert service_spec(Risk).actions["grade"].private == ("desk",)
    assert service_spec(Desk).actions["look"].private is None


def nameless() -> type[Service]:
    class Wrong(Service, name="wrong"):
        @action(private=("Card Billing",))
        async def score(self, order: str) -> int:
            return 0

    return Wrong


def resultless() -> type[Service]:
    class Wrong(Service, name="wrong"):
        @action(private=())
        async def score(self, order: str) -> None: ...

    return Wrong


def more_open_than_promised() -> type[Service]:
    class Wrong(Service, implements=Risk):
        @action(pure=True)
        async def score(self, order: str) -> int:
            return 0

        @action(pure=True, private="desk")
        async def grade(self, order: str) -> int:
            return 0

        @action(pure=True)
        async def archive(self, order: str) -> None: ...

        @action(private=())
        async def hold(self, order: str) -> int:
            return 0

        @compensation(hold)
        async def release(self, held: int) -> None: ...

    return Wrong


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (nameless, "is private to 'Card Billing', which is no name of a service"),
        (resultless, "is private, and returns nothing"),
        (more_open_than_promised, r"risk.score is private=None, its contract says private=\(\)"),
    ],
)
def test_an_audience_that_cannot_be_is_refused(declared: Callable[[], type[Service]], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        service_spec(declared())
