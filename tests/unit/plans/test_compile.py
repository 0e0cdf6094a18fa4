"""From the tree of a workflow to its rules."""

from __future__ import annotations

from minuet.contracts.service import Service, action
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.workflows.words import together
from minuet.workflows.workflow import workflow


class Shop(Service):
    @action
    async def price(self, sku: str) -> int: ...

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
