"""Inventory: what is on the shelf, and what is held for whom."""

from collections.abc import Mapping
from dataclasses import dataclass

from examples.shop.orders import Line
from minuet import Rejection, Service, Transaction, action, compensation, injected


@dataclass(frozen=True)
class Hold:
    order: str
    sku: str
    quantity: int


class OutOfStock(Rejection): ...


class Inventory(Service):
    def __init__(self, delivered: Mapping[str, int]) -> None:
        self.delivered = delivered  # pieces by article, before the first day

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists shelf (sku text primary key, free integer check (free >= 0))")
        await tx.execute("create table if not exists hold (order_id text, sku text, quantity integer)")
        await tx.executemany("insert or ignore into shelf (sku, free) values (?, ?)", self.delivered.items())

    @action(rejects=(OutOfStock,))
    async def reserve(self, order_id: str, line: Line, *, tx: Transaction = injected()) -> Hold:
        hold = Hold(order_id, line.sku, line.quantity)
        taken = await tx.execute(
            "update shelf set free = free - ? where sku = ? and free >= ?", hold.quantity, hold.sku, hold.quantity
        )
        if not taken:
            raise OutOfStock(f"there are not {hold.quantity} of {hold.sku}", sku=hold.sku)
        await tx.execute(
            "insert into hold (order_id, sku, quantity) values (?, ?, ?)", hold.order, hold.sku, hold.quantity
        )
        return hold

    @compensation(reserve)
    async def release(self, hold: Hold, *, tx: Transaction = injected()) -> None:
        await tx.execute("delete from hold where order_id = ? and sku = ?", hold.order, hold.sku)
        await tx.execute("update shelf set free = free + ? where sku = ?", hold.quantity, hold.sku)
