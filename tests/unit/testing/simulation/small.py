"""A small app for simulated worlds, and scenarios in which what fails depends on chance alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from minuet import App, Rejection, Service, action, compensation, workflow
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.trial import Trial
from minuet.testing.simulation.world import Layout, World

PLAIN = Layout()
APART = Layout(is_apart=True)


class No(Rejection, code="no"):
    """What the second step may answer."""


class First(Service):
    """Does something that can be taken back."""

    @action
    async def open(self, number: int) -> int:
        """Do it."""
        return number

    @compensation(open)
    async def close(self, number: int) -> None:
        """Take it back."""


class Second(Service):
    """Rejects odd numbers."""

    @action(rejects=(No,))
    async def take(self, number: int) -> int:
        """Do it, or not."""
        if number % 2:
            raise No("it is odd")
        return 2 * number


@workflow
async def both(number: int, *, first: First, second: Second) -> int:
    """One after the other."""
    opened = await first.open(number)
    return await second.take(opened)


def build(world: World) -> App:
    """Make the app of one process."""
    return App("small", services=[First(), Second()], workflows=[both])


async def idle(world: World) -> None:
    """Do nothing."""


async def some_runs(world: World) -> None:
    """Start a run with an even number, and one with an odd one."""
    for number in (2, 3):
        await world.client.start(both, number)


@dataclass
class Striking:
    """Lets `red`, `green` and `blue` strike, ten times each may; it is wrong when all of `needed` did."""

    needed: tuple[str, ...]
    with_order: bool = False
    what: str = "I4: all of them at {}"
    worlds: list[frozenset[str]] = field(default_factory=list)

    async def __call__(self, world: World) -> None:
        """Perform it."""
        for _ in range(10):
            for name in ("red", "green", "blue"):
                world.chance.strikes(name, 0.9)
        is_drawn = any(world.chance.pick("order", "ab") == "b" for _ in range(10))
        self.worlds.append(frozenset(world.chance.struck))
        if set(self.needed) <= set(world.chance.struck) and (is_drawn or not self.with_order):
            world.violations.append(self.what.format(len(self.worlds)))


def trial(scenario: Striking, seed: int = 1) -> Trial:
    """Give the trial of a seed."""
    return Trial(scenario=scenario, build=build, seed=seed, layout=PLAIN, faults=Faults())
