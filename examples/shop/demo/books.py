"""The services' own tables, read from the file by somebody who writes nothing; and whether they add up."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from examples.shop.app import DELIVERED
from examples.shop.orders import Order
from examples.shop.workflows import REMINDERS
from minuet.runtime.view import RunView


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that must be so; `wrong` says where it is not."""

    what: str
    wrong: tuple[str, ...] = ()


class Books:
    """A connection that can only read, to the store, or to the stores of all services."""

    def __init__(self, store: Path) -> None:
        self._connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        for service in ("orders", "payments", "inventory", "shipping"):  # where each has a store of its own
            own = store.with_name(f"{store.stem}.{service}{store.suffix}")
            if own.exists():
                self._connection.execute(f"attach 'file:{own}?mode=ro' as {service}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def settled(self) -> int:
        """Count the orders whose end is on the books: closed, backordered or cancelled."""
        return int(self._all("select count(*) from orders where state <> 'open'")[0][0])

    def reminded(self) -> set[str]:
        """Give the parcels of open orders for which no further reminder will be sent."""
        rows = self._all(
            "select parcel from reminder where parcel in (select 'parcel-' || id from orders where state = 'open')"
            " group by parcel having count(*) = ?",
            REMINDERS,
        )
        return {parcel for (parcel,) in rows}

    def parcels_after(self, row: int) -> list[tuple[int, str]]:
        """Give the parcels that were booked after a row, each with its own."""
        return [
            (at, parcel) for at, parcel in self._all("select rowid, id from parcel where rowid > ? order by 1", row)
        ]

    def entries(self, kind: str) -> Counter[str]:
        """Count the entries of a kind in the ledger, by order."""
        return Counter(order for (order,) in self._all("select order_id from ledger where kind = ?", kind))

    def balance(self) -> Decimal:
        """Give what was charged and not refunded."""
        rows = self._all("select kind, amount from ledger where kind <> 'review'")
        return sum((Decimal(amount) if kind == "charge" else -Decimal(amount) for kind, amount in rows), Decimal(0))

    def parcels(self) -> Counter[str]:
        """Count the parcels, by order."""
        return Counter(parcel.removeprefix("parcel-") for (parcel,) in self._all("select id from parcel"))

    def held(self) -> Counter[tuple[str, str]]:
        """Give how many pieces are held, by order and article."""
        return Counter({(o, sku): n for o, sku, n in self._all("select order_id, sku, quantity from hold")})

    def free(self) -> dict[str, int]:
        """Give how many pieces are free, by article."""
        return dict(self._all("select sku, free from shelf"))

    def _all(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, arguments).fetchall()


def fate(run: RunView) -> str:
    """Give what became of an order, as its run says."""
    if run.state == "compensated" and run.rejection is not None:
        return run.rejection.code
    if run.state == "completed":
        return "backordered" if run.result == "backordered" else "delivered"
    if run.state == "running" and any(w.what == "event" for w in run.waiting):
        return "waiting"
    return run.state


STANDS = ("delivered", "waiting")
REFUNDED = ("backordered", "address-unknown")


def check(
    acknowledged: Iterable[str], orders: Mapping[str, Order], runs: Mapping[str, RunView], books: Books
) -> list[Check]:
    """Compare what was acknowledged, what the runs say, and what is in the services' tables."""
    fates = {key: fate(run) for key, run in runs.items()}
    known = {*STANDS, *REFUNDED, "card-declined"}
    stand = {key: orders[key] for key, f in fates.items() if f in STANDS}
    held = Counter({(key, line.sku): line.quantity for key, order in stand.items() for line in order.lines})
    charged = {key for key, f in fates.items() if f in STANDS or f in REFUNDED}
    refunded = {key for key, f in fates.items() if f in REFUNDED}
    by_sku: Counter[str] = Counter()
    for (_, sku), n in books.held().items():
        by_sku[sku] += n
    free, owed = books.free(), sum((order.total for order in stand.values()), Decimal(0))
    return [
        Check(
            what="every order that was acknowledged is there",
            wrong=tuple(key for key in acknowledged if key not in runs),
        ),
        Check(
            what="every run has ended, or waits for the carrier",
            wrong=tuple(f"{key} is {f}" for key, f in fates.items() if f not in known),
        ),
        Check(
            what="charged exactly once for each order, and for no declined card",
            wrong=_once(books.entries("charge"), charged),
        ),
        Check(
            what="refunded exactly once where charged and taken back", wrong=_once(books.entries("refund"), refunded)
        ),
        Check(
            what="one parcel for each order that stands, none for the others", wrong=_once(books.parcels(), set(stand))
        ),
        Check(
            what="held on the shelf: the lines of the orders that stand",
            wrong=tuple(f"{key}: {sku}" for key, sku in (held - books.held()) | (books.held() - held)),
        ),
        Check(
            what="free and held make what was delivered",
            wrong=tuple(sku for sku, n in DELIVERED.items() if free[sku] + by_sku[sku] != n),
        ),
        Check(
            what="charges less refunds are the totals of the orders that stand",
            wrong=() if books.balance() == owed else (f"{books.balance()} instead of {owed}",),
        ),
    ]


def _once(found: Counter[str], wanted: set[str]) -> tuple[str, ...]:
    keys = sorted(wanted | found.keys())
    return tuple(f"{key}: {found[key]}" for key in keys if found[key] != (1 if key in wanted else 0))
