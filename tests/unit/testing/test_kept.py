"""Whether a changed workflow takes the path of a run that was kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from minuet import App, Rejection, Service, action, attempt, compensation, event, together, wait_for, workflow
from minuet.errors import InvalidPayload, NotFound
from minuet.testing import Delay, Kit, replay
from minuet.testing.outcomes import Outcomes
from minuet.workflows.workflow import Workflow


class SoldOut(Rejection): ...


@event("shop.picked-up", version=1, key="order")
@dataclass(frozen=True)
class PickedUp:
    order: str


class Payments(Service):
    @action
    async def charge(self, order: str) -> str:
        raise AssertionError("a replay runs nothing")

    @compensation(charge)
    async def refund(self, receipt: str) -> None: ...


class Stock(Service):
    @action(rejects=(SoldOut,))
    async def reserve(self, order: str) -> str:
        raise AssertionError("a replay runs nothing")

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...

    @action(pure=True)
    async def count(self, order: str) -> int:
        raise AssertionError("a replay runs nothing")


@workflow(name="place")
async def place(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order)
    hold = await stock.reserve(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def wrapped(order: str, *, payments: Payments, stock: Stock) -> str:
    async with attempt() as tried:
        receipt = await payments.charge(order)
        hold = await stock.reserve(order)
        seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    if tried.rejected:
        raise SoldOut
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def with_more(order: str, *, payments: Payments, stock: Stock) -> str:
    await stock.count(order)
    receipt = await payments.charge(order)
    hold = await stock.reserve(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def with_less(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return receipt if seen is not None else "late"


@workflow(name="place")
async def other_order(order: str, *, payments: Payments, stock: Stock) -> str:
    hold = await stock.reserve(order)
    receipt = await payments.charge(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def beside(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt, hold = await together(payments.charge(order), stock.reserve(order))
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def beside_wrapped(order: str, *, payments: Payments, stock: Stock) -> str:
    async with attempt() as tried:
        receipt, hold = await together(payments.charge(order), stock.reserve(order))
    if tried.rejected:
        raise SoldOut
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


@workflow(name="place")
async def other_result(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order)
    hold = await stock.reserve(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{hold}, {receipt}" if seen is not None else "late"


@workflow(name="place")
async def keeps(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt = await payments.charge(order).keep()
    hold = await stock.reserve(order)
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    return f"{receipt}, {hold}" if seen is not None else "late"


SERVICES = [Payments(), Stock()]
DONE: Outcomes = {"payments.charge": ["receipt-1"], "stock.reserve": ["hold-1"]}
SOLD_OUT: Outcomes = {"payments.charge": ["receipt-1"], "stock.reserve": [SoldOut("none left")]}


async def kept(minuet: Kit, outcomes: Outcomes, flow: Workflow[str, ..., str] = place, *, ends: bool = True) -> bytes:
    run = await minuet.perform(flow, "o-1", services=SERVICES, outcomes=outcomes)
    if ends and await run.status() == "running":
        await run.send(PickedUp("o-1"))
    return msgspec.json.encode({"format": 1, "run": await run.show()})


@pytest.mark.parametrize("outcomes", [DONE, SOLD_OUT])
@pytest.mark.parametrize("flow", [place, wrapped])
async def test_the_same_path_is_the_same(minuet: Kit, flow: Workflow[str, ..., str], outcomes: Outcomes) -> None:
    found = await replay(await kept(minuet, outcomes), flow, input="o-1")
    assert found.difference == ""
    assert found


@pytest.mark.parametrize(
    ("flow", "difference"),
    [
        (with_more, "it runs stock.count at 1; the kept run did payments.charge at 1 (ok) instead"),
        (with_less, "it does not do what the kept run did: stock.reserve at 2 (ok)"),
        (
            other_order,
            "it does stock.reserve at 1 before payments.charge; the kept run did payments.charge at 1 (ok) first",
        ),
        (other_result, 'it returns "hold-1, receipt-1"; the kept run returned "receipt-1, hold-1"'),
    ],
)
async def test_the_first_difference_is_told(minuet: Kit, flow: Workflow[str, ..., str], difference: str) -> None:
    found = await replay(await kept(minuet, DONE), flow, input="o-1")
    assert found.difference == difference
    assert not found


async def test_steps_that_now_go_on_beside_each_other_take_the_same_path(minuet: Kit) -> None:
    assert (await replay(await kept(minuet, DONE), beside, input="o-1")).difference == ""


async def test_branches_may_have_ended_in_any_order(minuet: Kit) -> None:
    slow = {**DONE, "payments.charge": [Delay(5, then="receipt-1")]}
    for ends in (True, False):
        found = await replay(await kept(minuet, slow, beside, ends=ends), beside_wrapped, input="o-1")
        assert found.difference == ""


async def test_what_is_taken_back_no_more_is_a_difference(minuet: Kit) -> None:
    found = await replay(await kept(minuet, SOLD_OUT), keeps, input="o-1")
    assert found.difference.startswith("it does not compensate 1; the kept run did: payments.refund")


async def test_an_unfinished_run_says_how_far_it_came(minuet: Kit) -> None:
    unfinished = await kept(minuet, DONE, ends=False)
    assert await replay(unfinished, wrapped, input="o-1")
    assert not await replay(unfinished, with_more, input="o-1")
    assert not await replay(unfinished, other_order, input="o-1")


async def test_a_store_knows_the_input(minuet: Kit, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with App("shop", services=[Tills(), Shelves()], workflows=[place], store=f"sqlite:///{file}") as app:
        run = await app.start(place, "o-1", key="k-1")
        await app.send(PickedUp("o-1"))
        assert await run.result(60) == "receipt-o-1, hold-o-1"
    assert await replay(file, wrapped)
    assert await replay(file, wrapped, run="k-1")
    assert await replay(file, wrapped, run=run.id)
    assert "stock.count" in (await replay(file, with_more, run="k-1")).difference
    with pytest.raises(NotFound, match="no run k-2 of place"):
        await replay(file, place, run="k-2")


async def test_what_is_no_run_is_refused(minuet: Kit) -> None:
    with pytest.raises(InvalidPayload, match="this is no run"):
        await replay('{"run": {"id": 1}}', place, input="o-1")
    with pytest.raises(InvalidPayload, match="the input of the run is not known"):
        await replay(json.loads(await kept(minuet, DONE)), place)


class Tills(Service, implements=Payments):
    @action
    async def charge(self, order: str) -> str:
        return f"receipt-{order}"

    @compensation(charge)
    async def refund(self, receipt: str) -> None: ...


class Shelves(Service, implements=Stock):
    @action(rejects=(SoldOut,))
    async def reserve(self, order: str) -> str:
        return f"hold-{order}"

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...

    @action(pure=True)
    async def count(self, order: str) -> int:
        return 1
