"""Orders: what was asked for, on which terms, and what has become of it."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from minuet import Service, Transaction, action, compensation, injected


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    card: str
    address: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Placed:
    """An order that was taken, with what was promised then: later settings do not change it."""

    id: str
    pick_up_within: timedelta
    return_window: timedelta


class Orders(Service):
    def __init__(self, *, pick_up_within: timedelta, return_window: timedelta) -> None:
        self.pick_up_within = pick_up_within
        self.return_window = return_window

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists orders (id text primary key, total text, state text)")

    @action
    async def place(self, order: Order, *, tx: Transaction = injected()) -> Placed:
        await tx.execute("insert into orders (id, total, state) values (?, ?, 'open')", order.id, order.total)
        return Placed(order.id, self.pick_up_within, self.return_window)

    @compensation(place)
    async def cancel(self, placed: Placed, *, tx: Transaction = injected()) -> None:
        await tx.execute("update orders set state = 'cancelled' where id = ?", placed.id)

    @action
    async def backorder(self, order_id: str, *, tx: Transaction = injected()) -> None:
        await tx.execute("update orders set state = 'backordered' where id = ?", order_id)

    @action
    async def close(self, order_id: str, *, tx: Transaction = injected()) -> None:
        await tx.execute("update orders set state = 'closed' where id = ?", order_id)
