"""Reactions where it is unknown what was recorded, or something was not: each event is applied once, in its order.

Each of these was found in a simulated world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from minuet import RetryPolicy, Service, Transaction, event, injected, on
from minuet.contracts.envelope import Envelope, time_text
from minuet.engine.basis import lose
from minuet.engine.port import Outcome
from minuet.engine.row import Decision, DeliveryKey, EventRow
from minuet.errors import StoreUnavailable
from minuet.runtime.exchange import _event_of
from minuet.runtime.letters import LetterChoice
from minuet.testing.simulation.faults import Faults
from tests.unit.runtime.sharing import Cluster, Worker, cluster, play, until

SOON = RetryPolicy(attempts=100, first_ms=1, at_most_ms=1)


@event("shop.sold", version=1, key="item")
@dataclass(frozen=True)
class Sold:
    item: str
    number: int


class Shared:
    """What all workers of a test share: what an attempt does before it writes."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.running = self.most = 0
        self.before: Callable[[Sold], Awaitable[None]] | None = None

    async def begin(self, sold: Sold) -> None:
        self.attempts.append(sold.number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.before is not None:
                await self.before(sold)
        finally:
            self.running -= 1


class Counting(Service):
    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, number integer)")

    @on(Sold, order_key="item", retry=SOON)
    async def tally(self, sold: Sold, *, tx: Transaction = injected()) -> None:
        await self.shared.begin(sold)
        await tx.execute("insert into entry (number) values (?)", sold.number)


def one_store(shared: Shared, shards: int | None = None) -> Any:
    def build(_: Worker) -> Sequence[Service]:
        return [Counting(shared)]

    return cluster(build, [], shards=shards)


def applied(c: Cluster) -> list[int]:
    return [number for (number,) in c.rows("select number from entry order by id")]


def test_what_was_applied_in_an_unknown_commit_is_not_applied_again_whatever_follows() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def before(sold: Sold) -> None:
            if shared.attempts.count(1) == 1:
                raise RuntimeError("the first attempt")  # so that there is a row of it
            if sold.number == 1 and 2 < shared.attempts.count(1) < 6:
                raise RuntimeError("attempts of what has been applied")
            if sold.number == 1:
                c.database().faults = Faults(unknown_applied=1.0)

        shared.before = before
        worker = await c.worker("a").start()
        await worker.send(Sold("tea", 1))
        await until(lambda: applied(c) == [1])
        c.database().faults = Faults()
        shared.before = None
        for number in range(2, 5):  # the position moves on
            await worker.send(Sold("tea", number))
            await asyncio.sleep(2)
        assert applied(c) == [1, 2, 3, 4]
        assert shared.attempts.count(1) == 2

    with one_store(shared) as c:
        play(c, script(c))


def test_that_something_was_applied_is_not_forgotten_before_its_process_knows() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def before(sold: Sold) -> None:
            if shared.attempts.count(1) == 1:
                raise RuntimeError("the first attempt")  # so that there is a row of it
            if sold.number == 1:
                c.database().faults = Faults(unknown_applied=1.0)

        shared.before = before
        worker = await c.worker("a").start()
        store = worker.host.store
        unapplied = store.events_unapplied

        async def down(subscription: int, event: str, after: int, limit: int) -> list[EventRow]:
            raise StoreUnavailable("reads fail for a while", remedy="again")

        store.events_unapplied = down  # type: ignore[method-assign]
        await worker.send(Sold("tea", 1))
        await until(lambda: applied(c) == [1])
        c.database().faults = Faults()
        await worker.send(Sold("cups", 2))
        await asyncio.sleep(3)  # the position moves on
        store.events_unapplied = unapplied  # type: ignore[method-assign]
        await worker.send(Sold("tea", 3))
        await until(lambda: 3 in applied(c))
        assert applied(c) == [1, 2, 3]

    with one_store(shared) as c:
        play(c, script(c))


def test_the_row_of_what_was_applied_before_is_removed_even_if_that_fails_at_first() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def failing(sold: Sold) -> None:
            raise RuntimeError("not yet")

        shared.before = failing
        worker = await c.worker("a").start()
        await worker.send(Sold("tea", 1))
        await until(lambda: c.rows("select 1 from minuet_delivery") != [])
        participant, refused = worker.host.participant, list[Decision]()
        decision = Decision()
        decision.ensure_messages().applied = [DeliveryKey(1, 1)]
        await worker.do(participant.record(decision))

        def fails(decision: Decision) -> bool:
            messages = decision.messages
            return messages is not None and bool(messages.deliveries_done) and not messages.applied

        refuse_first(c, worker, fails, refused)
        shared.before = None
        await until(lambda: c.rows("select 1 from minuet_delivery") == [])
        assert refused
        assert applied(c) == []

    with one_store(shared) as c:
        play(c, script(c))


