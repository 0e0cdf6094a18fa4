from dataclasses import dataclass
from decimal import Decimal

from minuet import Rejection, Service, Transaction, action, compensation, event, injected, publish, together, workflow


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
class Receipt:
    id: str
    risk: int = 0


@dataclass(frozen=True)
class Hold:
    id: str


@dataclass(frozen=True)
class Parcel:
    id: str


@event("orders.confirmed", version=1, key="order", public=True)
@dataclass(frozen=True)
class Confirmed:
    order: str
    parcel: str


class CardDeclined(Rejection, code="card-declined"): ...


class OutOfStock(Rejection): ...


class Orders(Service):
    @action
    async def open(self, order: Order, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into orders (id, total) values (?, ?)", order.id, str(order.total))
        return order.id

    @compensation(open)
    async def cancel(self, order_id: str, *, tx: Transaction = injected()) -> None:
        await tx.execute("update orders set state = 'cancelled' where id = ?", order_id)

    @action(emits=(Confirmed,))
    async def confirm(self, order_id: str, parcel: Parcel) -> None:
        publish(Confirmed(order_id, parcel.id))

    @action
    async def backorder(self, order_id: str) -> None: ...


class Payments(Service):
    @action(rejects=(CardDeclined,), touches="account", effect_key="order_id")
    async def charge(self, order_id: str, amount: Decimal, card: str) -> Receipt:
        if amount > 1000:
            raise CardDeclined("over the limit", amount=amount)
        return Receipt(f"r-{order_id}")

    @compensation(charge)
    async def refund(self, receipt: Receipt) -> None: ...
    @action
    async def review(self, receipt: Receipt) -> None: ...


class Inventory(Service):
    @action(rejects=(OutOfStock,), touches="stock")
    async def reserve(self, lines: tuple[Line, ...]) -> Hold:
        return Hold("h-1")

    @compensation(reserve)
    async def release(self, hold: Hold) -> None: ...


class Shipping(Service):
    @action
    async def ship(self, hold: Hold, address: str) -> Parcel:
        return Parcel("p-1")

    @action
    async def chase(self, parcel: Parcel) -> None: ...


@workflow
async def place_order(
    order: Order, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> Parcel:
    order_id = await orders.open(order).compensate(orders.cancel)
    receipt, hold = await together(
        payments.charge(order_id, order.total, order.card).compensate(payments.refund).retry(5),
        inventory.reserve(order.lines).timeout(30),  # compensated by release: its contract says so
    )
    if receipt.risk > 80:  # by agreement: the label rides on a fact that is sent anyway
        await payments.review(receipt).keep()
    parcel = await shipping.ship(hold, order.address)  # from here on only forward
    await orders.confirm(order_id, parcel)
    return parcel
