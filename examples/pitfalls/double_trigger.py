"""One action, caused by a command and by an event: the workflow charges, and a reaction to its own event charges too.

python -m examples.pitfalls.double_trigger               one charge; the second cause is parked, with both paths
python -m examples.pitfalls.double_trigger --unguarded   two charges, and nobody is told
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from minuet import App, Service, action, event, on, publish, workflow

GUARDED = "--unguarded" not in sys.argv


@event("shop.order-confirmed", version=1, key="order")
@dataclass(frozen=True)
class OrderConfirmed:
    order: str
    cents: int


class Payments(Service):
    def __init__(self) -> None:
        self.charges: list[str] = []

    @action(effect_key="order" if GUARDED else None)  # the guard
    async def charge(self, order: str, cents: int) -> str:
        self.charges.append(order)
        return f"receipt {len(self.charges)}"

    @on(OrderConfirmed)  # from the days when there was no workflow
    async def when_confirmed(self, confirmed: OrderConfirmed) -> None:
        await self.charge(confirmed.order, confirmed.cents)


class Shop(Service):
    @action(emits=(OrderConfirmed,))
    async def confirm(self, order: str, cents: int) -> None:
        publish(OrderConfirmed(order, cents))


@workflow
async def place_order(order: str, *, payments: Payments, shop: Shop) -> str:
    receipt = await payments.charge(order, 1990)
    await shop.confirm(order, 1990)
    return receipt


async def main() -> None:
    """Place an order, and tell how often it was charged, and what is parked."""
    payments = Payments()
    app = App("double-trigger", services=[payments, Shop()], workflows=[place_order], store="sqlite://")
    async with app:
        print(await app.run(place_order, "o-17", key="o-17"))
        while any(s.position < s.newest for s in await app.control.letters.subscriptions()):
            await asyncio.sleep(0.01)
        print(f"charges of o-17: {len(payments.charges)}")
        for parked in await app.control.failed():
            print(f"parked: {parked.reason}")


if __name__ == "__main__":
    asyncio.run(main())