def test_what_is_early_is_not_given_out_before_it_is_known_to_have_its_row() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        worker = await c.worker("a").start()
        store, doubted = worker.host.store, list[Decision]()
        submit = store.submit

        def in_doubt(decision: Decision) -> None:
            messages = decision.messages
            if messages is not None and not doubted and any(d.state == "early" for d in messages.deliveries):
                doubted.append(decision)
                token: Any = decision.token
                decision.token = None
                error = StoreUnavailable("the answer is lost", remedy="again")
                c.loop.call_later(0.05, token.settled, None, error)
            submit(decision)

        store.submit = in_doubt  # type: ignore[method-assign]
        await arrive(worker, sold_row(2)._replace(sequence=7, previous=3))
        await until(lambda: c.rows("select 1 from minuet_delivery") != [])
        await arrive(worker, sold_row(1)._replace(sequence=3, previous=0))
        await until(lambda: applied(c) == [1, 2])
        await asyncio.sleep(1)
        assert doubted
        assert c.rows("select * from minuet_delivery") == []

    with one_store(shared) as c:
        play(c, script(c))


def test_a_subscription_goes_on_when_it_is_unknown_whether_needless_events_were_left() -> None:
    class Latest(Service):
        async def setup(self, tx: Transaction) -> None:
            await tx.execute("create table if not exists entry (id integer primary key, number integer)")

        @on(Sold, order_key="item", retry=SOON, on_gap="latest", buffer=2)
        async def tally(self, sold: Sold, *, tx: Transaction = injected()) -> None:
            await tx.execute("insert into entry (number) values (?)", sold.number)

    async def script(c: Cluster) -> None:
        worker = await c.worker("a").start()
        participant, doubted = worker.host.participant, list[Decision]()
        record = participant.record

        async def in_doubt(decision: Decision) -> None:
            await record(decision)
            if not doubted and decision.messages is not None and decision.messages.applied:
                doubted.append(decision)
                raise StoreUnavailable("the answer is lost", remedy="again")

        participant.record = in_doubt  # type: ignore[method-assign]
        for number, sequence, previous in ((2, 7, 3), (3, 9, 7)):
            await arrive(worker, sold_row(number)._replace(sequence=sequence, previous=previous))
        await until(lambda: applied(c) == [3])
        await arrive(worker, sold_row(4)._replace(sequence=11, previous=9))
        await until(lambda: applied(c) == [3, 4])
        assert doubted

    with cluster(lambda _: [Latest()], [], shards=None) as c:
        play(c, script(c))


def test_nothing_newer_is_recorded_as_held_before_what_was_lost() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def failing(sold: Sold) -> None:
            raise RuntimeError("not in this process")

        shared.before = failing
        worker = await c.worker("a").start()
        await worker.send(Sold("tea", 1))
        await until(lambda: c.rows("select 1 from minuet_delivery") != [])
        refused = list[Decision]()

        def holds(decision: Decision) -> bool:
            return decision.messages is not None and any(d.state == "held" for d in decision.messages.deliveries)

        refuse_first(c, worker, holds, refused)  # the hold of the second one fails
        await worker.send(Sold("tea", 2))
        await until(lambda: refused != [])
        await worker.send(Sold("tea", 3))
        await asyncio.sleep(0.1)
        assert c.rows("select entry from minuet_delivery where state = 'held'") == []
        worker.process.crash()
        shared.before = None
        await c.worker("b").start()
        await until(lambda: len(applied(c)) == 3)
        assert applied(c) == [1, 2, 3]

    with one_store(shared) as c:
        play(c, script(c))


@pytest.mark.parametrize("read", ["deliveries_held", "deliveries_of"])
def test_a_key_goes_on_though_the_read_of_what_is_held_fails_once(read: str) -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def failing(sold: Sold) -> None:
            raise RuntimeError("not yet")

        shared.before = failing
        worker = await c.worker("a").start()
        store, failed = worker.host.store, list[str]()
        for number, (sequence, previous) in enumerate(((3, 0), (7, 3), (9, 7)), 1):
            row = sold_row(number)
            await arrive(
                worker, row if read == "deliveries_held" else row._replace(sequence=sequence, previous=previous)
            )
        state = "held" if read == "deliveries_held" else "early"
        await until(lambda: c.rows("select 1 from minuet_delivery where state = ?", state) != [])
        await asyncio.sleep(0.5)
        original = getattr(store, read)

        async def once(*given: Any) -> Any:
            if not failed and shared.before is None and applied(c):
                failed.append(read)
                raise StoreUnavailable("a read failed", remedy="again")
            return await original(*given)

        setattr(store, read, once)
        shared.before = None
        await until(lambda: applied(c) == [1, 2, 3])
        assert failed

    with one_store(shared) as c:
        play(c, script(c))


