"""W1: runs of three steps, one after another; each step returns about 100 bytes, durable before the next begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figure, Figures, Work, ratio
from benchmarks.meter import Disk, Meter, in_closed_loop, peak_mb, percentiles
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.program import open_app
from minuet import Service, Transaction, action, injected, workflow

AT_ONCE = 500
SYNCS_A_RUN = 4  # the start and three results


@dataclass(frozen=True)
class Order:
    id: str
    note: str


class Steps(Service):
    @action
    async def reserve(self, order: Order) -> str:
        return f"{order.id} {order.note}"

    @action
    async def charge(self, reserved: str) -> str:
        return reserved

    @action
    async def ship(self, charged: str) -> str:
        return charged


class Books(Service):
    """The same steps, each with a row of its own in the transaction of its result."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists books (entry integer primary key, step text, note text)")

    @action
    async def reserve(self, order: Order, *, tx: Transaction = injected()) -> str:
        return await self._enter(tx, "reserve", f"{order.id} {order.note}")

    @action
    async def charge(self, reserved: str, *, tx: Transaction = injected()) -> str:
        return await self._enter(tx, "charge", reserved)

    @action
    async def ship(self, charged: str, *, tx: Transaction = injected()) -> str:
        return await self._enter(tx, "ship", charged)

    async def _enter(self, tx: Transaction, step: str, note: str) -> str:
        await tx.execute("insert into books (step, note) values (?, ?)", step, note)
        return note


@workflow
async def sequence(order: Order, *, steps: Steps) -> str:
    reserved = await steps.reserve(order)
    charged = await steps.charge(reserved)
    return await steps.ship(charged)


@workflow
async def sequence_in_books(order: Order, *, books: Books) -> str:
    reserved = await books.reserve(order)
    charged = await books.charge(reserved)
    return await books.ship(charged)


def order(number: int) -> Order:
    """Give an order whose steps answer with about 100 bytes."""
    return Order(f"{number:08}", "n" * 90)


def at_once(folder: Path, shared: Path, size: int, *, in_books: bool = False) -> Figures:
    """Perform `size` runs, as many at once as serves best."""
    return asyncio.run(perform_at_once(folder / "w1.db", size, in_books=in_books))


async def perform_at_once(store: Path, size: int, *, in_books: bool = False) -> Figures:
    """Perform runs in a store; also used beside rows that are there already."""
    flow = sequence_in_books if in_books else sequence
    async with open_app([Books() if in_books else Steps()], [flow], store) as app:
        await in_closed_loop(min(size, AT_ONCE), AT_ONCE, lambda i: app.run(flow, order(i)))
        with Meter() as meter:
            await in_closed_loop(size, AT_ONCE, lambda i: app.run(flow, order(i)))
    return meter.figures(size)


def one_at_a_time(folder: Path, shared: Path, size: int) -> Figures:
    """Perform `size` runs, each after the last; measure the disk in between."""
    return asyncio.run(_one_at_a_time(folder, size))


async def _one_at_a_time(folder: Path, size: int) -> Figures:
    log, file = Disk(folder, size), Disk(folder, size, grows=False)
    taken_s, cpu_s = [], 0.0
    async with open_app([Steps()], [sequence], folder / "w1.db") as app:
        for i in range(20):
            await app.run(sequence, order(i))
        for i in range(size):
            with Meter() as meter:
                await app.run(sequence, order(i))
            taken_s.append(meter.secs)
            cpu_s += meter.cpu_s
            log.sync()
            file.sync()
    log.close()
    file.close()
    found = percentiles(taken_s)
    return {
        "per_s": size / sum(taken_s),
        "cpu_s_per_1000": cpu_s / size * 1000,
        **found,
        "memory_mb": peak_mb(),
        "sync_ms": log.median_ms,
        "p50_in_syncs": found["p50_ms"] / (SYNCS_A_RUN * log.median_ms),
        "p99_in_syncs": found["p99_ms"] / (SYNCS_A_RUN * log.median_ms),
        "p50_in_short_syncs": found["p50_ms"] / (SYNCS_A_RUN * file.median_ms),
    }


def _against(system: str, what: str = "at once") -> Bar:
    least = {"dbos": 130.0, "dbos, WAL": 75.0}[system]
    return Bar(
        what=f"runs/s, times {system}",
        value=lambda f: ratio(f("per_s", "W1", "minuet", what), f("per_s", "W1", system, what)),
        at_least=least,
    )


def _growth(name: str) -> Bar:
    def value(f: Figure) -> float | None:
        small = f("per_s", "W1", "minuet", "at once", ENTRIES[0].sizes[0])
        return ratio(f("per_s", "W1", "minuet", "at once"), small)

    return Bar(what=name, value=value)


ENTRIES = (
    Entry(
        system="minuet",
        what="at once",
        durability=SYNCED,
        program=f"{__name__}:at_once",
        sizes=(5_000, 20_000),
        quick=(40, 80),
    ),
    Entry(
        system="minuet",
        what="at once, an insert a step",
        durability=SYNCED + "; the step's own row in the same transaction",
        program=f"{__name__}:at_once",
        sizes=(2_500, 10_000),
        quick=(20, 40),
        options={"in_books": True},
    ),
    Entry(
        system="minuet",
        what="one at a time",
        durability=SYNCED,
        program=f"{__name__}:one_at_a_time",
        sizes=(250, 1_000),
        quick=(5, 10),
    ),
)

WORK = Work(
    name="W1",
    title="sequence: runs of 3 steps",
    entries=(
        *ENTRIES,
        *peers("at once", "w1_sequence:at_once", sizes=(100, 400), quick=(4, 8)),
        *peers("one at a time", "w1_sequence:one_at_a_time", sizes=(25, 100), quick=(2, 4)),
    ),
    bars=(
        Bar(what="runs/s", value=lambda f: f("per_s", "W1", "minuet", "at once"), at_least=5_000),
        Bar(
            what="CPU s per 1,000 runs",
            value=lambda f: f("cpu_s_per_1000", "W1", "minuet", "at once"),
            at_most=0.2,
        ),
        Bar(
            what="one at a time: p50, in 4 syncs of the disk",
            value=lambda f: f("p50_in_syncs", "W1", "minuet", "one at a time"),
            at_most=1.6,
        ),
        Bar(
            what="one at a time: p99, in 4 syncs of the disk",
            value=lambda f: f("p99_in_syncs", "W1", "minuet", "one at a time"),
            at_most=3,
        ),
        Bar(
            what="one at a time: p50, in 4 syncs of a file that has its length",
            value=lambda f: f("p50_in_short_syncs", "W1", "minuet", "one at a time"),
        ),
        *map(_against, SYSTEMS),
        Bar(
            what="an insert a step, times plain",
            value=lambda f: ratio(
                f("per_s", "W1", "minuet", "at once, an insert a step"), f("per_s", "W1", "minuet", "at once")
            ),
        ),
        _growth("runs/s at the larger size, times the smaller"),
    ),
)
