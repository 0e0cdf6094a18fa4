"""Six reference workflows, one for each way in which a run goes on, and what may come of each.

`CASES`: for each the answers that its actions may give, so that every outcome is reached: all goes well, and each
action that may reject does so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from minuet import (
    App,
    Context,
    Rejection,
    Service,
    Transaction,
    action,
    attempt,
    compensation,
    each,
    event,
    injected,
    sleep,
    together,
    wait_for,
    workflow,
)
from minuet.testing.simulation.world import World
from tests.simulation.effects import done_twice


class No(Rejection, code="no"):
    """What an action answers that is told to reject."""


@event("carrier.picked-up", version=1, key="order", external=True)
@dataclass
class PickedUp:
    """That the carrier has it."""

    order: str


class Kept:
    """What all processes of a world share: who rejects, and the bank."""

    def __init__(self, world: World, rejecting: str) -> None:
        self.world = world
        self.rejecting = rejecting

    async def act(self, context: Context, what: str) -> None:
        """Take a while, tell the bank, and reject if this is the one that does."""
        await asyncio.sleep(0.01)
        if what == self.rejecting:
            raise No(f"{what} says no")
        direction = context.op_key.split(":")[3]
        await self.world.outside("bank").call(f"{what} {context.round} {direction}", context.op_key)


class _Team(Service):
    def __init__(self, kept: Kept) -> None:
        self.kept = kept


class Orders(_Team):
    """Plain actions."""

    @action(rejects=(No,))
    async def open(self, order: str, *, context: Context = injected()) -> str:
        """Open an order."""
        await self.kept.act(context, "open")
        return f"#{order}"

    @compensation(open)
    async def close(self, number: str, *, context: Context = injected()) -> None:
        """Take `open` back."""
        await self.kept.act(context, "close")

    @action(rejects=(No,))
    async def confirm(self, number: str, *, context: Context = injected()) -> str:
        """Confirm an order, which cannot be taken back."""
        await self.kept.act(context, "confirm")
        return f"confirmed {number}"


class Payments(_Team):
    """Transactional actions."""

    async def setup(self, tx: Transaction) -> None:
        """Make the service's table."""
        await tx.execute("create table if not exists effect (op_key text not null)")

    @action(rejects=(No,))
    async def charge(self, number: str, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        """Charge an order."""
        if self.kept.rejecting == "charge":
            raise No("charge says no")
        await tx.execute("insert into effect values (?)", context.op_key)
        return f"paid {number}"

    @compensation(charge)
    async def refund(self, receipt: str, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        """Take `charge` back."""
        await tx.execute("insert into effect values (?)", context.op_key)


class Stock(_Team):
    """Plain actions of another service."""

    @action(rejects=(No,))
    async def reserve(self, order: str, *, context: Context = injected()) -> int:
        """Reserve what an order needs."""
        await self.kept.act(context, "reserve")
        return 3

    @compensation(reserve)
    async def release(self, hold: int, *, context: Context = injected()) -> None:
        """Take `reserve` back."""
        await self.kept.act(context, "release")


@workflow
async def line(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> str:
    """Go one step after another."""
    number = await orders.open(order)
    receipt = await payments.charge(number)
    await stock.reserve(order)
    return await orders.confirm(receipt)


@workflow
async def fork(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> str:
    """Join two branches."""
    number = await orders.open(order)
    receipt, _ = await together(payments.charge(number), stock.reserve(order))
    return await orders.confirm(receipt)


@workflow
async def other_way(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> str:
    """Try one way, then another."""
    number = await orders.open(order)
    async with attempt() as first:
        await stock.reserve(order)
        receipt = await payments.charge(number)
        return await orders.confirm(receipt)
    if first.rejected:
        return await orders.confirm(number)
    return number


@workflow
async def rounds(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> int:
    """Go round, and choose."""
    number = await orders.open(order)
    total = 0
    for i in range(3):
        hold = await stock.reserve(order)
        total = total + hold + i
        if total > 5:
            await payments.charge(number)
            break
    return total


@workflow
async def many(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> int:
    """Do the same for each of several, beside each other."""
    await orders.open(order)
    holds = await each([order, order, order], lambda x: stock.reserve(x), limit=5)  # noqa: PLW0108 - a call is read
    await payments.charge(order)
    return len(holds)


@workflow
async def waits(order: str, *, orders: Orders, payments: Payments, stock: Stock) -> str:
    """Wait for an event from outside, and for time to pass."""
    number = await orders.open(order)
    told = await wait_for(PickedUp, key=order, by=stock)
    await sleep(5, by=payments)
    receipt = await payments.charge(told.order)
    return await orders.confirm(receipt + number)


WORKFLOWS: list[Any] = [line, fork, other_way, rounds, many, waits]
REJECTING = {
    "line": ("", "open", "charge", "reserve", "confirm"),
    "fork": ("", "open", "charge", "reserve", "confirm"),
    "other_way": ("", "reserve", "charge", "confirm"),
    "rounds": ("", "reserve", "charge"),
    "many": ("", "reserve", "charge"),
    "waits": ("", "charge", "confirm"),
}


class Reference:
    """One of the workflows with one outcome, in a world. `cancel`: it is cancelled on the way as well."""

    def __init__(self, flow: Any, rejecting: str, *, cancel: bool = False) -> None:
        self.flow, self.rejecting, self.cancel = flow, rejecting, cancel

    def build(self, world: World) -> App:
        """Make the app of one process."""
        kept = Kept(world, self.rejecting)
        return App(
            "reference",
            services=[Orders(kept), Payments(kept), Stock(kept)],
            workflows=[self.flow],
            events=[PickedUp],
        )

    async def perform(self, world: World) -> None:
        """Start one run, and send it its event."""
        world.checks.append(done_twice)
        run = await world.client.start(self.flow, "o", key="k")
        if self.flow is waits:
            await world.client.send(PickedUp("o"))
        if self.cancel:
            await asyncio.sleep(world.chance.between("cancel", 0, 0.3))
            await run.cancel()
