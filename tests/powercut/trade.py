"""What is performed while the disk is recorded: orders with steps, timers, waits, failures, compensations and events.

Each action writes within its transaction under its operation key, without any constraint that would hide a second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from minuet import (
    Context,
    Rejection,
    Service,
    Transaction,
    action,
    compensation,
    event,
    injected,
    on,
    publish,
    sleep,
    wait_for,
    workflow,
)

ORDERS = 16  # of one record
NOTE = "an order of some length, "


@dataclass(frozen=True)
class Order:
    id: str
    number: int
    note: str


@event("trade.held", version=1, key="order")
@dataclass(frozen=True)
class Held:
    order: str


@event("trade.confirmed", version=1, key="order")
@dataclass(frozen=True)
class Confirmed:
    order: str


class Refused(Rejection): ...


class Warehouse(Service):
    """Holds and sends. Fails at the first attempt at some orders, rejects others."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists shelf (sku integer primary key, free integer, note text)")
        await tx.execute("create table if not exists booking (op_key text, note text)")
        await tx.execute("create index if not exists booking_key on booking (op_key)")
        await tx.execute("create table if not exists heard (entry text)")
        await tx.executemany("insert or ignore into shelf values (?, ?, ?)", [(n, 1_000, NOTE) for n in range(40)])

    @action(emits=(Held,))
    async def hold(self, order: Order, *, tx: Transaction = injected(), context: Context = injected()) -> int:
        await tx.execute("update shelf set free = free - 1 where sku = ?", order.number % 40)
        await tx.execute("insert into booking values (?, ?)", context.op_key, order.note)
        publish(Held(order.id))
        return order.number % 40

    @compensation(hold)
    async def release(self, sku: int, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        await tx.execute("update shelf set free = free + 1 where sku = ?", sku)
        await tx.execute("insert into booking values (?, ?)", context.op_key, "")

    @action
    async def charge(self, order: Order, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        await tx.execute("insert into booking values (?, ?)", context.op_key, order.note)
        if order.number % 3 == 0 and context.attempt == 1:
            raise ConnectionError("it does not answer")
        return order.id

    @compensation(charge)
    async def refund(self, receipt: str, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        await tx.execute("insert into booking values (?, ?)", context.op_key, "")

    @action(rejects=(Refused,))
    async def send(self, order: Order, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        if order.number % 4 == 1:
            raise Refused("nobody drives there")
        shelf = await tx.fetch_one("select free, note from shelf where sku = ?", order.number % 40)
        assert shelf is not None
        assert shelf["free"] >= 0
        await tx.execute("insert into booking values (?, ?)", context.op_key, order.note)

    @on(Held)
    async def on_held(self, held: Held, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into heard values (?)", held.order)


@workflow
async def sell(order: Order, *, warehouse: Warehouse) -> str:
    """Hold, wait, charge, and send; or undo it."""
    await warehouse.hold(order)
    await sleep(timedelta(seconds=2), by=warehouse)
    await warehouse.charge(order)
    await wait_for(Confirmed, key=order.id, by=warehouse, timeout=timedelta(seconds=5))
    await warehouse.send(order)
    return order.id
