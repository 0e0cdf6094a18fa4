"""Each marked line is a mistake that a type checker finds; every other line is right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from minuet import (
    Rejection,
    Service,
    Transaction,
    action,
    attempt,
    compensation,
    dry_run,
    each,
    event,
    injected,
    on,
    outside,
    sleep,
    together,
    wait_for,
    workflow,
)


@dataclass(frozen=True)
class Receipt:
    id: str


@dataclass(frozen=True)
class Hold:
    id: str


@event("orders.placed", version=1, key="order")
@dataclass(frozen=True)
class Placed:
    order: str


@event("orders.shipped", version=1, key="order")
@dataclass(frozen=True)
class Shipped:
    order: str


class SoldOut(Rejection): ...


class Payments(Service):
    @action(rejects=(SoldOut,), retry=3)
    async def charge(self, order: str, amount: Decimal, *, tx: Transaction = injected()) -> Receipt:
        return Receipt(order)

    @compensation(charge)
    async def refund(self, receipt: Receipt, *, tx: Transaction = injected()) -> None: ...

    @compensation(charge)  # error: arg-type
    async def refund_hold(self, hold: Hold) -> None: ...

    @compensation(charge, rejects=(SoldOut,))  # error: arg-type
    async def refund_maybe(self, receipt: Receipt) -> None: ...

    @action(pure=True)
    def limit(self, order: str) -> int:
        return len(order)

    @action(rejects=(ValueError,))  # error: arg-type
    async def reject_wrongly(self) -> None: ...

    @action(retries=3)  # error: call-overload
    async def misspelt(self) -> None: ...

    @action(outside=outside(idempotency="maybe"))  # error: arg-type
    async def hope(self) -> None: ...

    @on(Placed)
    async def hear(self, placed: Placed, tx: Transaction = injected()) -> None: ...

    @on(Placed)  # error: arg-type
    async def hear_wrongly(self, shipped: Shipped) -> None: ...

    @on(Placed, on_gap="shrug")  # error: arg-type
    async def hear_oddly(self, placed: Placed) -> None: ...


class Inventory(Service):
    @action
    async def reserve(self, order: str, size: int = 1) -> Hold:
        return Hold(order)

    @compensation(reserve)
    async def release(self, hold: Hold) -> None: ...


async def right(order: str, *, payments: Payments, inventory: Inventory) -> str:
    receipt = await payments.charge(order, Decimal(5)).compensate(payments.refund).retry(5).timeout(30)
    hold = await inventory.reserve(order, size=2)
    limit = await payments.limit(order)
    a, b = await together(payments.charge(order, Decimal(1)), inventory.reserve(order))
    holds = await each([order], lambda x: inventory.reserve(x), limit=5)
    async with attempt(SoldOut) as tried:
        last = await inventory.reserve(order)
    if tried.rejected:
        return tried.rejected.code
    await sleep(timedelta(days=1), by=payments)
    placed = await wait_for(Placed, key=order)
    maybe = await wait_for(Placed, key=order, timeout=5)
    late = "" if maybe is None else maybe.order
    return receipt.id + hold.id + str(limit + 1) + a.id + b.id + holds[0].id + last.id + placed.order + late


async def wrong(order: str, *, payments: Payments, inventory: Inventory) -> str:
    await payments.charge(order)  # error: call-arg
    await payments.charge(order, 5)  # error: arg-type
    await payments.charge(order, Decimal(5), 7)  # error: call-arg
    await payments.charge(order, Decimal(5), key="x")  # error: call-arg
    await payments.pay(order)  # error: attr-defined
    await payments.charge(order, Decimal(5)).compensate(inventory.release)  # error: arg-type
    await payments.charge(order, Decimal(5)).compensate(payments.limit)  # error: arg-type
    await payments.charge(order, Decimal(5)).retry("5")  # error: arg-type
    await payments.charge(order, Decimal(5)).timeout(30, then="wait")  # error: arg-type
    await payments.charge(order, Decimal(5)).retries(5)  # error: attr-defined
    receipt = await payments.charge(order, Decimal(5))
    await payments.refund(order)  # error: arg-type
    await inventory.release(receipt)  # error: arg-type
    await inventory.reserve(receipt.number)  # error: attr-defined
    a, b = await together(payments.charge(order, Decimal(1)), inventory.reserve(order))
    await inventory.release(a)  # error: arg-type
    await together(payments.charge(order, Decimal(1)), order)  # error: call-overload
    holds = await each([order], lambda x: inventory.reserve(x), limit=5)
    await payments.refund(holds[0])  # error: arg-type
    await each([order], lambda x: inventory.reserve(x))  # error: call-arg
    await each([5], lambda x: inventory.reserve(x), limit=5)  # error: arg-type
    async with attempt(ValueError):  # error: arg-type
        pass
    async with attempt(SoldOut) as tried:
        pass
    _ = tried.rejected.code  # error: union-attr
    maybe = await wait_for(Placed, key=order, timeout=5)
    _ = maybe.order  # error: union-attr
    placed = await wait_for(Placed, key=order)
    _ = placed.parcel  # error: attr-defined
    await wait_for(Placed)  # error: call-overload
    await sleep("1 day")  # error: call-overload
    return b  # error: return-value


@workflow
async def known(order: Receipt, *, payments: Payments) -> Hold:
    await payments.limit(order.id)
    return Hold(order.id)


@workflow
async def calling(order: Receipt, *, payments: Payments) -> str:
    hold = await known(order, payments=payments)
    return hold.id


async def trying(payments: Payments, inventory: Inventory) -> None:
    done = await dry_run(known, Receipt("a"), payments=payments)
    _ = done.result.id  # error: union-attr
    await dry_run(known, "a", payments=payments)  # error: misc
    await dry_run(known, Receipt("a"), payments=5)  # error: arg-type
    await dry_run(right, "a", payments=payments)  # error: arg-type
    known("a", payments=payments)  # error: arg-type
    known(Receipt("a"), payments=inventory)  # error: arg-type
    known(Receipt("a"))  # error: call-arg
