"""A program that dies between a charge and its record: `python -m tests.acceptance.charging STORE FILE [charge|book]`.

It charges one order by a step, outside (a line in FILE) and in a transaction; then a reaction to an event causes both
again. It prints what became of each.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from minuet import App, Context, Service, Transaction, action, event, injected, on, workflow


@event("orders.placed", version=1, key="order")
class Placed(msgspec.Struct, frozen=True):
    order: str


class Payments(Service):
    def __init__(self, file: Path, dies: str) -> None:
        self.file = file
        self.dies = dies

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (op_key text)")

    @action(effect_key="order")
    async def charge(self, order: str, *, context: Context = injected()) -> str:
        with self.file.open("a") as file:
            file.write(f"{order} {context.op_key}\n")
        if self.dies == "charge":
            os._exit(9)
        return context.op_key

    @action(effect_key="order")
    async def book(self, order: str, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        await tx.execute("insert into entry values (?)", context.op_key)
        if self.dies == "book":
            os._exit(9)
        return context.op_key

    @action
    async def entries(self, order: str, *, tx: Transaction = injected()) -> list[str]:
        return [str(row[0]) for row in await tx.fetch("select op_key from entry")]

    @on(Placed)
    async def on_placed(self, placed: Placed) -> None:
        await self.charge(placed.order)

    @on(Placed)
    async def also_on_placed(self, placed: Placed) -> None:
        await self.book(placed.order)


@workflow
async def pay(order: str, *, payments: Payments) -> str:
    await payments.charge(order)
    return await payments.book(order)


@workflow
async def entries(order: str, *, payments: Payments) -> list[str]:
    return await payments.entries(order)


async def main(store: str, file: str, dies: str = "") -> None:
    """Charge an order, or die; then cause it again, and tell."""
    app = App("charging", services=[Payments(Path(file), dies)], workflows=[pay, entries], store=f"sqlite:///{store}")
    async with app:
        print("paid by", await app.run(pay, "o-1", key="o-1"))
        await app.send(Placed("o-1"), id="placed")
        while len(await app.control.letters.dead_letters()) < 2:
            await asyncio.sleep(0.01)
        for letter in await app.control.letters.dead_letters():
            print(letter.subscription, letter.reason)
        print("entries", *await app.run(entries, "o-1"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
