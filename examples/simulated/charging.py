"""A mistake: a bank is charged without the operation key, so an attempt that is repeated charges twice."""

from __future__ import annotations

import itertools

from minuet import Context, Service, action, compensation, injected, workflow
from minuet.testing import Simulation
from minuet.testing.simulation.outside import Outside


class Payments(Service):
    """Says with every call what it is for: the bank answers a repeated one as it has answered the first."""

    def __init__(self, bank: Outside) -> None:
        self.bank = bank

    @action
    async def charge(self, order: str, context: Context = injected()) -> str:
        return await self.bank.call("charge", context.op_key, 100)

    @compensation(charge)
    async def refund(self, receipt: str, context: Context = injected()) -> None:
        await self.bank.call("refund", context.op_key, -100)


class Careless(Service, implements=Payments):
    """Numbers its calls: each attempt is another call, and the bank cannot know that two of them are one."""

    def __init__(self, bank: Outside) -> None:
        self.bank = bank
        self.numbers = itertools.count(1)

    @action
    async def charge(self, order: str) -> str:
        return await self.bank.call("charge", f"{order}-{next(self.numbers)}", 100)

    @compensation(charge)
    async def refund(self, receipt: str) -> None:
        await self.bank.call("refund", receipt, -100)


class Stock(Service):
    @action
    async def reserve(self, order: str) -> str:
        return f"hold-{order}"

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


@workflow
async def place(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order)
    await stock.reserve(order)
    return receipt


async def charged_once(sim: Simulation, payments: type[Service]) -> None:
    """Place an order, and perhaps cancel it: nobody is charged twice, and in the end all is paid, or nothing."""
    bank = sim.outside("bank", idempotent=True, lose_reply=0.2)
    services = [payments(bank), Stock()]  # type: ignore[call-arg] # both take a bank
    run = await sim.start(place, "o-1", services=services)
    sim.cancel_somewhere(run)
    sim.always(lambda: sum(e.amount or 0 for e in bank.effects) <= 100, "nobody is charged twice")
    sim.eventually(lambda: sum(e.amount or 0 for e in bank.effects) in (0, 100), label="all is paid, or nothing")
    sim.sometimes(lambda: any(e.kind == "refund" for e in bank.effects), "an order is cancelled after it was paid")
