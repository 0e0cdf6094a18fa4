"""W2: three steps, the third rejects, and the two before it are compensated in reverse."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figures, Work, ratio
from benchmarks.meter import Meter, in_closed_loop
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.program import open_app
from benchmarks.w1_sequence import AT_ONCE, Order, order
from minuet import Rejection, RunRejected, Service, action, compensation, workflow


class OutOfReach(Rejection): ...


class Steps(Service):
    @action
    async def reserve(self, order: Order) -> str:
        return f"{order.id} {order.note}"

    @compensation(reserve)
    async def release(self, reserved: str) -> None: ...

    @action
    async def charge(self, reserved: str) -> str:
        return reserved

    @compensation(charge)
    async def refund(self, charged: str) -> None: ...

    @action(rejects=(OutOfReach,))
    async def ship(self, charged: str) -> str:
        raise OutOfReach("too far away")


@workflow
async def saga(order: Order, *, steps: Steps) -> str:
    reserved = await steps.reserve(order)
    charged = await steps.charge(reserved)
    return await steps.ship(charged)


def at_once(folder: Path, shared: Path, size: int) -> Figures:
    """Perform `size` runs, as many at once as serves best."""
    return asyncio.run(_at_once(folder, size))


async def _at_once(folder: Path, size: int) -> Figures:
    async with open_app([Steps()], [saga], folder / "w2.db") as app:

        async def perform(i: int) -> None:
            with suppress(RunRejected):
                await app.run(saga, order(i))
                raise AssertionError("it ought to have been rejected")

        await in_closed_loop(min(size, AT_ONCE), AT_ONCE, perform)
        with Meter() as meter:
            await in_closed_loop(size, AT_ONCE, perform)
    return meter.figures(size)


def _against(system: str) -> Bar:
    return Bar(
        what=f"runs/s, times {system}",
        value=lambda f: ratio(f("per_s", "W2", "minuet", "at once"), f("per_s", "W2", system, "at once")),
    )


WORK = Work(
    name="W2",
    title="saga: 3 steps, the third rejects, 2 are compensated",
    entries=(
        Entry(
            system="minuet",
            what="at once",
            durability=SYNCED,
            program=f"{__name__}:at_once",
            sizes=(2_500, 10_000),
            quick=(20, 40),
        ),
        *peers("at once", "w2_saga:at_once", sizes=(50, 200), quick=(2, 4)),
    ),
    bars=(
        Bar(
            what="runs/s, times W1",
            value=lambda f: ratio(f("per_s", "W2", "minuet", "at once"), f("per_s", "W1", "minuet", "at once")),
            at_least=0.5,
        ),
        *map(_against, SYSTEMS),
    ),
)
