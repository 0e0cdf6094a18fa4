"""What tests assert of runs, and that each assertion can fail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from minuet import Rejection, Service, action, attempt, compensation, deadline, dry_run, each, event, publish, workflow
from minuet.errors import NotFound
from minuet.testing import Delay, Kit, assert_published, assert_same_trace, eventually
from minuet.testing.conditions import Conditions


class SoldOut(Rejection): ...


@event("shop.reserved", version=1, key="item")
@dataclass(frozen=True)
class Reserved:
    item: str
    count: int


class Stock(Service):
    @action(rejects=(SoldOut,), emits=(Reserved,))
    async def reserve(self, item: str) -> str:
        publish(Reserved(item, 1))
        return f"hold-{item}"

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


@workflow
async def reserve_all(items: list[str], *, stock: Stock) -> list[str]:
    async with attempt(SoldOut) as tried:
        holds = await each(items, lambda item: stock.reserve(item), limit=9)  # noqa: PLW0108 - as it is written
    if tried.rejected:
        return []
    return holds


@workflow
async def hurry(item: str, *, stock: Stock) -> str:
    async with deadline(timedelta(hours=1)):
        first = await stock.reserve(item).timeout(timedelta(seconds=10), then="abandon")
        second = await stock.reserve(item)
    return f"{first}, {second}"


async def test_two_runs_with_one_path_are_the_same_whatever_the_seed(minuet: Kit) -> None:
    a = await minuet.perform(reserve_all, ["tea", "cups"], services=[Stock()], seed=1)
    b = await minuet.perform(reserve_all, ["tea", "cups"], services=[Stock()], seed=2, style="choreography")
    await assert_same_trace(a, b)


async def test_a_dry_run_is_an_oracle(minuet: Kit) -> None:
    for outcomes in ({}, {"stock.reserve": ["hold-tea", SoldOut("none left")]}):
        run = await minuet.perform(reserve_all, ["tea", "cups"], services=[Stock()], outcomes=outcomes)
        await assert_same_trace(run, await dry_run(reserve_all, ["tea", "cups"], stock=Stock(), outcomes=outcomes))


async def test_a_difference_is_told_fact_by_fact(minuet: Kit) -> None:
    a = await minuet.perform(reserve_all, ["tea"], services=[Stock()])
    b = await minuet.perform(reserve_all, ["tea"], services=[Stock()], outcomes={"stock.reserve": [SoldOut()]})
    with pytest.raises(AssertionError) as told:
        await assert_same_trace(a, b)
    assert '- 1.1.1[0] ok "hold-tea"' in str(told.value)
    assert "+ 1.1.1[0] rejected:sold-out" in str(told.value)
    assert '- end returned ["hold-tea"]' in str(told.value)


async def test_another_value_is_a_difference(minuet: Kit) -> None:
    a = await minuet.perform(reserve_all, ["tea"], services=[Stock()])
    b = await minuet.perform(reserve_all, ["tea"], services=[Stock()], outcomes={"stock.reserve": ["another"]})
    with pytest.raises(AssertionError, match='"another"'):
        await assert_same_trace(a, b)


async def test_what_an_abandoned_step_did_later_is_no_difference(minuet: Kit) -> None:
    runs = []
    for seconds in (20, 3_000):
        tape = {"stock.reserve": [Delay(seconds)]}
        run = await minuet.perform(hurry, "tea", services=[Stock()], outcomes=tape)
        await run.advance(timedelta(hours=2))
        assert await run.status() == "compensated"
        runs.append(run)
    await assert_same_trace(*runs)


async def test_what_was_published_is_found_by_its_fields(minuet: Kit) -> None:
    run = await minuet.perform(reserve_all, ["tea"], services=[Stock()])
    assert_published(run, Reserved("tea", 1))
    assert_published(run, Reserved, item="tea")
    assert_published(run.app, Reserved)
    with pytest.raises(AssertionError, match=r'no Reserved with \{"item":"tea","count":2\}'):
        assert_published(run, Reserved("tea", 2))
    with pytest.raises(AssertionError, match="there were"):
        assert_published(run, Reserved, item="cups")
    with pytest.raises(NotFound, match="is no event"):
        assert_published(run, SoldOut)


def test_what_comes_to_be_is_waited_for_and_no_longer() -> None:
    looked: list[int] = []

    def third() -> bool:
        looked.append(1)
        return len(looked) >= 3

    asyncio.run(eventually(third))
    with pytest.raises(AssertionError, match="within 10ms"):
        asyncio.run(eventually(lambda: False, within="10ms"))


def test_conditions_are_told_once_and_counted() -> None:
    conditions = Conditions()
    conditions.always(lambda: False, "it rains")
    conditions.always(lambda: True)
    conditions.eventually(lambda: False, label="it stops")
    conditions.eventually(lambda: True, within="10s", label="it dries")
    conditions.sometimes(lambda: True, "sun")
    conditions.sometimes(False, "snow")
    assert conditions.look() == ["it rains does not hold"]
    assert conditions.look() == []
    assert conditions.reached == {"sun": True, "snow": False}
    assert conditions.at_the_end(11) == [
        "it stops does not hold in the end",
        "it dries holds only 11 s after the last fault",
    ]
