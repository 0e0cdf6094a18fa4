"""A mistake: a compensation needs what its action has kept in memory, which is gone in another process."""

from __future__ import annotations

import asyncio

from minuet import Rejection, Service, action, compensation, workflow
from minuet.testing import Simulation


class Payments(Service):
    """Takes back what it is given: the receipt says all that it needs."""

    @action
    async def charge(self, order: str) -> str:
        return f"receipt-{order}"

    @compensation(charge)
    async def refund(self, receipt: str) -> None: ...


class Forgetful(Service, implements=Payments):
    """Remembers for which order a receipt is, as long as the process lives."""

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}

    @action
    async def charge(self, order: str) -> str:
        self.orders[f"receipt-{order}"] = order
        return f"receipt-{order}"

    @compensation(charge)
    async def refund(self, receipt: str) -> None:
        del self.orders[receipt]


class SoldOut(Rejection): ...


class Stock(Service):
    @action(rejects=(SoldOut,), retry=1_000)  # a process that dies while it waits counts as a failure
    async def reserve(self, order: str) -> str:
        await asyncio.sleep(1)  # somebody goes and looks
        raise SoldOut("none left")

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


@workflow
async def place(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order)
    await stock.reserve(order)
    return receipt


async def nobody_is_needed(sim: Simulation, payments: type[Service]) -> None:
    """Place an order of what is sold out: it is paid back, without anybody's help."""
    run = await sim.start(place, "o-1", services=lambda: [payments(), Stock()])  # anew in each process
    sim.eventually(lambda: sim.state(run) == "compensated", label="the run ends by itself")
