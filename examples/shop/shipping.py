"""Shipping: parcels, and the carrier who picks them up or has to be reminded."""

from dataclasses import dataclass

from examples.shop.inventory import Hold
from minuet import Rejection, Service, Transaction, action, event, injected


@dataclass(frozen=True)
class Parcel:
    id: str
    pieces: int


@event("carrier.picked-up", version=1, key="parcel", external=True)
@dataclass(frozen=True)
class PickedUp:
    """Said by the carrier, from outside: perhaps before anybody waits for it."""

    parcel: str
    driver: str


class AddressUnknown(Rejection): ...


class Shipping(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists parcel (id text, address text, pieces integer)")
        await tx.execute("create table if not exists reminder (parcel text)")

    @action(rejects=(AddressUnknown,))
    async def book(self, order_id: str, address: str, holds: list[Hold], *, tx: Transaction = injected()) -> Parcel:
        if not any(character.isdigit() for character in address):
            raise AddressUnknown(f"there is no house number in {address!r}")
        parcel = Parcel(f"parcel-{order_id}", sum(hold.quantity for hold in holds))
        await tx.execute("insert into parcel (id, address, pieces) values (?, ?, ?)", parcel.id, address, parcel.pieces)
        return parcel

    @action
    async def remind(self, parcel: Parcel, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into reminder (parcel) values (?)", parcel.id)
