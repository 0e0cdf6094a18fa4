"""A shop whose services share nothing but messages, and what is seen of it in the store of each.

The workflows are written once; `STYLES` says how each is performed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from minuet import (
    App,
    Context,
    Rejection,
    Service,
    Transaction,
    action,
    choreography,
    compensation,
    injected,
    orchestration,
    together,
    workflow,
)
from minuet.runtime.host import Host
from minuet.runtime.settings import load_settings


class SoldOut(Rejection): ...


class Books(Service):
    """A service that writes down what it does, in the transaction that records it."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, run text, what text)")


async def enter(tx: Transaction, context: Context, what: str) -> None:
    await tx.execute("insert into entry (run, what) values (?, ?)", context.key, what)


class Orders(Books):
    @action
    async def open(self, order: str, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        await enter(tx, context, "opened")
        return f"#{order}"

    @compensation(open)
    async def close(self, number: str, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        await enter(tx, context, f"closed {number}")


class Payments(Books):
    @action
    async def charge(self, number: str, *, tx: Transaction = injected(), context: Context = injected()) -> str:
        await enter(tx, context, f"charged {number}")
        return f"paid {number}"

    @compensation(charge)
    async def refund(self, receipt: str, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        await enter(tx, context, f"refunded {receipt}")


class Inventory(Books):
    @action(rejects=(SoldOut,))
    async def reserve(self, order: str, *, tx: Transaction = injected(), context: Context = injected()) -> int:
        if order.startswith("none"):
            raise SoldOut("none left", sku="tea")
        await enter(tx, context, f"reserved {order}")
        return 3

    @compensation(reserve)
    async def release(self, hold: int, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        await enter(tx, context, f"released {hold}")


class Shipping(Books):
    @action
    async def ship(
        self, receipt: str, hold: int, *, tx: Transaction = injected(), context: Context = injected()
    ) -> str:
        await enter(tx, context, f"shipped {hold}")
        return f"{receipt}, {hold} pieces"


@workflow
async def place(order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping) -> str:
    number = await orders.open(order)
    receipt, hold = await together(payments.charge(number), inventory.reserve(order))
    return await shipping.ship(receipt, hold)


@workflow
async def place_around(
    order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    number = await orders.open(order)
    async with choreography():
        receipt, hold = await together(payments.charge(number), inventory.reserve(order))
    return await shipping.ship(receipt, hold)


@workflow
async def line(order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping) -> str:
    number = await orders.open(order)
    receipt = await payments.charge(number)
    hold = await inventory.reserve(order)
    return await shipping.ship(receipt, hold)


@workflow
async def line_freely(
    order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping
) -> str:
    number = await orders.open(order)
    receipt = await payments.charge(number)
    async with choreography():
        hold = await inventory.reserve(order)
        return await shipping.ship(receipt, hold)


@workflow
async def line_led(order: str, *, orders: Orders, payments: Payments, inventory: Inventory, shipping: Shipping) -> str:
    number = await orders.open(order)
    receipt = await payments.charge(number)
    async with orchestration():
        hold = await inventory.reserve(order)
        return await shipping.ship(receipt, hold)


SERVICES = ("orders", "payments", "inventory", "shipping")
WORKFLOWS = [place, place_around, line, line_freely, line_led]
O, C = "orchestration", "choreography"  # noqa: E741 - as in the design's tables

PERFORMANCES: list[tuple[Any, dict[str, str]]] = [
    (place, {"place": O}),
    (place, {"place": C}),
    (place_around, {"place_around": O}),
    (place_around, {"place_around": C, "place_around/2": O}),  # turned round by configuration
    (place_around, {"place_around": C}),  # a section of its own style is none
    (line, {"line": O}),
    (line, {"line": C}),
    (line_freely, {"line_freely": O}),
    (line_led, {"line_led": C}),
    (line_freely, {"line_freely": C, "line_freely/3": O}),
]
"""The classical order in every style: by the text, and by configuration without touching it."""


def shop() -> list[Service]:
    """Give the services of the shop."""
    return [Orders(), Payments(), Inventory(), Shipping()]


def program(
    tmp_path: Path,
    services: Sequence[Service],
    workflows: Iterable[Any],
    *,
    observer: bool = True,
    per_service: bool = True,
    settings: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[App, Any]:
    """Give an app, and the settings by which each service has a store of its own in this folder."""
    app = App("shop", services=services, workflows=workflows, **more)
    told = replace(
        load_settings(app=app.given),
        store_url=f"sqlite:///{(tmp_path / 'shop.db').as_posix()}",
        store_per_service=per_service,
        observer=observer,
        **(settings or {}),
    )
    return app, told


@asynccontextmanager
async def apart(
    tmp_path: Path, services: Sequence[Service], workflows: Iterable[Any], **more: Any
) -> AsyncIterator[App]:
    """Open an app in which each service has a store of its own."""
    app, settings = program(tmp_path, services, workflows, **more)
    await app.open(settings)
    try:
        yield app
    finally:
        await app.stop(0)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait until something is so that several stores' threads bring about."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.001)


def rows(folder: Path, service: str, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Read something of a participant's store, as another process would; `service` is empty for home."""
    file = folder / (f"shop.{service}.db" if service else "shop.db")
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return connection.execute(sql, arguments).fetchall()
    finally:
        connection.close()


def entries(folder: Path, key: str, services: Iterable[str] = SERVICES) -> dict[str, list[str]]:
    """Give what each service has written down about a run, in its order."""
    sql = "select what from entry where run = ? order by id"
    return {s: [what for (what,) in rows(folder, s, sql, key)] for s in services}


async def sent(app: App) -> int:
    """Count the messages of all participants, when each has sent what it has to say."""
    await until_quiet(app)
    return sum(host.exchange.relay.sent for host in app.hosts.all() if host.exchange is not None)


async def until_quiet(app: App) -> None:
    """Wait until nothing is to be sent any more, and everything that was sent is heard."""
    hosts = [*app.hosts.all(), *([app.hosts.observer] if app.hosts.observer is not None else [])]
    rounds = 0
    while rounds < 3:  # what is heard may have more to be said
        before = [(h.exchange.relay.sent, h.exchange.heard) for h in hosts if h.exchange is not None]
        for host in hosts:
            if host.exchange is not None:
                await until(lambda h=host: quiet(h))  # type: ignore[misc]
        await asyncio.sleep(0.005)
        after = [(h.exchange.relay.sent, h.exchange.heard) for h in hosts if h.exchange is not None]
        rounds = rounds + 1 if before == after else 0


async def quiet(host: Host) -> bool:
    """Say whether a participant has nothing to record, and nothing to send."""
    assert host.exchange is not None
    busy = any(k.uncommitted or k.owners for k in host.participant.runs.values())
    return not busy and not host.exchange.relay.backlog and not await host.store.sending(0, 1)
