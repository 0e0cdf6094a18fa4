from decimal import Decimal

from minuet import Context, Service, Transaction, action, compensation, injected
from tests.typing.billing_contracts import Billing, CardDeclined, Charged


class CardBilling(Service, implements=Billing):  # compared with the contract at start and by `minuet check`
    @action(rejects=(CardDeclined,), effect_key="order")
    async def charge(
        self, order: str, amount: Decimal, *, tx: Transaction = injected(), context: Context = injected()
    ) -> Charged:
        rows = await tx.fetch("select credit from account where owner = $1 for update", context.key)
        if not rows or rows[0]["credit"] < amount:
            raise CardDeclined
        await tx.execute("update account set credit = credit - $1 where owner = $2", amount, context.key)
        return Charged(order, amount)

    @compensation(charge)
    async def refund(self, charged: Charged, *, tx: Transaction = injected()) -> None:
        await tx.execute("update account set credit = credit + $1 where owner = $2", charged.amount, charged.order)
