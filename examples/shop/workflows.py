"""What happens to an order. Each function is read, not run: the program performs the plan that is made from it."""

from datetime import timedelta

from examples.shop.inventory import Hold, Inventory, OutOfStock
from examples.shop.orders import Order, Orders
from examples.shop.payments import Payments
from examples.shop.shipping import Parcel, PickedUp, Shipping
from minuet import attempt, choreography, each, sleep, together, wait_for, workflow

REMINDERS = 3
RISKY = 80


@workflow
async def reserve_all(order: Order, *, inventory: Inventory) -> list[Hold]:
    """Hold every line of an order, or none: when one is sold out, the others are released."""
    return await each(order.lines, lambda line: inventory.reserve(order.id, line), limit=50)


@workflow
async def hand_over(parcel: Parcel, within: timedelta, *, shipping: Shipping) -> str:
    """Wait for the carrier, remind them when they are late, and give the driver's name."""
    driver = ""
    for _ in range(REMINDERS):
        seen = await wait_for(PickedUp, key=parcel.id, by=shipping, timeout=within)
        if seen is not None:
            driver = seen.driver
            break
        await shipping.remind(parcel)
    else:
        late = await wait_for(PickedUp, key=parcel.id, by=shipping)  # however long it takes
        driver = late.driver
    return driver


@workflow
async def place_order(
    order: Order, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    """Take an order from the click to the end of its return window."""
    placed = await orders.place(order)

    # Sold out: what this block did is undone, and we go on below it.
    async with attempt(OutOfStock) as tried:  # noqa: SIM117 - two blocks, each with a meaning of its own
        # Between the two of them, nobody conducts this; a setting may have it otherwise.
        async with choreography():
            receipt, holds = await together(
                payments.charge(order.id, order.total, order.card).retry(5),
                reserve_all(order, inventory=inventory),
            )
    if tried.rejected:
        await orders.backorder(order.id)
        return "backordered"

    if receipt.risk > RISKY:
        await payments.review(receipt).keep()
    parcel = await shipping.book(order.id, order.address, holds)  # the last that may say no: from here only forward
    driver = await hand_over(parcel, placed.pick_up_within, shipping=shipping)
    await sleep(placed.return_window, by=orders)
    await orders.close(order.id)
    return f"delivered by {driver}"
