"""Payments: a ledger of charges and refunds."""

from dataclasses import dataclass
from decimal import Decimal

from minuet import Rejection, Service, Transaction, action, compensation, injected

CARD_LIMIT = Decimal(1000)
DECLINED_CARD = "4000 0000 0000 0002"


@dataclass(frozen=True)
class Receipt:
    order: str
    amount: Decimal
    risk: int


class CardDeclined(Rejection): ...


class Payments(Service):
    async def setup(self, tx: Transaction) -> None:
        # No unique key, on purpose: whoever doubts that an order is charged once can count the rows.
        await tx.execute("create table if not exists ledger (entry integer primary key, kind, order_id, amount)")

    @action(rejects=(CardDeclined,))
    async def charge(self, order_id: str, amount: Decimal, card: str, *, tx: Transaction = injected()) -> Receipt:
        if card == DECLINED_CARD:
            raise CardDeclined("the bank says no")
        if amount > CARD_LIMIT:
            raise CardDeclined(f"{amount} is over the limit of {CARD_LIMIT}")
        await tx.execute("insert into ledger (kind, order_id, amount) values ('charge', ?, ?)", order_id, amount)
        return Receipt(order_id, amount, risk=90 if amount > CARD_LIMIT / 2 else 10)

    @compensation(charge)
    async def refund(self, receipt: Receipt, *, tx: Transaction = injected()) -> None:
        await tx.execute(
            "insert into ledger (kind, order_id, amount) values ('refund', ?, ?)", receipt.order, receipt.amount
        )

    @action
    async def review(self, receipt: Receipt, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into ledger (kind, order_id, amount) values ('review', ?, 0)", receipt.order)
