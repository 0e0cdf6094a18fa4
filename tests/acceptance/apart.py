"""A program whose services share nothing but messages, to be killed: every style, a wait, a timer, a compensation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from minuet import App, Context, Transaction, action, event, injected, sleep, together, wait_for, workflow
from tests.unit.runtime.apart import C, Inventory, O, Orders, Payments, Shipping, enter, line, line_led, place


@event("shop.nudged", version=1, key="order", external=True)
@dataclass(frozen=True)
class Nudged:
    order: str


class Desk(Shipping, name="desk"):
    @action
    async def note(self, what: str, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        await enter(tx, context, what)
        return what


@workflow
async def patient(order: str, *, orders: Orders, inventory: Inventory, desk: Desk) -> str:
    number, seen = await together(
        orders.open(order), wait_for(Nudged, key=order, by=desk, timeout=timedelta(seconds=20))
    )
    await sleep(timedelta(milliseconds=30), by=inventory)
    await inventory.reserve(order)
    return await desk.note("nudged" if seen else number)


app = App(
    "shop",
    services=[Orders(), Payments(), Inventory(), Shipping(), Desk()],
    workflows=[place, line, line_led, patient],
    styles={"place": C, "line": O, "line_led": C, "patient": C},
)
