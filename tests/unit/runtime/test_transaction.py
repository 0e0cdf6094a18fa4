"""Transactional actions: their writes, their fact and what they publish are one commit, or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minuet import (
    App,
    Context,
    Rejection,
    RunParked,
    RunRejected,
    Service,
    Transaction,
    action,
    compensation,
    injected,
    together,
    workflow,
)

pytestmark = pytest.mark.asyncio


class Poor(Rejection): ...


class Bank(Service):
    def __init__(self) -> None:
        self.op_keys: list[str] = []

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists account (id text primary key, amount int not null) strict")
        await tx.execute("create table if not exists entry (op_key text primary key, amount int) strict")
        await tx.execute("insert into account values ('a', 100) on conflict do nothing")

    @action(rejects=(Poor,))
    async def take(self, amount: int, *, tx: Transaction = injected(), context: Context = injected()) -> int:
        self.op_keys.append(context.op_key)
        await tx.execute("insert into entry values (?, ?)", context.op_key, amount)
        await tx.execute("update account set amount = amount - ? where id = 'a'", amount)
        row = await tx.fetch_one("select amount from account where id = 'a'")
        assert row is not None
        if row["amount"] < 0:
            raise Poor("not enough", left=row[0])
        return int(row["amount"])

    @compensation(take)
    async def give_back(self, left: int, *, tx: Transaction = injected(), context: Context = injected()) -> None:
        given = context.input(dict[str, int])
        await tx.execute("update account set amount = amount + ? where id = 'a'", given["amount"])

    @action
    async def crash(self, amount: int, *, tx: Transaction = injected()) -> int:
        await tx.execute("update account set amount = amount - ? where id = 'a'", amount)
        raise RuntimeError("after the write")

    @action
    async def wander(self, amount: int, *, tx: Transaction = injected()) -> int:
        await tx.execute("update account set amount = amount - ? where id = 'a'", amount)
        await asyncio.sleep(amount / 1000)
        return amount

    @action
    async def look_first(self, amount: int, *, tx: Transaction = injected()) -> int:
        await asyncio.sleep(0)  # before the first statement everything is allowed
        rows = await tx.fetch("select amount from account")
        return int(rows[0]["amount"]) + amount

    @action
    async def survive(self, amount: int, *, tx: Transaction = injected()) -> str:
        try:
            await tx.execute("insert into account values ('a', ?)", amount)
        except Exception as e:
            return type(e).__name__
        return "no error"

    @action
    async def meddle(self, amount: int, *, tx: Transaction = injected()) -> int:
        await tx.execute("delete from minuet_fact")
        return amount

    @action
    async def nothing(self, amount: int, *, tx: Transaction = injected()) -> int:
        return amount


@workflow
async def take(amount: int, *, bank: Bank) -> int:
    return await bank.take(amount)


@workflow
async def take_twice(amount: int, *, bank: Bank) -> int:
    await bank.take(amount)
    return await bank.take(amount)


@workflow
async def take_together(amount: int, *, bank: Bank) -> int:
    a, b = await together(bank.take(amount), bank.take(amount))
    return a + b


@workflow
async def crash(amount: int, *, bank: Bank) -> int:
    return await bank.crash(amount).retry(1)


@workflow
async def wander(amount: int, *, bank: Bank) -> int:
    return await bank.wander(amount)


@workflow
async def look_first(amount: int, *, bank: Bank) -> int:
    return await bank.look_first(amount)


@workflow
async def survive(amount: int, *, bank: Bank) -> str:
    return await bank.survive(amount)


@workflow
async def meddle(amount: int, *, bank: Bank) -> int:
    return await bank.meddle(amount).retry(1)


@workflow
async def nothing(amount: int, *, bank: Bank) -> int:
    return await bank.nothing(amount)


def program(bank: Bank) -> App:
    flows: list[Any] = [take, take_twice, take_together, crash, wander, look_first, survive, meddle, nothing]
    return App("bank", services=[bank], workflows=flows, store="sqlite://")


async def balance(app: App) -> int:
    return await app.run(look_first, 0)


async def test_writes_and_fact_are_committed_together() -> None:
    async with program(Bank()) as app:
        assert await app.run(take, 30) == 70
        assert await balance(app) == 70


async def test_a_rejection_undoes_the_writes_of_its_action() -> None:
    async with program(Bank()) as app:
        with pytest.raises(RunRejected) as caught:
            await app.run(take, 130)
        assert caught.value.rejection.details == {"left": -30}
        assert await balance(app) == 100


async def test_what_was_done_is_compensated_in_a_transaction_too() -> None:
    bank = Bank()
    async with program(bank) as app:
        with pytest.raises(RunRejected):
            await app.run(take_twice, 60)
        assert await balance(app) == 100
    assert len(set(bank.op_keys)) == 2


async def test_parallel_branches_of_one_run_take_turns_and_each_takes_effect_once() -> None:
    async with program(Bank()) as app:
        assert await app.run(take_together, 10) == 90 + 80
        assert await balance(app) == 80


async def test_an_exception_undoes_the_writes() -> None:
    async with program(Bank()) as app:
        with pytest.raises(RunParked, match="after the write"):
            await app.run(crash, 30)
        assert await balance(app) == 100


@pytest.mark.parametrize("amount", [0, 30])
async def test_waiting_for_something_else_after_the_first_statement_parks_the_step_and_undoes_its_writes(
    amount: int,
) -> None:
    async with program(Bank()) as app:
        with pytest.raises(RunParked, match="awaited something else"):
            await app.run(wander, amount)
        assert await balance(app) == 100


async def test_a_failed_statement_can_be_caught_and_the_rest_goes_on() -> None:
    async with program(Bank()) as app:
        assert await app.run(survive, 1) == "StatementFailed"


async def test_an_action_cannot_touch_the_tables_of_the_platform() -> None:
    async with program(Bank()) as app:
        with pytest.raises(RunParked, match="minuet_fact"):
            await app.run(meddle, 1)


async def test_an_action_that_asks_for_the_transaction_and_does_not_use_it_is_fine() -> None:
    async with program(Bank()) as app:
        assert await app.run(nothing, 5) == 5


async def test_many_transactional_runs_at_once_each_take_effect_once() -> None:
    async with program(Bank()) as app:
        await asyncio.gather(*(app.run(take, 1) for _ in range(100)))
        assert await balance(app) == 0
