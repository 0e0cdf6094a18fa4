"""A workflow that uses every construct, to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from minuet import (
    Rejection,
    Service,
    action,
    at,
    attempt,
    compensation,
    deadline,
    each,
    event,
    orchestration,
    sleep,
    together,
    wait_for,
    workflow,
)


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Receipt:
    id: str
    risk: int = 0


@event("carrier.picked-up", version=2, key="order")
@dataclass(frozen=True)
class PickedUp:
    order: str


class CardDeclined(Rejection): ...


class OutOfStock(Rejection): ...


class Orders(Service):
    @action
    async def open(self, order: Order) -> str:
        return order.id

    @compensation(open)
    async def cancel(self, order_id: str) -> None: ...

    @action
    async def backorder(self, order_id: str) -> None: ...


class Payments(Service):
    @action(rejects=(CardDeclined,))
    async def charge(self, order_id: str, amount: Decimal) -> Receipt:
        return Receipt(order_id)

    @compensation(charge)
    async def refund(self, receipt: Receipt) -> None: ...

    @action(pure=True)
    async def limit(self) -> int:
        return 100

    @action
    async def review(self, receipt: Receipt) -> None: ...


class Inventory(Service):
    @action(rejects=(OutOfStock,))
    async def reserve(self, line: Line) -> str:
        return line.sku

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


class Shipping(Service):
    @action
    async def ship(self, order_id: str) -> str:
        return order_id


@workflow
async def deliver(order_id: str, *, shipping: Shipping) -> str:
    async with deadline(3600):
        parcel = await shipping.ship(order_id).retry(3, first=2).timeout(60)
    return parcel  # noqa: RET504 - a name is to be drawn


@workflow
async def everything(
    order: Order, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str | None:
    order_id = await orders.open(order).keep()
    limit = await payments.limit()
    async with attempt(OutOfStock) as tried:
        receipt, _ = await together(
            payments.charge(order_id, order.total),
            each(order.lines, lambda line: inventory.reserve(line), limit=50, at_once=4),  # noqa: PLW0108 - `each` reads a lambda
        )
        if at(payments, receipt.risk > limit and order.total > 100):
            await payments.review(receipt).keep()
    if tried.rejected:
        await orders.backorder(order_id)
        return None
    for n in range(3):
        picked = await wait_for(PickedUp, key=order_id, by=shipping, timeout=timedelta(days=2))
        if picked is not None:
            break
        if n == 0:
            continue
        await sleep(timedelta(hours=12), by=shipping)
    else:
        raise OutOfStock("<nobody> came & went")
    async with orchestration(by="desk"):
        parcel = await deliver(order_id, shipping=shipping)
    return parcel  # noqa: RET504 - a name is to be drawn