def test_what_is_left_out_as_late_takes_no_turn() -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def slowly(sold: Sold) -> None:
            await asyncio.sleep(0.5)

        shared.before = slowly
        worker = await c.worker("a").start()
        for number, sequence, previous in ((1, 5, 0), (2, 6, 5), (3, 7, 6), (4, 4, 0)):
            await arrive(worker, sold_row(number)._replace(sequence=sequence, previous=previous))
        await until(lambda: len(applied(c)) == 3)
        assert applied(c) == [1, 2, 3]
        assert shared.most == 1

    with one_store(shared) as c:
        play(c, script(c))


@pytest.mark.parametrize("verb", ["skip", "discard"])
def test_a_key_goes_on_that_was_let_go_on_at_another_worker(verb: str) -> None:
    shared = Shared()

    async def script(c: Cluster) -> None:
        async def poison(sold: Sold) -> None:
            if sold.number == 1:
                raise ValueError("poison")

        shared.before = poison
        a, b = await c.started("a", "b")
        for number in range(1, 4):
            await a.send(Sold("tea", number))
        await until(lambda: c.rows("select 1 from minuet_delivery where state = 'dead'") != [])
        other = b if "counting.tally" in a.host.inlet.subscribers else a
        assert "counting.tally" not in other.host.inlet.subscribers
        letters = other.control.letters
        await other.do(getattr(letters, verb)(LetterChoice(subscription="counting.tally"), note="so be it"))
        await until(lambda: applied(c) == [2, 3])

    with one_store(shared, shards=8) as c:
        play(c, script(c))


@pytest.mark.parametrize("behind_ms", [0, 3_600_000, -3_600_000])
def test_what_was_published_since_somebody_listens_is_waited_for_by_any_clock(behind_ms: int) -> None:
    since, now = 1_700_000_000_000, 1_700_000_060_000
    before, at = since + 20_000 - behind_ms, since + 50_000 - behind_ms
    numbers = {"sequence": "7", "minuetprevious": "3", "minuetprevioustime": time_text(before)}
    e = Envelope("shop.sold", "m", "/shop", "shop.sold", "tea", at, {"minuetkind": "event", **numbers}, b"{}")
    assert _event_of(e, now, since).previous == 3


def test_what_was_published_long_before_somebody_listens_is_not_waited_for() -> None:
    since, now = 1_700_000_000_000, 1_700_000_060_000
    numbers = {"sequence": "7", "minuetprevious": "3", "minuetprevioustime": time_text(since - 60_000)}
    e = Envelope("shop.sold", "m", "/shop", "shop.sold", "tea", now, {"minuetkind": "event", **numbers}, b"{}")
    assert _event_of(e, now, since).previous == 0


def sold_row(number: int) -> EventRow:
    body = f'{{"item":"tea","number":{number}}}'
    return EventRow(None, "/shop", f"m{number}", "shop.sold", 1, "tea", body, 0, "", 0, 0)


async def arrive(worker: Worker, row: EventRow) -> None:
    """Have an event recorded as one that comes from elsewhere."""
    now = worker.clock.now_ms()
    decision = Decision()
    decision.ensure_messages().outbox = [row._replace(time_ms=now, at_ms=now)]
    await worker.do(worker.host.participant.record(decision))
    worker.process.call(worker.host.inlet.wake, [row])


def refuse_first(c: Cluster, worker: Worker, which: Callable[[Decision], bool], refused: list[Decision]) -> None:
    """Have the first decision of a kind not recorded."""
    store = worker.host.store
    submit = store.submit

    def busy(decision: Decision) -> None:
        if refused or not which(decision):
            submit(decision)
            return
        refused.append(decision)
        lose(decision)  # as the store does
        error = StoreUnavailable("busy", remedy="again")
        worker.process.call(worker.host.participant.on_outcomes, [Outcome(decision, None, error)])

    store.submit = busy  # type: ignore[method-assign]
