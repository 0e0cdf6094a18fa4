"""One order, two workflows that both believe to be in charge: the shop's and the warehouse's both send a parcel.

python -m examples.pitfalls.two_orchestrators               one parcel; the second command is parked, with both paths
python -m examples.pitfalls.two_orchestrators --unguarded   two parcels
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from minuet import App, Service, action, workflow

GUARDED = "--unguarded" not in sys.argv


@dataclass(frozen=True)
class Order:
    id: str
    address: str


class Shipping(Service):
    def __init__(self) -> None:
        self.parcels: list[str] = []

    @action(effect_key="order.id" if GUARDED else None)  # the guard
    async def send(self, order: Order) -> str:
        self.parcels.append(order.id)
        return f"parcel {len(self.parcels)}"


@workflow
async def place_order(order: Order, *, shipping: Shipping) -> str:
    return await shipping.send(order)


@workflow
async def fulfil_order(order: Order, *, shipping: Shipping) -> str:
    return await shipping.send(order)


async def main() -> None:
    """Have both workflows see to one order at once, and tell how many parcels there are, and what is parked."""
    shipping, order = Shipping(), Order("o-17", "1 Sea Road")
    flows = [place_order, fulfil_order]
    async with App("two-orchestrators", services=[shipping], workflows=flows, store="sqlite://") as app:
        runs = (app.run(flow, order, key="o-17") for flow in flows)
        done = await asyncio.gather(*runs, return_exceptions=True)
        print(*sorted(x for x in done if isinstance(x, str)), sep="\n")
        print(f"parcels of o-17: {len(shipping.parcels)}")
        for parked in await app.control.failed():
            print(f"parked: {parked.reason}")


if __name__ == "__main__":
    asyncio.run(main())
