"""The clocks of processes: ahead, too quick, put forward and back, and never too early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from minuet.testing.clock import START_MS
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.clock import ProcessClock
from minuet.testing.simulation.loop import SimulationLoop


@pytest.fixture
def loop() -> Iterator[SimulationLoop]:
    made = SimulationLoop(Chance(1))
    yield made
    made.close()


def test_a_right_clock_shows_the_time_of_the_world(loop: SimulationLoop) -> None:
    clock = ProcessClock(loop)

    async def work() -> None:
        assert (clock.now_ms(), clock.monotonic_ms()) == (START_MS, 0)
        await asyncio.sleep(1.5)
        assert (clock.now_ms(), clock.monotonic_ms()) == (START_MS + 1_500, 1_500)

    loop.run_until_complete(work())


def test_a_clock_may_be_ahead_and_too_quick(loop: SimulationLoop) -> None:
    clock = ProcessClock(loop, offset_ms=-3_600_000, rate=1.05)

    async def work() -> None:
        await asyncio.sleep(100)
        assert clock.monotonic_ms() == 105_000
        assert clock.now_ms() == START_MS - 3_600_000 + 105_000
        began_s = loop.time()
        await clock.sleep_ms(10_500)
        assert loop.time() - began_s == pytest.approx(10, abs=1e-4)

    loop.run_until_complete(work())


def test_a_jump_moves_the_wall_clock_and_nothing_else(loop: SimulationLoop) -> None:
    clock = ProcessClock(loop)

    async def work() -> None:
        sleeping = loop.create_task(clock.sleep_ms(1_000))
        await asyncio.sleep(0.5)
        clock.jump(-86_400_000)
        assert clock.now_ms() == START_MS + 500 - 86_400_000
        assert clock.monotonic_ms() == 500
        clock.jump(2 * 86_400_000)
        assert clock.now_ms() == START_MS + 500 + 86_400_000
        await sleeping
        assert loop.time() == pytest.approx(1, abs=1e-4)

    loop.run_until_complete(work())


@pytest.mark.parametrize("rate", [0.95, 1.0, 1.0123456, 1.05])
def test_nobody_wakes_too_early(loop: SimulationLoop, rate: float) -> None:
    clock = ProcessClock(loop, rate=rate)
    chance = Chance(2)

    async def work() -> None:
        await asyncio.sleep(1e8)  # three years, after which a float is less exact
        for _ in range(500):
            duration_ms = chance.pick("ms", (1, 7, 333, 10_000, 86_400_000))
            await asyncio.sleep(chance.pick("s", (0, 0.1, 1 / 3)))
            due_ms = clock.monotonic_ms() + duration_ms
            await clock.sleep_ms(duration_ms)
            assert clock.monotonic_ms() >= due_ms
            assert clock.monotonic_ms() <= due_ms + 1

    loop.run_until_complete(work())


def test_to_sleep_for_nothing_lets_others_go_on(loop: SimulationLoop) -> None:
    done: list[str] = []

    async def work() -> None:
        loop.call_soon(done.append, "other")
        await ProcessClock(loop).sleep_ms(0)
        done.append("this")

    loop.run_until_complete(work())
    assert done == ["other", "this"]
    assert loop.time() == 0


def test_a_sleeper_that_is_cancelled_moves_no_time(loop: SimulationLoop) -> None:
    async def work() -> None:
        sleeping = loop.create_task(ProcessClock(loop).sleep_ms(1_000_000))
        await asyncio.sleep(0)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping

    loop.run_until_complete(work())
    loop.run_forever()
    assert loop.time() == 0
