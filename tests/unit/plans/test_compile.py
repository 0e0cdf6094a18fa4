"""From the tree of a workflow to its rules."""

from __future__ import annotations

from dataclasses import dataclass

from minuet.contracts.service import Service, action
from minuet.plans.placement import Placement
from minuet.plans.plan import load_plan, make_plan
from minuet.workflows.words import together
from minuet.workflows.workflow import workflow


class Shop(Service):
    @action
    async def price(self, sku: str) -> int:
        return len(sku)

    @action
    async def sell(self, amount: int) -> None: ...


@workflow
async def sell_two(sku: str, *, shop: Shop) -> int:
    one, other = await together(shop.price(sku), shop.price(sku))
    await shop.sell(one)
    return one + other


def test_each_value_of_branches_that_were_named_is_known_after_them() -> None:
    plan = make_plan(sell_two.tree, Placement())
    assert [r.position for r in plan.rules if r.kind == "run"] == ["1a", "1b", "2"]


@dataclass(frozen=True)
class Basket:
    skus: tuple[str, ...] = ()


class Kinds(Service):
    @action
    async def whole(self, x: int) -> None: ...

    @action
    async def truth(self, x: bool) -> None: ...

    @action
    async def ratio(self, x: float) -> None: ...

    @action
    async def count(self, skus: tuple[str, ...]) -> None: ...


@workflow
async def one_of_each(basket: Basket, *, kinds: Kinds) -> None:
    await kinds.whole(1)
    await kinds.truth(True)
    await kinds.ratio(1.0)
    await kinds.count(basket.skus)


def test_literals_that_python_calls_equal_stay_what_they_are() -> None:
    plan = make_plan(one_of_each.tree, Placement())
    arguments = [plan.values[r.arguments[0][1]] for r in plan.rules if r.kind == "run"]
    assert [repr(v.of[0]) for v in arguments[:3]] == ["('lit', 1)", "('lit', True)", "('lit', 1.0)"]


def test_a_field_may_have_a_list_for_its_default() -> None:
    plan = make_plan(one_of_each.tree, Placement())
    assert load_plan(plan.to_json()).digest == plan.digest
