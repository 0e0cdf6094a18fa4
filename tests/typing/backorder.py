from datetime import timedelta

from pydantic import BaseModel

from minuet import attempt, deadline, event, sleep, wait_for, workflow
from tests.typing.shop import Inventory, Order, Orders, OutOfStock, Payments, Shipping


@event("carrier.picked-up", version=1, key="parcel", external=True)
class PickedUp(BaseModel):
    parcel: str
    driver: str = ""


@workflow
async def order_or_backorder(
    order: Order, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    order_id = await orders.open(order)
    async with attempt(OutOfStock) as tried:  # inside: compensated by itself when stock is out
        await payments.charge(order_id, order.total, order.card).compensate(payments.refund)
        async with deadline(timedelta(minutes=10), by=inventory):
            hold = await inventory.reserve(order.lines).compensate(inventory.release)
    if tried.rejected:
        await orders.backorder(order_id)
        return "backordered"
    parcel = await shipping.ship(hold, order.address)
    driver = ""
    for _ in range(3):  # the bound is part of the plan
        seen = await wait_for(PickedUp, key=parcel.id, by=shipping, timeout=timedelta(hours=4))
        if seen is not None:
            driver = seen.driver
            break
        await shipping.chase(parcel)
    await sleep(timedelta(days=14), by=orders)  # the return window
    await orders.confirm(order_id, parcel)
    return driver
