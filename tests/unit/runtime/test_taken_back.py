"""What a reaction heard is undone when the step is compensated that published it: once, if it was applied."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import (
    App,
    Context,
    DeclarationError,
    Rejection,
    RetryPolicy,
    RunRejected,
    Service,
    Transaction,
    action,
    compensation,
    event,
    injected,
    on,
    publish,
    workflow,
)
from minuet.contracts.service import service_spec
from minuet.engine.row import EventRow
from minuet.engine.taken_back import notices_about
from minuet.runtime.letters import LetterChoice
from tests.unit.runtime.conftest import until
from tests.unit.runtime.outside import participant, receive

pytestmark = pytest.mark.asyncio

SOON = RetryPolicy(attempts=2, first_ms=1, at_most_ms=1)


class SoldOut(Rejection):
    pass


@event("shop.reserved", version=1, key="order")
class Reserved(msgspec.Struct, frozen=True):
    order: str
    item: int = 0


class Shop(Service):
    """Reserves two items, and finds out that it cannot sell them."""

    def __init__(self) -> None:
        self.undone = 0
        self.undo_fails = 0

    @action(emits=(Reserved,))
    async def reserve(self, order: str) -> str:
        publish(Reserved(order, 1))
        publish(Reserved(order, 2))
        return order

    @compensation(reserve, retry=SOON)
    async def release(self, order: str) -> None:
        if self.undo_fails:
            self.undo_fails -= 1
            raise ConnectionError("not now")
        self.undone += 1

    @action(rejects=(SoldOut,))
    async def sell(self, order: str) -> str:
        if order.startswith("good"):
            return order
        raise SoldOut(order)


@workflow
async def order(number: str, *, shop: Shop) -> str:
    held = await shop.reserve(number)
    return await shop.sell(held)


class Shelf(Service):
    """Takes items from the shelf, and puts them back."""

    def __init__(self) -> None:
        self.did: list[tuple[str, int]] = []
        self.keys: list[str] = []
        self.bad: set[int] = set()
        self.bad_undo = 0

    @action
    async def put_back(self, reserved: Reserved, *, context: Context = injected()) -> None:
        if self.bad_undo:
            self.bad_undo -= 1
            raise ConnectionError("the ladder is away")
        self.did.append(("put back", reserved.item))
        self.keys.append(context.op_key)

    @on(Reserved, on_compensated=put_back, retry=SOON)
    async def take(self, reserved: Reserved, *, context: Context = injected()) -> None:
        if reserved.item in self.bad:
            raise ConnectionError("nobody finds it")
        self.did.append(("take", reserved.item))
        self.keys.append(context.op_key)


class PatientShelf(Shelf, name="shelf"):
    """The same, with attempts enough for a process that is stopped again and again: each stop counts."""

    @on(Reserved, on_compensated=Shelf.put_back, retry=RetryPolicy(attempts=0, first_ms=1, at_most_ms=1))
    async def take(self, reserved: Reserved, *, context: Context = injected()) -> None:
        self.did.append(("take", reserved.item))
        self.keys.append(context.op_key)


class OrderedShelf(Service, name="shelf"):
    """The same, in order, in a transaction."""

    def __init__(self) -> None:
        self.bad: set[int] = set()

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists did (id integer primary key, what text, item integer)")

    @action
    async def put_back(self, reserved: Reserved, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into did (what, item) values ('put back', ?)", reserved.item)

    @on(Reserved, order_key="order", on_compensated=put_back, retry=SOON)
    async def take(self, reserved: Reserved, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into did (what, item) values ('take', ?)", reserved.item)
        if reserved.item in self.bad:
            raise ConnectionError("nobody finds it")


class Place:
    def __init__(self, app: App, shop: Shop, shelf: Any) -> None:
        self.app, self.shop, self.shelf = app, shop, shelf
        self.letters = app.control.letters

    async def cancelled(self, number: str = "bad-1") -> None:
        with pytest.raises(RunRejected):
            await self.app.run(order, number)

    async def has_done(self, *expected: tuple[str, int]) -> None:
        async def is_so() -> bool:
            return sorted(self.shelf.did) == sorted(expected)

        try:
            await until(is_so)
        except TimeoutError:
            raise AssertionError(f"did: {self.shelf.did}") from None

    async def is_quiet(self) -> None:
        """Wait until everything is applied that was published, or has become a dead letter."""

        async def is_so() -> bool:
            store = participant(self.app).store
            last = await store.last_entry()
            subscriber = self.app.hosts.home.inlet.find("shelf.take")
            open_ = await store.deliveries_open(subscriber.policy.subscription)
            return subscriber.position >= last and all(state in ("dead", "held") for _, _, state in open_)

        await until(is_so)

    async def dead(self, count: int) -> list[Any]:
        async def is_so() -> bool:
            return len(await self.letters.dead_letters()) == count

        await until(is_so)
        return await self.letters.dead_letters()


@asynccontextmanager
async def place(shelf: Any = None, store: str = "sqlite://", **of_shelf: Any) -> AsyncIterator[Place]:
    shop, shelf = Shop(), shelf or Shelf()
    vars(shelf).update(of_shelf)
    async with App("shop", services=[shop, shelf], workflows=[order], store=store) as app:
        yield Place(app, shop, shelf)


async def test_what_a_compensated_step_published_is_undone_once() -> None:
    async with place() as p:
        await p.cancelled()
        await p.has_done(("take", 1), ("take", 2), ("put back", 2), ("put back", 1))
        await p.is_quiet()
        assert len(p.shelf.did) == 4
        assert len(set(p.shelf.keys)) == 4, "each of the four is a piece of work of its own"


async def test_what_stands_is_not_undone() -> None:
    async with place() as p:
        await p.app.run(order, "good-1")
        await p.is_quiet()
        assert sorted(p.shelf.did) == [("take", 1), ("take", 2)]


async def test_a_compensation_that_fails_at_first_takes_back_nothing_yet() -> None:
    async with place() as p:
        p.shop.undo_fails = 1
        await p.cancelled()
        await p.has_done(("take", 1), ("take", 2), ("put back", 2), ("put back", 1))
        rows = await participant(p.app).store.log_after(0, 99)
        notices = [row for row in rows if row.event == "shop.reserved.taken-back"]
        assert [row.causes for row in notices] == [rows[1].message, rows[0].message]
        assert [row.message for row in notices] == [f"{row.causes}:taken-back" for row in notices]


async def test_a_compensation_done_by_hand_takes_back_as_well() -> None:
    async with place() as p:
        p.shop.undo_fails = 10**6
        run = await p.app.start(order, "bad-1")

        async def is_failing() -> bool:
            return any(w.what == "action" and w.detail for w in (await run.show()).waiting)

        await until(is_failing)
        await p.has_done(("take", 1), ("take", 2))

        async def is_resolved() -> bool:
            try:
                await p.app.control.resolve(run.id, "1", who="test")
            except Exception:
                return False
            return True

        await until(is_resolved)
        await p.has_done(("take", 1), ("take", 2), ("put back", 2), ("put back", 1))


async def test_what_was_not_applied_is_not_undone_and_not_applied_any_more() -> None:
    async with place(bad={1, 2}) as p:
        run = await p.app.start(order, "good-0")
        await run.result(60)
        assert len(await p.dead(2)) == 2
        await p.cancelled()
        await p.is_quiet()
        assert p.shelf.did == []
        assert {x.key for x in await p.letters.dead_letters()} == {"good-0"}, "what was taken back needs nobody"
        audit = [a for a in await participant(p.app).store.audit(9) if a.verb == "taken-back"]
        assert len(audit) == 2
        p.shelf.bad.clear()
        await p.letters.retry(LetterChoice(everything=True))
        await p.has_done(("take", 1), ("take", 2))


async def test_what_a_person_has_discarded_is_not_undone() -> None:
    async with place(bad={1}) as p:
        p.shop.undo_fails = 1
        row = EventRow(None, "/shop", "s:0", "shop.reserved", 1, "x", '{"order":"x","item":1}', 0, "", 0, 0)
        now = p.app.clock.now_ms()
        row = row._replace(time_ms=now, at_ms=now)
        await receive(p.app, row)
        (letter,) = await p.dead(1)
        await p.letters.discard(LetterChoice(ids=(letter.id,)), note="not ours")
        p.shelf.bad.clear()
        await receive(p.app, *notices_about([row], now))
        await p.is_quiet()
        assert p.shelf.did == []


async def test_what_was_never_heard_here_is_not_undone(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'shop.db'}"
    async with App("shop", services=[Shop()], workflows=[order], store=store) as app:
        with pytest.raises(RunRejected):
            await app.run(order, "bad-1")
        first, *_ = await app.hosts.home.store.log_after(0, 9)
    async with place(store=store) as p:
        await p.is_quiet()
        now = p.app.clock.now_ms()
        again = first._replace(entry=None, message="other")
        await receive(p.app, *notices_about([again], now))
        await p.is_quiet()
        assert p.shelf.did == []


async def test_an_undo_that_fails_is_tried_again_and_then_a_dead_letter() -> None:
    async with place(bad_undo=2 + 2) as p:
        await p.cancelled()
        letters = await p.dead(2)
        assert {x.event for x in letters} == {"shop.reserved.taken-back"}
        await p.letters.retry(LetterChoice(everything=True))
        await p.has_done(("take", 1), ("take", 2), ("put back", 2), ("put back", 1))


async def test_in_an_ordered_subscription_a_notice_waits_for_its_turn(tmp_path: Path) -> None:
    shelf = OrderedShelf()
    shelf.bad = {1}
    file = tmp_path / "shop.db"
    async with place(shelf, f"sqlite:///{file}") as p:
        await p.cancelled("bad-7")
        (letter,) = await p.dead(1)
        eyes = sqlite3.connect(f"file:{file}?mode=ro", uri=True)

        def did() -> list[tuple[str, int]]:
            return eyes.execute("select what, item from did order by id").fetchall()

        assert did() == []
        shelf.bad.clear()
        await p.letters.retry(LetterChoice(ids=(letter.id,)))

        async def is_done() -> bool:
            return len(did()) == 4

        await until(is_done)
        assert did() == [("take", 1), ("take", 2), ("put back", 2), ("put back", 1)]
        eyes.close()


@pytest.mark.parametrize("is_discarded", [True, False])
async def test_a_notice_behind_a_dead_letter_that_a_person_gives_up_undoes_nothing(
    tmp_path: Path, is_discarded: bool
) -> None:
    shelf = OrderedShelf()
    shelf.bad = {1}
    file = tmp_path / "shop.db"
    async with place(shelf, f"sqlite:///{file}") as p:
        await p.cancelled("bad-7")
        (letter,) = await p.dead(1)
        which = LetterChoice(ids=(letter.id,))
        await (p.letters.discard(which, note="gone") if is_discarded else p.letters.skip(which))
        eyes = sqlite3.connect(f"file:{file}?mode=ro", uri=True)

        async def is_done() -> bool:
            found = eyes.execute("select what, item from did order by id").fetchall()
            return found == [("take", 2), ("put back", 2)] and await p.letters.dead_letters() == []

        await until(is_done)
        subscription = p.app.hosts.home.inlet.find("shelf.take").policy.subscription

        async def is_empty() -> bool:
            return await participant(p.app).store.deliveries_open(subscription) == []

        await until(is_empty)
        assert await is_done(), "the notice about the first was left"
        eyes.close()


async def test_what_is_taken_back_before_it_came_is_not_applied() -> None:
    async with place() as p:
        now = p.app.clock.now_ms()
        body = '{"order":"x","item":1}'
        original = EventRow(None, "/far", "f:0", "shop.reserved", 1, "x", body, 0, "", now, now, 4, 0)
        (notice,) = (n._replace(sequence=9, previous=0) for n in notices_about([original], now))
        other = original._replace(message="f:1", body='{"order":"x","item":2}', sequence=5, previous=4)
        for row in (notice, original, other):
            await receive(p.app, row)
        await p.has_done(("take", 2))
        await p.is_quiet()
        assert p.shelf.did == [("take", 2)]


async def test_nothing_of_it_is_lost_or_done_twice_by_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'shop.db'}"
    async with App("shop", services=[Shop()], workflows=[order], store=store):
        pass
    done: list[tuple[str, int]] = []
    for n in range(4):
        shelf = PatientShelf()
        shelf.did = done
        async with place(shelf, store) as p:
            await p.cancelled(f"bad-{n}")  # and stops, whatever is under way
    shelf = PatientShelf()
    shelf.did = done
    async with place(shelf, store) as p:
        await p.is_quiet()
        assert sorted(done) == sorted([("take", 1), ("take", 2), ("put back", 1), ("put back", 2)] * 4)


async def test_a_range_that_is_applied_once_more_is_undone_once_more() -> None:
    async with place() as p:
        await p.cancelled()
        await p.has_done(("take", 1), ("take", 2), ("put back", 2), ("put back", 1))
        await p.is_quiet()
        await p.letters.replay("shelf.take")
        await p.is_quiet()
        counted = {n: [w for w, i in p.shelf.did if i == n] for n in (1, 2)}
        assert all(did.count("take") == did.count("put back") for did in counted.values()), counted


async def test_what_undoes_takes_the_event_and_nothing_else() -> None:
    class Wrong(Service):
        @action
        async def undo(self, reserved: Reserved, why: str) -> None: ...

        @on(Reserved, on_compensated=undo)
        async def take(self, reserved: Reserved) -> None: ...

    with pytest.raises(DeclarationError, match="nothing else"):
        service_spec(Wrong)

    class Keyed(Service):
        @action(effect_key="reserved.order")
        async def undo(self, reserved: Reserved) -> None: ...

        @on(Reserved, on_compensated=undo)
        async def take(self, reserved: Reserved) -> None: ...

    with pytest.raises(DeclarationError, match="effect_key"):
        service_spec(Keyed)

    with pytest.raises(DeclarationError, match="the platform's own"):
        event("shop.reserved.taken-back", version=1)
