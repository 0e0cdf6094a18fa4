"""What follows from a commit whose answer is lost: it was recorded, and whoever waits for it is told."""

from __future__ import annotations

from minuet import Service, Transaction, action, injected, workflow
from minuet.testing import Simulation, simulate
from minuet.testing.simulation.faults import Faults


class First(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists act (n integer)")

    @action(pure=True)
    async def act(self, tx: Transaction = injected()) -> int:
        await tx.execute("insert into act values (1)")
        return 1


class Second(Service):
    @action(pure=True)
    async def act(self, n: int) -> int:
        return n + 1


@workflow
async def both(*, first: First, second: Second) -> int:
    n = await first.act()
    return await second.act(n)


@simulate(both, seeds=20, styles=("choreography, a store each",), faults=Faults(unknown_applied=0.5))
async def test_messages_of_a_commit_that_nobody_was_told_of_are_sent(sim: Simulation) -> None:
    await sim.start(both, services=[First(), Second()])
