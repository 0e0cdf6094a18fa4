"""The classical order: opened, then paid beside reserved, then shipped; and what its performances recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minuet import Rejection, Service, action, choreography, compensation, orchestration, together, workflow
from minuet.observe.traced import TracedFact, TracedRun, TracedWait
from minuet.plans.placement import Placement
from minuet.plans.plan import Plan, load_plan, make_plan

BEGUN = 1_750_000_000_000


class No(Rejection): ...


class Orders(Service):
    @action(rejects=(No,))
    async def open(self, order: str) -> str:
        return order

    @compensation(open)
    async def cancel(self, order: str) -> None: ...


class Payments(Service):
    @action(rejects=(No,))
    async def charge(self, order: str) -> str:
        return order

    @compensation(charge)
    async def refund(self, receipt: str) -> None: ...


class Inventory(Service):
    @action(rejects=(No,))
    async def reserve(self, order: str) -> str:
        return order

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


class Shipping(Service):
    @action(rejects=(No,))
    async def ship(self, order: str) -> str:
        return order


@workflow
async def line(order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping) -> str:
    opened = await orders.open(order)
    paid = await payments.charge(opened)
    held = await inventory.reserve(paid)
    return await shipping.ship(held)


@workflow
async def parallel(order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping) -> str:
    opened = await orders.open(order)
    _, held = await together(payments.charge(opened), inventory.reserve(opened))
    return await shipping.ship(held)


@workflow
async def ends_in_choreography(
    order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    opened = await orders.open(order)
    paid = await payments.charge(opened)
    async with choreography():
        held = await inventory.reserve(paid)
        return await shipping.ship(held)


@workflow
async def ends_in_orchestration(
    order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    opened = await orders.open(order)
    paid = await payments.charge(opened)
    async with orchestration():
        held = await inventory.reserve(paid)
        return await shipping.ship(held)


@workflow
async def choreography_inside(
    order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    opened = await orders.open(order)
    async with choreography():
        _, held = await together(payments.charge(opened), inventory.reserve(opened))
    return await shipping.ship(held)


def planned(flow: object, style: str) -> Plan:
    """Give a plan as any reader has it, under a digest that does not change with the compiler."""
    plan = make_plan(flow.tree, Placement(root=style))  # type: ignore[attr-defined]
    return replace(load_plan(plan.to_json()), digest="0123456789abcdef")


def performed(
    *facts: tuple[str, str],
    state: str = "running",
    code: str = "",
    waiting: Sequence[TracedWait] = (),
    key: str = "o-1",
) -> TracedRun:
    """Give a run with these facts, each 10 ms after the one before."""
    traced = [TracedFact(position=p, label=x, at_ms=BEGUN + 10 * n) for n, (p, x) in enumerate(facts, 1)]
    over = state in ("completed", "compensated", "terminated")
    return TracedRun(
        run="38G63D4720000",
        key=key,
        state=state,
        started_at_ms=BEGUN,
        ended_at_ms=traced[-1].at_ms if over else None,
        code=code,
        facts=traced,
        waiting=waiting,
    )
