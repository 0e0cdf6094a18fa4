"""A mistake: a reaction takes the event that comes last for the newest one."""

from __future__ import annotations

from dataclasses import dataclass

from minuet import Service, Transaction, action, event, injected, on, publish, workflow
from minuet.testing import Simulation


@event("shop.price-changed", version=1, key="item")
@dataclass(frozen=True)
class PriceChanged:
    item: str
    price: int


class Prices(Service):
    @action(emits=(PriceChanged,), pure=True)
    async def change(self, item: str, price: int) -> None:
        publish(PriceChanged(item, price))


class Catalogue(Service):
    """Hears the prices of an item in the order in which they were said."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists price (item text primary key, price integer)")

    @on(PriceChanged, order_key="item", start="beginning")
    async def when_changed(self, changed: PriceChanged, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert or replace into price values (?, ?)", changed.item, changed.price)


class Hasty(Service, name="catalogue"):
    """Hears them as they come."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists price (item text primary key, price integer)")

    @on(PriceChanged, start="beginning")
    async def when_changed(self, changed: PriceChanged, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert or replace into price values (?, ?)", changed.item, changed.price)


@workflow
async def raise_often(item: str, *, prices: Prices) -> None:
    await prices.change(item, 2)
    await prices.change(item, 3)
    await prices.change(item, 4)
    await prices.change(item, 5)


async def the_newest_price_is_shown(sim: Simulation, catalogue: type[Service]) -> None:
    """Raise a price often: in the end the catalogue has the last one."""
    await sim.start(raise_often, "tea", services=lambda: [Prices(), catalogue()])
    sim.eventually(
        lambda: sim.query("catalogue", "select price from price where item = 'tea'") == [(5,)],
        label="the catalogue shows the newest price",
    )
