"""Reactions that cause one another in a circle: stock reserves what was ordered, and the shop orders what was reserved.

python -m examples.pitfalls.event_loop               one reservation; the first repetition is parked, with both paths
python -m examples.pitfalls.event_loop --unguarded   many, until the limit of 64 hops ends it, and shows the circle
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from minuet import App, Service, action, event, on, publish

GUARDED = "--unguarded" not in sys.argv


@event("shop.ordered", version=1, key="order")
@dataclass(frozen=True)
class Ordered:
    order: str


@event("stock.reserved", version=1, key="order")
@dataclass(frozen=True)
class Reserved:
    order: str


class Stock(Service):
    def __init__(self) -> None:
        self.reservations: list[str] = []

    @action(effect_key="order" if GUARDED else None)  # the guard
    async def reserve(self, order: str) -> None:
        self.reservations.append(order)

    @on(Ordered, emits=(Reserved,))
    async def when_ordered(self, ordered: Ordered) -> None:
        await self.reserve(ordered.order)
        publish(Reserved(ordered.order))


class Shop(Service):
    @on(Reserved, emits=(Ordered,))
    async def when_reserved(self, reserved: Reserved) -> None:
        publish(Ordered(reserved.order))  # it meant to say that the order goes on


async def main() -> None:
    """Order once, and tell how often that was reserved, and what is parked."""
    stock = Stock()
    async with App("event-loop", services=[stock, Shop()], store="sqlite://") as app:
        await app.send(Ordered("o-17"))
        while not await app.control.failed():
            await asyncio.sleep(0.01)
        print(f"reservations of o-17: {len(stock.reservations)}")
        for parked in await app.control.failed():
            print(f"parked: {parked.reason}")


if __name__ == "__main__":
    asyncio.run(main())
