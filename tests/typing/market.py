from dataclasses import dataclass

from minuet import action, at, choreography, compensation, each, orchestration, workflow
from tests.typing.shop import Hold, Inventory, Line, Order, Orders, Parcel, Payments, Shipping


@dataclass(frozen=True)
class Packing:
    hold: Hold
    address: str
    lines: tuple[Line, ...]


class Warehouse(Shipping):
    @action(touches="dock")
    async def pack(self, hold: Hold, line: Line) -> Parcel:
        return Parcel(f"{hold.id}-{line.sku}")

    @compensation(pack)
    async def unpack(self, parcel: Parcel) -> None: ...


@workflow
async def pack_all(what: Packing, *, warehouse: Warehouse) -> list[Parcel]:
    return await each(what.lines, lambda line: warehouse.pack(what.hold, line), limit=50, at_once=8)


@workflow
async def marketplace(
    order: Order, *, orders: Orders, payments: Payments, inventory: Inventory, warehouse: Warehouse
) -> int:
    async with orchestration(by="sales-desk"):  # coarse steps: somebody is in control
        order_id = await orders.open(order)
        receipt = await payments.charge(order_id, order.total, order.card)
        if at(orders, receipt.risk > 80 and order.total > 500):  # orders decides, once, on the record
            await payments.review(receipt).keep()
        async with choreography():  # fine steps: opened by one event, heard at its end
            hold = await inventory.reserve(order.lines)
            parcels = await pack_all(Packing(hold, order.address, order.lines), warehouse=warehouse)
        await orders.confirm(order_id, parcels[0])
    return len(parcels)
