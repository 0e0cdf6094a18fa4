"""What the fixture `minuet` does: performing, time, tapes, crashes, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from minuet import (
    App,
    Context,
    Rejection,
    RunRejected,
    Service,
    Transaction,
    action,
    compensation,
    event,
    injected,
    on,
    publish,
    sleep,
    together,
    wait_for,
    workflow,
)
from minuet.errors import NotFound, SettingsError
from minuet.testing import Crash, Delay, Kit, assert_published, assert_same_trace, styles
from minuet.testing.simulation.loop import EscapedSimulation
from minuet.testing.variants import VARIANTS, Variant


class SoldOut(Rejection): ...


@event("shop.picked-up", version=1, key="order")
@dataclass(frozen=True)
class PickedUp:
    order: str
    driver: str


@event("shop.charged", version=1, key="order")
@dataclass(frozen=True)
class Charged:
    order: str
    amount: int


class Payments(Service):
    def __init__(self) -> None:
        self.calls: list[str] = []

    @action(emits=(Charged,))
    async def charge(self, order: str) -> str:
        self.calls.append(f"charge {order}")
        publish(Charged(order, 20))
        return f"receipt-{order}"

    @compensation(charge)
    async def refund(self, receipt: str) -> None:
        self.calls.append(f"refund {receipt}")


class Stock(Service):
    @action(rejects=(SoldOut,))
    async def reserve(self, order: str) -> str:
        await asyncio.sleep(0.5)
        return f"hold-{order}"

    @compensation(reserve)
    async def release(self, hold: str) -> None: ...


class Ledger(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (what text primary key)")

    @action(pure=True)
    async def write(self, order: str, tx: Transaction = injected()) -> int:
        await tx.execute("insert into entry values (?)", order)
        return len(await tx.fetch("select * from entry"))


@workflow
async def place_order(order: str, *, payments: Payments, stock: Stock) -> str:
    receipt, hold = await together(payments.charge(order), stock.reserve(order))
    return f"{receipt}, {hold}"


@workflow
async def deliver(order: str, *, payments: Payments) -> str:
    await payments.charge(order).keep()
    seen = await wait_for(PickedUp, key=order, timeout=timedelta(days=3))
    if seen is None:
        return "late"
    await sleep(timedelta(days=14))
    return seen.driver


@workflow
async def note(order: str, *, ledger: Ledger) -> int:
    return await ledger.write(order)


class Counter(Service):
    value = 0  # it outlives a crash, as a service elsewhere does that knows no operation keys

    @action(pure=True)
    async def count(self) -> int:
        self.value += 1
        return self.value


class Bank(Service):
    def __init__(self) -> None:
        self.keys: list[str] = []

    @action(pure=True)
    async def pay(self, context: Context = injected()) -> None:
        self.keys.append(context.op_key)


class Leaving(Service):
    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    @action(pure=True)
    async def leave(self) -> None:
        self.call()


@workflow
async def count(*, counter: Counter) -> int:
    return await counter.count()


@workflow
async def pay(*, bank: Bank) -> None:
    await bank.pay()


@workflow
async def leave(*, leaving: Leaving) -> None:
    await leaving.leave()


@workflow
async def wait(order: str, *, payments: Payments) -> str:
    seen = await wait_for(PickedUp, key=order)
    return seen.driver


def team() -> list[Service]:
    return [Payments(), Stock()]


async def test_a_workflow_is_performed_to_its_end(minuet: Kit) -> None:
    run = await minuet.perform(place_order, "o-1", services=team())
    assert await run.status() == "completed"
    assert await run.result() == "receipt-o-1, hold-o-1"
    assert {f.what for f in await run.facts()} == {"payments.charge", "stock.reserve"}
    assert_published(run, Charged("o-1", 20))


async def test_an_action_answers_what_its_tape_says(minuet: Kit) -> None:
    payments = Payments()
    run = await minuet.perform(
        place_order, "o-1", services=[payments, Stock()], outcomes={"stock.reserve": [SoldOut("none left")]}
    )
    assert await run.status() == "compensated"
    assert payments.calls == ["charge o-1", "refund receipt-o-1"]
    with pytest.raises(RunRejected, match="sold-out"):
        await run.result()


async def test_a_tape_is_taken_attempt_by_attempt(minuet: Kit) -> None:
    tape = [ConnectionError("offline"), Delay(5, then=ConnectionError("offline")), "from the tape"]
    run = await minuet.perform(place_order, "o-1", services=team(), outcomes={"stock.reserve": tape})
    assert await run.result() == "receipt-o-1, from the tape"
    assert run.app.tapes.left() == {}


async def test_an_unknown_name_in_outcomes_is_refused(minuet: Kit) -> None:
    with pytest.raises(NotFound, match=r"stock.resrve.*payments.charge"):
        await minuet.perform(place_order, "o-1", services=team(), outcomes={"stock.resrve": []})


async def test_time_passes_when_the_test_says_so(minuet: Kit) -> None:
    run = await minuet.perform(deliver, "o-1", services=[Payments()])
    assert [w.needs for w in await run.waiting()] == ["shop.picked-up o-1"]
    await run.send(PickedUp("o-1", "ada"))
    await run.advance(timedelta(days=13, hours=23))
    assert await run.status() == "running"
    await run.advance(timedelta(hours=1))
    assert await run.status() == "completed"
    assert await run.result() == "ada"


async def test_a_timeout_is_over_at_its_instant(minuet: Kit) -> None:
    run = await minuet.perform(deliver, "o-1", services=[Payments()])
    begun_ms = run.app.now_ms
    assert await run.result() == "late"
    assert run.app.now_ms - begun_ms == pytest.approx(timedelta(days=3) / timedelta(milliseconds=1), abs=60_000)


async def test_a_result_that_nothing_brings_is_no_endless_wait(minuet: Kit) -> None:
    run = await minuet.perform(wait, "o-1", services=[Payments()])
    with pytest.raises(TimeoutError, match=r"waits for shop.picked-up o-1"):
        await run.result()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_around_an_action_changes_nothing_but_its_calls(minuet: Kit, when: Any) -> None:
    payments = Payments()
    run = await minuet.perform(
        place_order, "o-1", services=[payments, Stock()], outcomes={"payments.charge": [Crash(when)]}
    )
    assert await run.result() == "receipt-o-1, hold-o-1"
    assert len(payments.calls) == (1 if when == "before" else 2)  # nothing says yet that it was done
    assert any(what == "!! crashes" for _, _, what in run.app.world.story)


async def test_a_crash_is_asked_for_beforehand(minuet: Kit) -> None:
    payments = Payments()
    await minuet.crash_after("payments.charge")
    run = await minuet.perform(place_order, "o-1", services=[payments, Stock()])
    assert await run.status() == "completed"
    assert payments.calls == ["charge o-1", "charge o-1"]


async def test_what_was_written_in_a_transaction_is_written_once_though_the_process_crashes(minuet: Kit) -> None:
    run = await minuet.perform(note, "o-1", services=[Ledger()], outcomes={"ledger.write": [Crash()]})
    assert await run.result() == 1
    assert any(what == "!! crashes" for _, _, what in run.app.world.story)


async def test_services_that_are_made_lose_in_a_crash_what_they_hold(minuet: Kit) -> None:
    made: list[Payments] = []

    def make() -> list[Service]:
        made.append(Payments())
        return [made[-1], Stock()]

    await minuet.perform(place_order, "o-1", services=make, outcomes={"payments.charge": [Crash()]})
    assert [p.calls for p in made if p.calls] == [["charge o-1"], ["charge o-1"]]


async def test_a_crash_at_every_point_makes_no_difference(minuet: Kit) -> None:
    points = await minuet.every_crash_point(place_order, "o-1", services=team)
    assert {p.state for p in points} == {"completed"}
    assert any("when payments.charge ends" in p.where for p in points)
    assert any(p.where.endswith(": 1a ok") for p in points)


async def test_a_crash_that_makes_a_difference_is_found(minuet: Kit) -> None:
    with pytest.raises(AssertionError, match=r"a crash at .* when counter.count ends, makes a difference"):
        await minuet.every_crash_point(count, services=lambda: [Counter()])


async def test_reactions_are_tried_in_an_app(minuet: Kit) -> None:
    heard: list[int] = []

    class Mailer(Service):
        @on(Charged)
        async def when_charged(self, charged: Charged) -> None:
            heard.append(charged.amount)

    app = minuet.open(App("shop", services=[*team(), Mailer()], workflows=[place_order]))
    run = await app.start(place_order, "o-1")
    assert await run.status() == "completed"
    assert heard == [20]


@pytest.mark.parametrize(
    "call",
    [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=0.01),
        lambda: subprocess.run(["true"], check=True),
    ],
    ids=["socket", "process"],
)
async def test_whoever_leaves_the_simulation_is_told(minuet: Kit, call: Callable[[], object]) -> None:
    with pytest.raises(EscapedSimulation, match=r"leaving.leave: .* would leave the simulation. Give the service"):
        await minuet.perform(leave, services=[Leaving(call)])


def test_outside_of_a_simulation_sockets_are_nobodys_business() -> None:
    with socket.socket() as s, pytest.raises(OSError, match=r"."):
        s.bind(("192.0.2.1", 1))


def test_a_test_without_a_loop_can_perform_too() -> None:
    with Kit() as kit:
        assert asyncio.run(_result(kit)) == "receipt-o-1, hold-o-1"


async def _result(kit: Kit) -> str:
    return await (await kit.perform(place_order, "o-1", services=team())).result()


def test_what_always_holds_is_looked_at_at_every_commit() -> None:
    payments = Payments()
    kit = Kit()
    kit.always(lambda: len(payments.calls) < 2, "charged at most once")

    async def perform() -> None:
        await kit.perform(place_order, "o-1", services=[payments, Stock()], outcomes={"payments.charge": [Crash()]})

    with pytest.raises(AssertionError, match="charged at most once does not hold"):
        asyncio.run(perform())
    kit.close()


@styles
async def test_every_variant_takes_the_same_path(minuet: Kit) -> None:
    sold_out = {"stock.reserve": [SoldOut()]}
    a = await minuet.perform(place_order, "o-1", services=team(), outcomes=sold_out)
    with Kit() as plain:
        b = await plain.perform(place_order, "o-1", services=team(), outcomes=sold_out, style="orchestration", seed=7)
        await assert_same_trace(a, b)
        assert await a.status() == await b.status() == "compensated"


def test_variants_are_read_as_they_are_shown() -> None:
    assert [Variant.parse(str(v)) for v in VARIANTS] == list(VARIANTS)
    with pytest.raises(SettingsError, match="no style"):
        Variant.parse("ballet")
    with pytest.raises(SettingsError, match="a store each"):
        Variant.parse("hybrid, three stores")


async def test_an_action_knows_its_operation_key(minuet: Kit) -> None:
    bank = Bank()
    await minuet.perform(pay, services=[bank], outcomes={"bank.pay": [Crash(), ...]})
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1


async def test_a_run_that_waits_goes_on_between_crashes(minuet: Kit) -> None:
    points = await minuet.every_crash_point(
        deliver, "o-1", services=lambda: [Payments()], then=lambda run: run.send(PickedUp("o-1", "ada"))
    )
    assert {(p.state, len(p.facts)) for p in points} == {("running", 2)}


async def test_a_thread_leaves_the_simulation_too(minuet: Kit) -> None:
    with pytest.raises(EscapedSimulation, match=r"leaving.leave: .*run_in_executor"):
        await minuet.perform(leave, services=[Leaving(lambda: asyncio.get_running_loop().run_in_executor(None, print))])
