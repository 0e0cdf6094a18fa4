"""What `@simulate` does with time, and what it refuses."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from minuet import App, Service, action, sleep, workflow
from minuet.errors import DeclarationError, SettingsError
from minuet.testing import Simulation, simulate
from minuet.testing.simulating import Options


class Tea(Service):
    def __init__(self) -> None:
        self.brewed = 0

    @action(pure=True)
    async def brew(self) -> int:
        self.brewed += 1
        return self.brewed


@workflow
async def drink(*, tea: Tea) -> int:
    n = await tea.brew()
    await sleep(timedelta(days=90))
    return n


@simulate(drink, seeds=6, faults="none")
async def test_a_season_passes_in_no_time_in_every_layout(sim: Simulation) -> None:
    run = await sim.start(drink, services=[Tea()])
    sim.eventually(lambda: sim.state(run) == "completed")


@simulate(App("tea", services=[Tea()], workflows=[drink]), seeds=6, faults="none")
async def test_an_app_is_copied_for_each_process(sim: Simulation) -> None:
    run = await sim.start(drink)
    sim.eventually(lambda: [row for (row,) in sim.query("home", "select result from minuet_run")] == ["1"])
    sim.eventually(lambda: sim.state(run) == "completed")


def test_a_test_that_gives_no_services_is_told_so() -> None:
    @simulate(drink, seeds=1)
    async def starts_nothing(sim: Simulation) -> None: ...

    @simulate(drink, seeds=1)
    async def waits_first(sim: Simulation) -> None:
        await asyncio.sleep(1)

    for test in (starts_nothing, waits_first):
        with pytest.raises(DeclarationError, match="before it has given any services"):
            test(minuet_options=Options())


def test_what_is_to_be_simulated_is_checked() -> None:
    with pytest.raises(DeclarationError, match="neither workflows nor one app"):
        simulate()
    with pytest.raises(SettingsError, match="no fault 'rain'"):
        simulate(drink, faults="rain")
    with pytest.raises(SettingsError, match="no style 'ballet'"):
        simulate(drink, styles=("ballet",))


def test_an_assertion_of_the_test_itself_is_told_with_its_seed() -> None:
    @simulate(drink, seeds=2, faults="none")
    async def fails(sim: Simulation) -> None:
        await sim.start(drink, services=[Tea()])
        assert sim.world.seed == 0

    with pytest.raises(AssertionError, match=r"(?s)Seed 1 .*the scenario failed: AssertionError"):
        fails(minuet_options=Options())
