"""W11: how many simulated worlds a second of one core, for a workflow of five steps with a crash a second.

A world is made from its seed: an app over the real SQL in memory, one run of five steps that take 0.1 to 0.5 simulated
seconds each, and a process that is killed and started again, about once a simulated second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from time import process_time

from benchmarks.contest import Bar, Entry, Figures, Work
from minuet import App, Service, action, workflow
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.world import Layout, World

CRASHES_A_SECOND = 4.0  # each world draws its own rate, 0 to 2 of this; a process that is down cannot crash


class Steps(Service):
    @action
    async def take(self, n: int) -> int:
        await asyncio.sleep(0.1 * (1 + n % 5))
        return n + 1


@workflow
async def five(n: int, *, steps: Steps) -> int:
    n = await steps.take(n)
    n = await steps.take(n)
    n = await steps.take(n)
    n = await steps.take(n)
    return await steps.take(n)


def build(_: World) -> App:
    """Make the app of one process."""
    return App("five", services=[Steps()], workflows=[five])


async def scenario(world: World) -> None:
    """Perform one run, to its end or until a person is needed: ten crashes in one step park it."""
    run = await world.client.start(five, 1)
    await world.client.control.wait(run.id, None)


def simulate(folder: Path, shared: Path, size: int) -> Figures:
    """Make so many worlds."""
    counts = Counter[str]()
    seconds = 0.0
    began = process_time()
    for seed in range(size):
        world = World(build, seed=seed, layout=Layout(), faults=Faults(crash=CRASHES_A_SECOND))
        verdict = world.run(scenario)
        world.close()
        if verdict.violations:
            raise AssertionError(f"seed {seed}: {verdict.violations}")
        counts.update(verdict.counts)
        seconds += verdict.seconds
    took = process_time() - began
    return {
        "per_s": size / took,
        "cpu_s_per_1000": 1000 * took / size,
        "crashes_a_simulated_s": counts["crash"] / seconds,
    }


WORK = Work(
    name="W11",
    title="worlds of five steps in the simulator, a crash a second",
    entries=(
        Entry(
            system="minuet",
            what="simulate",
            durability="none: all in memory",
            program=f"{__name__}:simulate",
            sizes=(200, 500),
            quick=(5, 10),
        ),
    ),
    bars=(
        Bar(what="worlds a second of one core", value=lambda f: f("per_s", "W11", "minuet", "simulate"), at_least=20),
        Bar(what="crashes a simulated second", value=lambda f: f("crashes_a_simulated_s", "W11", "minuet", "simulate")),
    ),
)
