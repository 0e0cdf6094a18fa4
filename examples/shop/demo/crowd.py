"""The outside world: customers who order, and a carrier who picks up what was booked, soon, late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import TypeVar

from examples.shop.demo.books import Books
from examples.shop.orders import Line, Order
from examples.shop.payments import DECLINED_CARD
from examples.shop.shipping import PickedUp
from examples.shop.workflows import place_order
from minuet import Busy, Client, NotRunning, StoreUnavailable

T = TypeVar("T")

DRIVERS = ("Ada", "Bela", "Chidi", "Dana")
LOOK_EVERY_S = 0.1
CUSTOMERS = 16
VANS = 16


def order_number(n: int) -> Order:
    """Give the n-th order: the same whenever it is asked for. Some cards are declined, some addresses unknown."""
    lines = [Line("tea", 1 + n % 3)]
    if n % 2:
        lines.append(Line("cups", 2))
    if n % 5 == 0:
        lines.append(Line("coffee", 1))
    if n % 29 == 7:
        lines.append(Line("a teapot from 1820", 1))  # there are few of these
    return Order(
        id=f"o-{n:05}",
        total=Decimal(1_200 + n * 37 % 58_800) / 100,
        card=DECLINED_CARD if n % 25 == 3 else f"4242 4242 4242 {n % 10_000:04}",
        address="somewhere in the hills" if n % 31 == 11 else f"{1 + n % 250} Sea Road",
        lines=tuple(lines),
    )


class Customers:
    """They order, as many at a time as there are customers; who gets no answer asks again with the same key."""

    def __init__(self, client: Client, orders: int, customers: int = CUSTOMERS) -> None:
        self.acknowledged: list[str] = []
        self._client = client
        self._customers = customers
        self._numbers = iter(range(orders))

    async def order_all(self) -> None:
        """Go on until all orders are acknowledged."""
        await asyncio.gather(*(self._order(self._numbers) for _ in range(self._customers)))

    async def _order(self, numbers: Iterator[int]) -> None:
        for n in numbers:
            order = order_number(n)
            await until_answered(lambda order=order: self._client.start(place_order, order, key=order.id))  # type: ignore[misc]
            self.acknowledged.append(order.id)


class Carrier:
    """They look at what was booked; most parcels they pick up at once, some late, and some they never find."""

    def __init__(self, client: Client, books: Books, *, late_s: float) -> None:
        self.picked_up = 0
        self.never_found: set[str] = set()
        self._client = client
        self._books = books
        self._late_s = late_s
        self._last = 0
        self._vans = asyncio.Semaphore(VANS)

    async def work(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as drives:
            while True:
                for row, parcel in self._books.parcels_after(self._last):
                    self._last = row
                    n = int(parcel.rpartition("-")[2])
                    if n % 97 == 5:
                        self.never_found.add(parcel)
                    else:
                        drives.create_task(self._pick_up(parcel, n, self._late_s if n % 41 == 2 else 0))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _pick_up(self, parcel: str, n: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        seen = PickedUp(parcel, driver=DRIVERS[n % len(DRIVERS)])
        async with self._vans:
            await until_answered(lambda: self._client.send(seen, id=f"pick-up-of-{parcel}"))
        self.picked_up += 1


async def until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: with the same key or id, it is done once."""
    while True:
        try:
            return await ask()
        except (NotRunning, StoreUnavailable, Busy):
            await asyncio.sleep(0.05)
