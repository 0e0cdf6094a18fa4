"""Steps that are given up by whoever waits for them, while their commands may be late: what they did is taken back."""

from __future__ import annotations

import asyncio
import random

from minuet import App, Context, Service, TimedOut, action, attempt, compensation, injected, workflow
from minuet.contracts.action import RetryPolicy
from minuet.ids import parse_run
from minuet.runtime.settings import Settings
from minuet.testing.simulation.world import Layout, World

SETTINGS = Settings(retry=RetryPolicy(attempts=1_000, first_ms=20, at_most_ms=1_000))
RUNS = 3


class Slow(Service):
    """Takes its time; what it does, it does at the bank."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def _act(self, context: Context) -> None:
        r = self.world.chance.stream("slow")
        await asyncio.sleep(r.choice((0.0, 0.1, 2.0)) * r.random())
        await self.world.outside("bank").call(f"{context.run} {context.op_key.split(':')[3]}", context.op_key)

    @action
    async def reserve(self, order: str, *, context: Context = injected()) -> str:
        """Take effect, sooner or later."""
        await self._act(context)
        return order

    @compensation(reserve)
    async def release(self, order: str, *, context: Context = injected()) -> None:
        """Take `reserve` back."""
        await self._act(context)


@workflow
async def hurry(order: str, *, slow: Slow) -> str:
    """Wait for a second, and do without."""
    async with attempt(TimedOut) as tried:
        await slow.reserve(order).timeout(1, then="abandon")
    return "without" if tried.rejected else "in time"


class Impatient:
    """The runs of one world."""

    def __init__(self, seed: int) -> None:
        self.style = random.Random(f"impatient {seed}").choice(("orchestration", "choreography"))

    @property
    def layout(self) -> Layout:
        """Lay it out: the service has a store of its own, and is told by messages."""
        return Layout(styles={"hurry": self.style}, is_apart=True)

    def build(self, world: World) -> App:
        """Make the app of one process."""
        return App("impatient", services=[Slow(world)], workflows=[hurry])

    async def perform(self, world: World) -> None:
        """Start all runs."""
        world.checks.append(_check)
        for n in range(RUNS):
            await world.client.start(hurry, "o", key=f"k{n}")
        await asyncio.sleep(world.chance.between("scenario", 0, 8))


def _check(world: World) -> list[str]:
    """Say what took effect and was not taken back, or the other way round, once a step was given up."""
    bank, home, wrong = world.outside("bank"), world.databases["home"], []
    kinds = {effect.kind for effect in bank.effects}
    for run in world.acknowledged.values():
        given_up = home.query("select 1 from minuet_fact where run = ? and label = 'rejected:timeout'", parse_run(run))
        done, taken_back = (f"{run} {direction}" in kinds for direction in ("forward", "compensation"))
        if given_up and done and not taken_back:
            wrong.append(f"I3: run {run}: the step was given up, took effect, and was not taken back")
        if taken_back and not done:
            wrong.append(f"I3: run {run}: the step was taken back, and had no effect")
        if not given_up and not done:
            wrong.append(f"I7: run {run}: the step was not given up, and has no effect")
    return wrong
