"""The effect ledger over a real store: an effect has one cause, by whatever paths it is caused, and all are told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from minuet import (
    App,
    Context,
    Rejection,
    RetryPolicy,
    RunParked,
    RunRejected,
    Service,
    Transaction,
    action,
    compensation,
    event,
    injected,
    on,
    publish,
    together,
    workflow,
)
from minuet.engine.row import Decision, EffectKey, EffectRow
from minuet.runtime.letters import EVERYTHING
from minuet.runtime.settings import Settings
from minuet.runtime.view import FailedView, RunView
from tests.unit.runtime.conftest import until

pytestmark = pytest.mark.asyncio

SOON = RetryPolicy(attempts=3, first_ms=1, at_most_ms=1)


class Declined(Rejection): ...


@event("orders.placed", version=1, key="id")
class Placed(msgspec.Struct, frozen=True):
    id: str
    amount: int = 10


@event("orders.paid", version=1, key="id")
class Paid(msgspec.Struct, frozen=True):
    id: str


@event("payments.charged", version=1, key="id")
class Charged(msgspec.Struct, frozen=True):
    id: str


class Payments(Service):
    """Charges outside (a list), and books in a table of its own."""

    def __init__(self) -> None:
        self.charged: list[tuple[str, int, str]] = []  # order, amount, op_key
        self.refunded: list[str] = []
        self.busy = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self.fails = 0
        self.caught: list[str] = []

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id text, amount int, op_key text) strict")

    @action(rejects=(Declined,), effect_key="id", emits=(Charged,))
    async def charge(self, id: str, amount: int, *, context: Context = injected()) -> str:
        self.busy.set()
        await self.go.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no bank today")
        if amount > 100:
            raise Declined("too much")
        self.charged.append((id, amount, context.op_key))
        publish(Charged(id))
        return f"receipt {len(self.charged)}"

    @compensation(charge)
    async def refund(self, receipt: str) -> None:
        self.refunded.append(receipt)

    @action(effect_key="order.id")
    async def book(self, order: Placed, *, tx: Transaction = injected(), context: Context = injected()) -> int:
        await tx.execute("insert into entry values (?, ?, ?)", order.id, order.amount, context.op_key)
        row = await tx.fetch_one("select count(*) as n from entry")
        return int(row["n"]) if row is not None else 0

    @compensation(book)
    async def strike(self, n: int, *, tx: Transaction = injected()) -> None:
        await tx.execute("delete from entry")

    @action(effect_key="id", on_second_cause="same")
    async def invoice(self, id: str, amount: int) -> str:
        self.charged.append((id, amount, "invoice"))
        return f"invoice {len(self.charged)}"

    @compensation(invoice)
    async def cancel_invoice(self, invoice: str) -> None:
        self.refunded.append(invoice)

    @action
    async def entries(self, id: str, *, tx: Transaction = injected()) -> list[str]:
        return [str(row["op_key"]) for row in await tx.fetch("select op_key from entry where id = ?", id)]


class Orders(Service):
    @action(rejects=(Declined,))
    async def ship(self, id: str) -> None:
        if id.startswith("no"):
            raise Declined(id)

    @action(emits=(Placed, Paid))
    async def place(self, id: str) -> None:
        publish(Placed(id))
        publish(Paid(id))


class Reacting(Payments, name="payments"):
    """Charges when an order was placed."""

    @on(Placed, retry=SOON)
    async def on_placed(self, placed: Placed) -> None:
        await self.charge(placed.id, placed.amount)


class TwiceReacting(Reacting, name="payments"):
    @on(Paid, retry=SOON)
    async def on_paid(self, paid: Paid) -> None:
        await self.charge(paid.id, 10)


class Booking(Payments, name="payments"):
    """Books in the reaction's transaction."""

    @on(Placed, retry=SOON)
    async def on_placed(self, placed: Placed, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry values ('reaction', 0, '')")
        await self.book(placed)

    @on(Paid, retry=SOON)
    async def on_paid(self, paid: Paid) -> None:  # what it awaits begins the transaction
        self.caught.append(str(await self.book(Placed(paid.id))))
        if self.fails:
            self.fails -= 1
            raise ConnectionError("after the booking")


@workflow
async def pay(placed: Placed, *, payments: Payments) -> str:
    return await payments.charge(placed.id, placed.amount)


@workflow
async def pay_and_ship(placed: Placed, *, payments: Payments, orders: Orders) -> str:
    receipt = await payments.charge(placed.id, placed.amount)
    await orders.ship(placed.id)
    return receipt


@workflow
async def pay_twice(placed: Placed, *, payments: Payments) -> None:
    await together(payments.charge(placed.id, 1), payments.charge(placed.id, 2))


@workflow
async def book(placed: Placed, *, payments: Payments) -> int:
    return await payments.book(placed)


@workflow
async def book_and_ship(placed: Placed, *, payments: Payments, orders: Orders) -> int:
    n = await payments.book(placed)
    await orders.ship(placed.id)
    return n


@workflow
async def invoice(placed: Placed, *, payments: Payments, orders: Orders) -> str:
    made = await payments.invoice(placed.id, placed.amount)
    await orders.ship(placed.id)
    return made


@workflow
async def place(id: str, *, orders: Orders) -> None:
    await orders.place(id)


@workflow
async def entries(id: str, *, payments: Payments) -> list[str]:
    return await payments.entries(id)


class Slow(Payments, name="payments"):
    @action(effect_key="id", attempt_timeout=0.05, retry=1)
    async def wait(self, id: str) -> str:
        if not self.busy.is_set():
            self.busy.set()
            await asyncio.Event().wait()
        return id


@workflow
async def slow(id: str, *, payments: Slow) -> str:
    return await payments.wait(id)


FLOWS: list[Any] = [pay, pay_and_ship, pay_twice, book, book_and_ship, invoice, place, entries]


@asynccontextmanager
async def shop(payments: Payments, store: str = "sqlite://", **more: Any) -> AsyncIterator[App]:
    async with App("shop", services=[payments, Orders()], workflows=FLOWS, store=store, **more) as app:
        yield app


async def effect_of(app: App, key: str, action: str = "payments.charge") -> EffectRow | None:
    return await app.hosts.home.store.find_effect(action, key)


async def failed(app: App, count: int = 1) -> list[FailedView]:
    async def is_there() -> bool:
        return len(await app.control.failed()) == count

    await until(is_there)
    return await app.control.failed()


async def heard(app: App) -> None:
    async def is_heard() -> bool:
        return all(s.position >= s.newest for s in await app.control.letters.subscriptions())

    await until(is_heard)


async def parked(app: App, flow: Any, placed: Placed, key: str | None = None) -> RunView:
    with pytest.raises(RunParked, match="second-cause") as caught:
        await app.run(flow, placed, key=key)
    return await app.control.show(str(caught.value.subject["run"]))


# In workflows


async def test_two_workflows_cause_an_effect_once_and_the_second_is_parked_with_both_paths() -> None:
    payments = Payments()
    async with shop(payments) as app:
        assert await app.run(pay, Placed("o-1"), key="first") == "receipt 1"
        run = await parked(app, pay_and_ship, Placed("o-1"), key="second")
        (letter,) = await app.control.failed()
        row = await effect_of(app, "o-1")
    assert [c[0] for c in payments.charged] == ["o-1"]
    assert row is not None
    assert (row.result, row.arguments) == ('"receipt 1"', '{"id":"o-1","amount":10}')
    assert payments.charged[0][2] == row.op_key
    first, second = letter.reason.split("; it is caused again by ")
    assert re.match(
        r"second-cause: payments.charge took effect for 'o-1' already, by step 1 of pay@[0-9a-f]{8} ", first
    )
    assert re.search(r"test_ledger\.py:\d+\), run '\w{13}', key 'first'$", first)
    assert re.match(r"step 1 of pay_and_ship@[0-9a-f]{8} \(\S*test_ledger\.py:\d+\), run ", second)
    assert f"run '{run.run}', key 'second'" in second


async def test_another_key_is_another_effect() -> None:
    payments = Payments()
    async with shop(payments) as app:
        for order in ("o-1", "o-2"):
            await app.run(pay, Placed(order))
    assert [c[0] for c in payments.charged] == ["o-1", "o-2"]


async def test_two_positions_of_one_run_are_two_causes() -> None:
    payments = Payments()
    async with shop(payments) as app:
        await parked(app, pay_twice, Placed("o-1"))
    assert len(payments.charged) == 1


async def test_a_rejection_and_a_failed_attempt_are_no_effects() -> None:
    payments = Payments()
    payments.fails = 1
    async with shop(payments) as app:
        with pytest.raises(RunRejected):
            await app.run(pay, Placed("o-1", 1_000))
        assert await effect_of(app, "o-1") is None
        assert await app.run(pay, Placed("o-1", 10)) == "receipt 1"


async def test_the_second_of_two_at_once_waits_without_a_slot_and_does_not_run_beside_the_first() -> None:
    payments = Payments()
    payments.go.clear()
    async with App("shop", services=[payments, Orders()], workflows=FLOWS, store="sqlite://") as app:
        runs = [asyncio.ensure_future(app.run(pay, Placed("o-1"), key=str(n))) for n in range(50)]
        await payments.busy.wait()
        other = asyncio.ensure_future(app.run(entries, "o-1"))
        assert await other == []
        assert app.hosts.home.worker.running == 1, "the others wait for their turn, not in a slot"
        payments.go.set()
        done = await asyncio.gather(*runs, return_exceptions=True)
        assert len(payments.charged) == 1
        assert sum(1 for x in done if x == "receipt 1") == 1
        assert sum(1 for x in done if isinstance(x, RunParked)) == 49


async def test_a_turn_is_given_back_when_the_effect_is_durable_not_before() -> None:
    payments = Payments()
    async with shop(payments) as app:
        store, held = app.hosts.home.store, list[Decision]()
        submit = store.submit

        def submit_later(decision: Decision) -> None:
            if decision.messages is not None and decision.messages.effects:
                held.append(decision)
            else:
                submit(decision)

        store.submit = submit_later  # type: ignore[method-assign]
        runs = [asyncio.ensure_future(app.run(pay, Placed("o-1"), key=str(n))) for n in range(2)]

        async def is_held() -> bool:
            return bool(held)

        await until(is_held)
        for _ in range(3):
            await app.run(entries, "o-1")
        assert len(payments.charged) == 1, "the second one waits for the commit of the first"
        submit(*held)
        done = await asyncio.gather(*runs, return_exceptions=True)
        assert sorted(type(x).__name__ for x in done) == ["RunParked", "str"]
    assert len(payments.charged) == 1


async def test_a_transactional_action_takes_effect_once_among_many_at_once() -> None:
    async with shop(Payments()) as app:
        done = await asyncio.gather(
            *(app.run(book, Placed("o-1"), key=str(n)) for n in range(30)), return_exceptions=True
        )
        assert sum(1 for x in done if x == 1) == 1
        assert sum(1 for x in done if isinstance(x, RunParked)) == 29
        row = await effect_of(app, "o-1", "payments.book")
        assert row is not None
        assert await app.run(entries, "o-1") == [row.op_key]


@pytest.mark.parametrize("transactional", [False, True])
async def test_the_stores_own_key_has_the_last_word_and_undoes_what_was_written(transactional: bool) -> None:
    """The effect comes about after the ledger was asked, and before the commit."""
    payments = Payments()
    async with shop(payments) as app:
        store = app.hosts.home.store
        find, asked = store.find_effect, 0

        async def find_effect(action: str, key: str) -> EffectRow | None:
            nonlocal asked
            asked += 1
            found = await find(action, key)
            if asked == 1:
                decision = Decision()
                row = EffectRow(action, key, "elsewhere", "another way", "{}", '"theirs"', 1)
                decision.ensure_messages().effects = [row]
                await app.hosts.home.participant.record(decision)
            return found

        store.find_effect = find_effect  # type: ignore[method-assign]
        with pytest.raises(RunParked, match=r"already, by another way; it is caused again by step 1 of"):
            await app.run(book if transactional else pay, Placed("o-1"))
        assert asked == 2
        assert await app.run(entries, "o-1") == [], "what it wrote is undone"


async def test_a_compensated_effect_frees_its_key_and_is_caused_again_then() -> None:
    payments = Payments()
    async with shop(payments) as app:
        with pytest.raises(RunRejected):
            await app.run(pay_and_ship, Placed("no-1"))
        assert payments.refunded == ["receipt 1"]
        assert await effect_of(app, "no-1") is None
        assert await app.run(pay, Placed("no-1")) == "receipt 2"
        with pytest.raises(RunRejected):
            await app.run(book_and_ship, Placed("no-2"))
        assert await effect_of(app, "no-2", "payments.book") is None
        assert await app.run(book, Placed("no-2")) == 1


async def test_a_parked_second_cause_runs_when_it_is_retried_after_the_first_was_taken_back() -> None:
    payments = Payments()
    async with shop(payments) as app:
        await app.run(pay, Placed("o-1"))
        run = await parked(app, pay_and_ship, Placed("o-1"))
        await app.control.retry(run.run)
        (still,) = await failed(app)
        assert still.reason.startswith("second-cause")
        assert len(payments.charged) == 1
        row = await effect_of(app, "o-1")
        assert row is not None
        decision = Decision()
        decision.ensure_messages().effects_done = [EffectKey(row.action, row.key, row.op_key)]
        await app.hosts.home.participant.record(decision)
        await app.control.retry(run.run)
        assert (await app.control.wait(run.run, 10)).state == "completed"
        assert len(payments.charged) == 2


async def test_a_second_cause_that_is_resolved_by_hand_leaves_the_effect_to_the_first() -> None:
    payments = Payments()
    async with shop(payments) as app:
        await app.run(pay, Placed("no-1"))
        before = await effect_of(app, "no-1")
        run = await parked(app, pay_and_ship, Placed("no-1"))
        await app.control.resolve(run.run, "1", result=b'"receipt 1"', note="it is the same order")
        assert (await app.control.wait(run.run, 10)).state == "compensated"
        assert payments.refunded == [], "what the first one has done is not the second one's to take back"
        assert await effect_of(app, "no-1") == before


async def test_what_is_done_and_taken_back_by_hand_is_known_to_the_ledger() -> None:
    payments = Payments()
    payments.fails = 1
    async with shop(payments) as app:
        started = await app.control.start("pay", b'{"id": "o-1"}')
        run = started[0].run

        async def waits() -> bool:
            return bool((await app.control.show(run)).waiting) and not payments.fails

        await until(waits)

        async def is_resolved() -> bool:
            return (await app.control.resolve(run, "1", result=b'"by phone"', note="called")).outcome == "resolved"

        await is_resolved()
        row = await effect_of(app, "o-1")
        assert row is not None
        assert row.result == '"by phone"'
        assert row.causes.endswith(", by hand")
        await parked(app, pay, Placed("o-1"))


# `on_second_cause="same"`


async def test_the_same_is_answered_with_the_first_result_where_the_arguments_are_equal_and_else_parked() -> None:
    payments = Payments()
    async with shop(payments) as app:
        assert await app.run(invoice, Placed("o-1", 5)) == "invoice 1"
        assert await app.run(invoice, Placed("o-1", 5)) == "invoice 1"
        await parked(app, invoice, Placed("o-1", 6))
    assert len(payments.charged) == 1


async def test_a_run_that_was_answered_with_the_first_result_does_not_take_it_back() -> None:
    payments = Payments()
    async with shop(payments) as app:
        with pytest.raises(RunRejected):
            await app.run(invoice, Placed("no-1"))
        assert payments.refunded == ["invoice 1"]
        decision = Decision()
        row = EffectRow(
            "payments.invoice", "no-1", "theirs", "another way", '{"id":"no-1","amount":10}', '"invoice 7"', 1
        )
        decision.ensure_messages().effects = [row]
        await app.hosts.home.participant.record(decision)
        with pytest.raises(RunRejected):
            await app.run(invoice, Placed("no-1"))
        assert payments.refunded == ["invoice 1"]
        assert await effect_of(app, "no-1", "payments.invoice") == row


# In reactions


async def test_a_reaction_performs_an_action_of_its_service_as_that_action() -> None:
    payments = Reacting()
    async with shop(payments) as app:
        await app.send(Placed("o-1"))
        await heard(app)
        row = await effect_of(app, "o-1")
        assert row is not None
        assert payments.charged == [("o-1", 10, row.op_key)]
        assert row.op_key == "payments.on_placed:1"
        assert re.match(r"the reaction payments.on_placed \(\S*test_ledger\.py:\d+\) to orders.placed, ", row.causes)
        assert await app.hosts.home.store.newest_of("payments.charged") == 2, "what the action publishes leaves too"


async def test_a_command_and_an_event_cause_an_effect_once() -> None:
    payments = Reacting()
    async with shop(payments) as app:
        await app.run(pay, Placed("o-1"), key="o-1")
        await app.run(place, "o-1")
        (letter,) = await app.control.letters.dead_letters() or await failed(app)
        assert letter.reason.partition(":")[0] == "second-cause"
        (shown,) = await app.control.letters.dead_letters()
        told = shown.error
    assert len(payments.charged) == 1
    assert re.search(r"already, by step 1 of pay@\w{8} \(\S+:\d+\), run '\w+', key 'o-1'; it is caused again by", told)
    assert re.search(r"by the reaction payments.on_placed \(\S*test_ledger.py:\d+\) to orders.placed, key 'o-1'", told)
    assert re.search(r"caused by step 1 of place@\w{8} \(\S+:\d+\), run '\w+'", told), "back to the root"


async def test_an_event_and_a_command_cause_an_effect_once() -> None:
    payments = Reacting()
    async with shop(payments) as app:
        await app.run(place, "o-1")
        await heard(app)
        await parked(app, pay, Placed("o-1"))
        (letter,) = await app.control.failed()
    assert len(payments.charged) == 1
    assert re.search(r"already, by the reaction payments.on_placed .*, caused by step 1 of place@", letter.reason)


async def test_two_reactions_cause_an_effect_once() -> None:
    payments = TwiceReacting()
    async with shop(payments) as app:
        await app.run(place, "o-1")
        await failed(app)
        (letter,) = await app.control.letters.dead_letters()
    assert len(payments.charged) == 1
    assert letter.reason == "second-cause"
    assert "the reaction payments.on_placed" in letter.error
    assert "the reaction payments.on_paid" in letter.error


async def test_a_delivery_once_more_is_a_repetition() -> None:
    payments = Reacting()
    async with shop(payments) as app:
        await app.send(Placed("o-1"))
        await heard(app)
        await app.control.letters.replay("payments.on_placed", since_ms=0)

        async def is_applied() -> bool:
            return app.hosts.home.inlet.subscribers["payments.on_placed"].applied == 2

        await until(is_applied)
        assert await app.control.failed() == []
    assert len(payments.charged) == 1


async def test_a_dead_second_cause_may_be_retried_and_discarded() -> None:
    payments = Reacting()
    async with shop(payments) as app:
        await app.run(pay, Placed("o-1"))
        await app.send(Placed("o-1"))
        await failed(app)
        row = await effect_of(app, "o-1")
        assert row is not None
        decision = Decision()
        decision.ensure_messages().effects_done = [EffectKey(row.action, row.key, row.op_key)]
        await app.hosts.home.participant.record(decision)
        await app.control.letters.retry(EVERYTHING)
        await failed(app, 0)

        async def is_charged() -> bool:
            return len(payments.charged) == 2

        await until(is_charged)
        await app.send(Placed("o-1"))
        await failed(app)
        await app.control.letters.discard(EVERYTHING, note="it was charged")
        await failed(app, 0)
    assert len(payments.charged) == 2


async def test_what_a_reaction_without_a_transaction_has_done_stands_although_it_fails_later() -> None:
    class Forgetful(Payments, name="payments"):
        @on(Placed, retry=SOON)
        async def on_placed(self, placed: Placed) -> None:
            self.caught.append(await self.charge(placed.id, placed.amount))
            if len(self.caught) == 1:
                raise ConnectionError("after the charge")

    payments = Forgetful()
    async with shop(payments) as app:
        await app.send(Placed("o-1"))

        async def is_done() -> bool:
            return len(payments.caught) == 2

        await until(is_done)
    assert payments.caught == ["receipt 1", "receipt 1"], "the second attempt is a repetition"
    assert len(payments.charged) == 1


async def test_a_reactions_transaction_has_the_writes_of_what_it_awaits() -> None:
    payments = Booking()
    async with shop(payments) as app:
        await app.send(Placed("o-1"))
        await heard(app)
        assert await app.run(entries, "o-1") == ["payments.on_placed:1"]
        assert len(await app.run(entries, "reaction")) == 1
        await app.send(Placed("o-1"))
        (letter,) = await failed(app)
        assert letter.reason.startswith("second-cause")
        assert "payments.on_placed:1" not in letter.reason
        assert letter.reason.count("the reaction payments.on_placed") == 2
        assert len(await app.run(entries, "reaction")) == 1, "its own writes are undone too"
        await app.run(book, Placed("o-2"))
        await app.send(Placed("o-2"))
        await failed(app, 2)
        assert len(await app.run(entries, "o-2")) == 1


async def test_what_is_awaited_may_begin_the_transaction_and_is_undone_with_the_rest() -> None:
    payments = Booking()
    payments.fails = 2
    async with shop(payments) as app:
        await app.send(Paid("o-1"))
        await heard(app)

        async def is_applied() -> bool:
            return app.hosts.home.inlet.subscribers["payments.on_paid"].applied == 1

        await until(is_applied)
        assert payments.caught == ["1", "1", "1"]
        assert await app.run(entries, "o-1") == ["payments.on_paid:1"]
        assert await effect_of(app, "o-1", "payments.book") is not None


async def test_a_second_cause_that_is_caught_is_parked_all_the_same() -> None:
    class Careless(Payments, name="payments"):
        @on(Placed, retry=SOON, emits=(Paid,))
        async def on_placed(self, placed: Placed) -> None:
            try:
                await self.charge(placed.id, placed.amount)
            except Exception as e:
                self.caught.append(type(e).__name__)
            publish(Paid(placed.id))

    payments = Careless()
    async with shop(payments) as app:
        await app.run(pay, Placed("o-1"))
        await app.send(Placed("o-1"))
        (letter,) = await failed(app)
        assert letter.reason.startswith("second-cause")
        assert await app.hosts.home.store.newest_of("orders.paid") == 0
    assert payments.caught == ["SecondCause"]


async def test_a_rejection_may_be_caught_in_a_reaction() -> None:
    class Careful(Payments, name="payments"):
        @on(Placed, retry=SOON)
        async def on_placed(self, placed: Placed) -> None:
            try:
                await self.charge(placed.id, placed.amount)
            except Declined as e:
                self.caught.append(e.message)

    payments = Careful()
    async with shop(payments) as app:
        await app.send(Placed("o-1", 1_000))
        await heard(app)
        assert await effect_of(app, "o-1") is None
    assert payments.caught == ["too much"]


async def test_each_call_of_a_reaction_is_a_cause_of_its_own() -> None:
    class Twice(Payments, name="payments"):
        @on(Placed, retry=SOON)
        async def on_placed(self, placed: Placed) -> None:
            await self.charge(placed.id, 1)
            await self.charge(placed.id + "b", 2)
            await self.charge(placed.id, 3)

    payments = Twice()
    async with shop(payments) as app:
        await app.send(Placed("o-1"))
        (letter,) = await failed(app)
    assert [c[2] for c in payments.charged] == ["payments.on_placed:1", "payments.on_placed:1:1"]
    assert letter.reason.count("the reaction payments.on_placed") == 2
    assert len(set(re.findall(r"test_ledger\.py:(\d+)", letter.reason))) == 2, "both lines are told"


async def test_a_reaction_awaits_actions_of_its_own_service_and_nothing_else_of_a_workflow() -> None:
    class Meddling(Payments, name="payments"):
        def __init__(self, orders: Orders) -> None:
            super().__init__()
            self.orders = orders

        @on(Placed, retry=SOON)
        async def on_placed(self, placed: Placed) -> None:
            await self.orders.ship(placed.id)

        @on(Paid, retry=SOON)
        async def on_paid(self, paid: Paid) -> None:
            await self.charge(paid.id, 1).timeout(3)

    async with shop(Meddling(Orders())) as app:
        await app.send(Placed("o-1"))
        await app.send(Paid("o-1"))
        letters = sorted(x.reason for x in await failed(app, 2))
    assert "says how a workflow is to do it" in letters[0] or "says how a workflow is to do it" in letters[1]
    assert any("awaits actions of its own service" in x for x in letters)


async def test_what_was_refused_at_the_commit_of_a_reaction_is_told_with_both_paths() -> None:
    payments = Booking()
    async with shop(payments) as app:
        find = app.hosts.home.store.find_effect
        seen: list[str] = []

        async def find_effect(action: str, key: str) -> EffectRow | None:
            seen.append(key)
            return await find(action, key)

        app.hosts.home.store.find_effect = find_effect  # type: ignore[method-assign]
        await app.run(book, Placed("o-1"))
        seen.clear()
        await app.send(Placed("o-1"))  # the reaction's transaction has begun when it awaits the action
        (letter,) = await failed(app)
    assert seen == ["o-1"], "asked once, after the commit was refused"
    assert re.search(r"by step 1 of book@\w+ .*again by the reaction payments.on_placed", letter.reason)


# With a store for each service


@pytest.mark.parametrize("style", ["orchestration", "choreography"])
async def test_with_a_store_for_each_service_its_ledger_is_in_its_own(style: str) -> None:
    payments = Reacting()
    app = App(
        "shop", services=[payments, Orders()], workflows=[pay, place], store="sqlite://",
        styles={"pay": style, "place": style},
    )  # fmt: skip
    await app.open(Settings(store_url="sqlite://", store_per_service=True, styles={"pay": style, "place": style}))
    try:
        run = await app.control.start("pay", b'{"id": "o-1"}', key="a")
        assert (await app.control.wait(run[0].run, 10)).state == "completed"
        second = await app.control.start("pay", b'{"id": "o-1"}', key="b")

        async def is_parked() -> bool:
            return any("second-cause" in x.reason for x in await app.control.failed())

        await until(is_parked)
        (service,) = [h for h in app.hosts.services if "payments" in h.names]
        assert await service.store.find_effect("payments.charge", "o-1") is not None
        assert await app.hosts.home.store.find_effect("payments.charge", "o-1") is None
        assert second[1]
    finally:
        await app.stop(0)
    assert len(payments.charged) == 1


# What gives a turn back


async def test_an_attempt_that_is_cut_off_gives_its_turn_to_the_next() -> None:
    payments = Slow()
    async with App("shop", services=[payments], workflows=[slow], store="sqlite://") as app:
        first = asyncio.ensure_future(app.run(slow, "o-1"))
        await payments.busy.wait()
        assert await app.run(slow, "o-1") == "o-1"
        with pytest.raises(RunParked, match="cut off"):
            await first


async def test_a_run_that_is_terminated_gives_its_turn_to_the_next() -> None:
    payments = Payments()
    payments.go.clear()
    async with shop(payments) as app:
        run = (await app.control.start("pay", b'{"id": "o-1"}', key="a"))[0].run
        await payments.busy.wait()
        waiting = asyncio.ensure_future(app.run(pay, Placed("o-1"), key="b"))
        await app.run(entries, "o-1")
        await app.control.terminate(run)
        payments.go.set()
        assert await waiting == "receipt 1"


async def test_whoever_waits_for_a_turn_may_be_terminated() -> None:
    payments = Payments()
    payments.go.clear()
    async with shop(payments) as app:
        first = asyncio.ensure_future(app.run(pay, Placed("o-1"), key="a"))
        await payments.busy.wait()
        run = (await app.control.start("pay", b'{"id": "o-1"}', key="b"))[0].run
        await app.control.terminate(run)
        payments.go.set()
        assert await first == "receipt 1"
    assert len(payments.charged) == 1


async def test_a_reaction_waits_for_the_turn_of_a_step_and_gives_back_its_own() -> None:
    payments = Reacting()
    payments.go.clear()
    async with shop(payments) as app:
        first = asyncio.ensure_future(app.run(pay, Placed("o-1"), key="a"))
        await payments.busy.wait()
        await app.send(Placed("o-1"))
        await app.send(Placed("o-2"))
        await app.run(entries, "o-1")
        payments.go.set()
        assert (await first).startswith("receipt")
        (letter,) = await failed(app)
        assert letter.reason.startswith("second-cause")
        await heard(app)
        payments.fails = 1
        await app.send(Placed("o-3"))  # it fails, and its next attempt takes the turn again

        async def is_done() -> bool:
            return await effect_of(app, "o-3") is not None

        await until(is_done)
    assert sorted(c[0] for c in payments.charged) == ["o-1", "o-2", "o-3"]
