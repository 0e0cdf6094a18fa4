"""W4: an event, to which A reacts and publishes, to which B reacts and publishes, to which C reacts; all durable."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from benchmarks.contest import Bar, Entry, Figures, Work
from benchmarks.meter import Meter, in_closed_loop, percentiles
from benchmarks.program import open_app
from minuet import Service, Transaction, event, injected, on, publish

AT_ONCE = 500
A_SECOND = 50
SYNCED_HOPS = "each event, and that it was applied, synced before the next reaction begins; group commit"


@event("bench.begun", version=1, key="key")
class Begun(msgspec.Struct, frozen=True):
    key: str
    note: str


@event("bench.gone-on", version=1, key="key")
class GoneOn(msgspec.Struct, frozen=True):
    key: str
    note: str


@event("bench.ended", version=1, key="key")
class Ended(msgspec.Struct, frozen=True):
    key: str
    note: str


class A(Service):
    @on(Begun, emits=(GoneOn,))
    async def begin(self, begun: Begun) -> None:
        publish(GoneOn(begun.key, begun.note))


class B(Service):
    @on(GoneOn, emits=(Ended,))
    async def go_on(self, gone: GoneOn) -> None:
        publish(Ended(gone.key, gone.note))


class InBooks(Service):
    """The middle of the chain, with a row of its own in the transaction."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists books (entry integer primary key, key text, note text)")

    @on(GoneOn, order_key="key", emits=(Ended,))
    async def go_on(self, gone: GoneOn, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into books (key, note) values (?, ?)", gone.key, gone.note)
        publish(Ended(gone.key, gone.note))


class C(Service):
    """Knows when a flow has come to its end."""

    def __init__(self) -> None:
        self.ended = 0
        self.waiting: dict[str, asyncio.Future[None]] = {}

    @on(Ended)
    async def end(self, ended: Ended) -> None:
        self.ended += 1
        if (waiting := self.waiting.pop(ended.key, None)) is not None:
            waiting.set_result(None)

    def until(self, key: str) -> asyncio.Future[None]:
        """Give what is done when the flow of this key has ended."""
        self.waiting[key] = asyncio.get_running_loop().create_future()
        return self.waiting[key]


def at_once(folder: Path, shared: Path, size: int, *, in_books: bool = False) -> Figures:
    """Perform `size` flows, as many at once as serves best."""
    return asyncio.run(_at_once(folder, size, in_books=in_books))


async def _at_once(folder: Path, size: int, *, in_books: bool) -> Figures:
    last = C()
    async with open_app([A(), InBooks() if in_books else B(), last], [], folder / "w4.db") as app:

        async def flow(number: int) -> None:
            key = f"{number:08}"
            ended = last.until(key)
            await app.send(Begun(key, "n" * 90))
            await ended

        await in_closed_loop(min(size, AT_ONCE), AT_ONCE, lambda i: flow(-1 - i))
        with Meter() as meter:
            await in_closed_loop(size, 2 * AT_ONCE, flow)
    return meter.figures(size)


def at_leisure(folder: Path, shared: Path, size: int) -> Figures:
    """Begin 50 flows a second, whether or not those before have ended."""
    return asyncio.run(_at_leisure(folder, size))


async def _at_leisure(folder: Path, size: int) -> Figures:
    last, taken_s = C(), list[float]()
    async with open_app([A(), B(), last], [], folder / "w4.db") as app:

        async def flow(number: int) -> None:
            await asyncio.sleep(number / A_SECOND)
            key = f"{number:08}"
            ended, began_s = last.until(key), time.perf_counter()
            await app.send(Begun(key, "n" * 90))
            await ended
            taken_s.append(time.perf_counter() - began_s)

        with Meter() as meter:
            await asyncio.gather(*(flow(i) for i in range(size)))
    return {**meter.figures(size), **percentiles(taken_s)}


WORK = Work(
    name="W4",
    title="chain: an event and three reactions, one after another",
    entries=(
        Entry(
            system="minuet",
            what="at once",
            durability=SYNCED_HOPS,
            program=f"{__name__}:at_once",
            sizes=(5_000, 20_000),
            quick=(40, 80),
        ),
        Entry(
            system="minuet",
            what="at once, an ordered insert",
            durability=SYNCED_HOPS + "; the middle one's own row in the same transaction",
            program=f"{__name__}:at_once",
            sizes=(2_500, 10_000),
            quick=(20, 40),
            options={"in_books": True},
        ),
        Entry(
            system="minuet",
            what="50 a second",
            durability=SYNCED_HOPS,
            program=f"{__name__}:at_leisure",
            sizes=(100, 500),
            quick=(5, 10),
        ),
    ),
    bars=(
        Bar(what="flows/s", value=lambda f: f("per_s", "W4", "minuet", "at once"), at_least=5_000),
        Bar(
            what="CPU s per 1,000 flows",
            value=lambda f: f("cpu_s_per_1000", "W4", "minuet", "at once"),
            at_most=0.25,
        ),
        Bar(what="50 a second: p50 ms", value=lambda f: f("p50_ms", "W4", "minuet", "50 a second")),
        Bar(what="50 a second: p99 ms", value=lambda f: f("p99_ms", "W4", "minuet", "50 a second")),
    ),
)
