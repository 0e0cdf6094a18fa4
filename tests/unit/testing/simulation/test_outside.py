"""The world outside: a ledger that outlives crashes; and plain functions, which take the place of threads."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop, current_process
from minuet.testing.simulation.outside import Outside
from minuet.testing.simulation.threads import SimulatedThreads


class Town:
    """A bank, and a process that asks it."""

    def __init__(self, faults: Faults | None = None, **how: Any) -> None:
        self.chance = Chance(1)
        self.loop = SimulationLoop(self.chance)
        self.process = Process(self.loop, "shop")
        self.bank = Outside(self.loop, self.chance, faults or Faults(), "bank", **how)
        self.threads = SimulatedThreads(self.loop, self.chance)

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(self.process.spawn(work))


@pytest.fixture
def town() -> Iterator[Callable[..., Town]]:
    made: list[Town] = []

    def make(faults: Faults | None = None, **how: Any) -> Town:
        made.append(Town(faults, **how))
        return made[-1]

    yield make
    for one in made:
        assert one.loop.failures == []
        one.loop.close()


Make = Callable[..., Town]


def test_a_call_takes_effect_and_is_in_the_ledger(town: Make) -> None:
    t = town()

    async def work() -> None:
        assert await t.bank.call("charge", "o-1", 100, op_key="run-1/2") == "bank-1"
        assert t.loop.time() > 0
        assert await t.bank.call("refund", "o-1", -30) == "bank-2"
        assert await t.bank.call("charge", "o-2") == "bank-3"

    t.run(work())
    first = t.bank.effects[0]
    assert (first.kind, first.key, first.amount, first.op_key, first.process) == (
        *("charge", "o-1", 100, "run-1/2"),
        "shop",
    )
    assert 0 < first.at_s < t.bank.effects[1].at_s < t.loop.time()
    assert [e.receipt for e in t.bank.effects] == ["bank-1", "bank-2", "bank-3"]
    assert (t.bank.count("charge", "o-1"), t.bank.count("charge", "o-3")) == (1, 0)
    assert (t.bank.net("o-1"), t.bank.net("o-2")) == (70, 0)
    assert t.bank.twice() == []


def test_an_idempotent_service_knows_a_repetition(town: Make) -> None:
    t = town()

    async def work() -> None:
        receipts = await asyncio.gather(*(t.bank.call("charge", "o-1", 100) for _ in range(5)))
        assert receipts == ["bank-1"] * 5

    t.run(work())
    assert t.bank.net("o-1") == 100
    assert t.bank.twice() == []


def test_what_took_effect_twice_is_told(town: Make) -> None:
    t = town(idempotent=False)

    async def work() -> None:
        for key in ("o-1", "o-2", "o-1", "o-3", "o-1"):
            await t.bank.call("charge", key, 10)
        await t.bank.call("refund", "o-2", -10)
        await t.bank.call("refund", "o-2", -10)

    t.run(work())
    assert t.bank.count("charge", "o-1") == 3
    assert t.bank.net("o-1") == 30
    assert t.bank.twice() == [("charge", "o-1", 3), ("refund", "o-2", 2)]


def test_a_lost_call_had_no_effect(town: Make) -> None:
    t = town(Faults(call_lost=1))

    async def work() -> None:
        with pytest.raises(ConnectionError, match="bank does not answer"):
            await t.bank.call("charge", "o-1")
        assert t.loop.time() >= 0.05

    t.run(work())
    assert t.bank.effects == []
    assert t.chance.counts == {"call_lost": 1}


def test_a_lost_reply_comes_after_the_effect(town: Make) -> None:
    t = town(Faults(reply_lost=1))

    async def work() -> None:
        with pytest.raises(ConnectionError, match="bank does not answer"):
            await t.bank.call("charge", "o-1")

    t.run(work())
    assert t.bank.count("charge", "o-1") == 1
    assert t.chance.counts == {"reply_lost": 1}


@pytest.mark.parametrize(("lose_reply", "answered"), [(0.0, 20), (1.0, 0), (0.5, 10)])
def test_a_service_may_lose_replies_at_a_rate_of_its_own(town: Make, lose_reply: float, answered: int) -> None:
    t = town(Faults(reply_lost=0.3), lose_reply=lose_reply)

    async def work() -> None:
        calls = (t.bank.call("charge", f"o-{n}") for n in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert abs(sum(isinstance(a, str) for a in answers) - answered) <= 5

    t.run(work())
    assert len(t.bank.effects) == 20


def test_a_call_goes_on_when_its_caller_gives_up(town: Make) -> None:
    t = town()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0005):
                await t.bank.call("charge", "o-1")
        assert t.bank.effects == []
        await asyncio.sleep(1)

    t.run(work())
    assert t.bank.count("charge", "o-1") == 1


def test_a_call_under_way_when_its_process_dies_may_have_its_effect(town: Make) -> None:
    t = town()
    processes = [Process(t.loop, f"shop/{n}") for n in range(40)]
    for n, process in enumerate(processes):
        process.spawn(t.bank.call("charge", f"o-{n}"))
        t.loop.call_outside(0.0005, process.crash)
    t.loop.run_forever()
    assert 5 < len(t.bank.effects) < 35
    assert all(effect.at_s > 0.0005 for effect in t.bank.effects)


def test_a_call_is_not_begun_by_the_dead(town: Make) -> None:
    t = town()
    process = Process(t.loop, "shop/1")
    process.call(lambda: process.spawn(t.bank.call("charge", "o-1")), after_s=1)
    t.loop.call_outside(0.5, process.crash)
    t.loop.run_forever()
    assert t.bank.effects == []


def test_the_world_itself_may_call(town: Make) -> None:
    t = town()
    t.loop.run_until_complete(t.bank.call("charge", "o-1"))
    assert t.bank.effects[0].process == ""


# Plain functions

_said = contextvars.ContextVar("said", default="nothing")


def test_a_plain_function_is_called_in_its_process_and_context_a_little_later(town: Make) -> None:
    t = town()

    def function() -> tuple[Process | None, str, float]:
        return current_process(), _said.get(), t.loop.time()

    async def work() -> None:
        _said.set("hello")
        process, said, at_s = await t.threads.call(function)
        assert (process, said) == (t.process, "hello")
        assert at_s > 0

    t.run(work())


@pytest.mark.parametrize(("error", "told"), [(ValueError("x"), ValueError), (StopIteration(), RuntimeError)])
def test_what_a_plain_function_raises_is_told(town: Make, error: Exception, told: type[Exception]) -> None:
    t = town()

    def function() -> None:
        raise error

    async def work() -> None:
        with pytest.raises(told):
            await t.threads.call(function)

    t.run(work())
    assert t.threads.abandoned == 0


def test_an_abandoned_function_is_called_nevertheless(town: Make) -> None:
    t = town()
    called: list[float] = []

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.00005):
                await t.threads.call(lambda: called.append(t.loop.time()))
        assert (t.threads.abandoned, called) == (1, [])
        await asyncio.sleep(1)
        assert (t.threads.abandoned, len(called)) == (0, 1)

    t.run(work())
    t.threads.close()


def test_a_plain_function_dies_with_its_process(town: Make) -> None:
    t = town()
    called: list[int] = []
    t.process.spawn(t.threads.call(lambda: called.append(1)))
    t.loop.call_outside(0.00005, t.process.crash)
    t.loop.run_forever()
    assert called == []
