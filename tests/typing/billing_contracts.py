from dataclasses import dataclass
from decimal import Decimal

from minuet import Rejection, Service, action, compensation, event


@event("billing.charged", version=2, key="order", public=True)
@dataclass(frozen=True)
class Charged:
    order: str
    amount: Decimal
    method: str = "card"  # new in version 2


class CardDeclined(Rejection, code="card-declined"): ...


class Billing(Service, name="billing"):
    @action(rejects=(CardDeclined,), effect_key="order")
    async def charge(self, order: str, amount: Decimal) -> Charged:
        raise NotImplementedError

    @compensation(charge)
    async def refund(self, charged: Charged) -> None: ...
