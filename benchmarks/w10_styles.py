"""W10: W1's workflow over three services in both styles: in one store, and with a store for each service.

With a store each, nothing is shared but messages: each fact is recorded, sent, recorded again where it is heard. That
is what a process a service costs, without the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figure, Figures, Work, ratio
from benchmarks.meter import Meter, in_closed_loop, percentiles
from benchmarks.w1_sequence import Order, order
from minuet import App, Service, action, workflow
from minuet.runtime.process import tune_process
from minuet.runtime.settings import load_settings

AT_ONCE = 500
ONE_BY_ONE = 200  # runs, each after the last, for the latency
STYLES = ("orchestration", "choreography")


class Inventory(Service):
    @action
    async def reserve(self, order: Order) -> str:
        return f"{order.id} {order.note}"


class Payments(Service):
    @action
    async def charge(self, reserved: str) -> str:
        return reserved


class Shipping(Service):
    @action
    async def ship(self, charged: str) -> str:
        return charged


@workflow
async def sequence(order: Order, *, inventory: Inventory, payments: Payments, shipping: Shipping) -> str:
    reserved = await inventory.reserve(order)
    charged = await payments.charge(reserved)
    return await shipping.ship(charged)


@asynccontextmanager
async def _open(folder: Path, style: str, *, apart: bool) -> AsyncIterator[App]:
    app = App(
        "bench",
        services=[Inventory(), Payments(), Shipping()],
        workflows=[sequence],
        styles={"sequence": style},
        store=f"sqlite:///{folder / 'w10.db'}",
    )
    # The observer is left out: it would hear, and cost, the same in both styles.
    await app.open(load_settings(app=app.given, flags={"store_per_service": apart, "observer": False}))
    try:
        tune_process()
        yield app
    finally:
        await app.stop()


def perform(folder: Path, shared: Path, size: int, *, style: str, apart: bool) -> Figures:
    """Perform `size` runs, many at once, then some one by one."""
    return asyncio.run(_perform(folder, size, style, apart=apart))


async def _perform(folder: Path, size: int, style: str, *, apart: bool) -> Figures:
    taken_s = []
    async with _open(folder, style, apart=apart) as app:
        await in_closed_loop(min(size, AT_ONCE), AT_ONCE, lambda i: app.run(sequence, order(i)))
        sent = _sent(app)
        with Meter() as meter:
            await in_closed_loop(size, AT_ONCE, lambda i: app.run(sequence, order(i)))
        messages = _sent(app) - sent
        for i in range(min(size, ONE_BY_ONE)):
            with Meter() as one:
                await app.run(sequence, order(i))
            taken_s.append(one.secs)
    # The request and the notice of the end are calls where the orchestrator is home, and are counted all the same.
    calls = 2 * size if apart and style == "orchestration" else 0
    return {**meter.figures(size), **percentiles(taken_s), "messages_a_run": (messages + calls) / size}


def _sent(app: App) -> int:
    return sum(host.exchange.relay.sent for host in app.hosts.all() if host.exchange is not None)


def _entry(style: str, *, apart: bool) -> Entry:
    return Entry(
        system="minuet",
        what=f"{style}, {'a store each' if apart else 'one store'}",
        durability=SYNCED,
        program=f"{__name__}:perform",
        sizes=(500, 2_000) if apart else (5_000, 20_000),
        quick=(10, 20),
        options={"style": style, "apart": apart},
    )


def _compared(what: str, name: str, where: str, *, at_most: float | None = None) -> Bar:
    """Give orchestrated ÷ choreographed of a figure."""

    def value(f: Figure) -> float | None:
        one, other = (f(name, "W10", "minuet", f"{style}, {where}") for style in STYLES)
        return ratio(one, other)

    return Bar(what=f"{what}, orchestrated ÷ choreographed, {where}", value=value, at_most=at_most)


WORK = Work(
    name="W10",
    title="styles: W1's workflow over three services, orchestrated and choreographed",
    entries=tuple(_entry(style, apart=apart) for apart in (False, True) for style in STYLES),
    bars=(
        _compared("CPU s per 1,000 runs", "cpu_s_per_1000", "one store", at_most=1.3),
        _compared("p50", "p50_ms", "one store"),
        _compared("CPU s per 1,000 runs", "cpu_s_per_1000", "a store each"),
        _compared("p50", "p50_ms", "a store each"),
        Bar(
            what="messages a run, choreographed ÷ orchestrated, a store each",
            value=lambda f: ratio(
                *(f("messages_a_run", "W10", "minuet", f"{style}, a store each") for style in reversed(STYLES))
            ),
            at_most=0.6,
        ),
    ),
)
