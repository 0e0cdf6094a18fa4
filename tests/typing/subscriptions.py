from decimal import Decimal

from minuet import Service, action, compensation, workflow
from tests.typing.billing_contracts import Billing


class Accounts(Service):
    @action
    async def suspend(self, account: str) -> str:
        return account

    @compensation(suspend)
    async def restore(self, account: str) -> None: ...


@workflow
async def renew(account: str, *, accounts: Accounts, billing: Billing) -> str:
    held = await accounts.suspend(account)
    charged = await billing.charge(held, Decimal(9))
    return charged.method
