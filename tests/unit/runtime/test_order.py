"""Events from elsewhere at a reaction that keeps an order: each key as it was published, or somebody is told."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from minuet import App, DeclarationError, RetryPolicy, Service, Transaction, injected, on
from minuet.runtime.clock import SystemClock, WaitingClock
from minuet.runtime.letters import LetterChoice
from minuet.testing.clock import ManualClock
from tests.unit.runtime.conftest import until
from tests.unit.runtime.outside import Moved, at, participant, published, receive

pytestmark = pytest.mark.asyncio

SOON = RetryPolicy(attempts=3, first_ms=1, at_most_ms=1)


def stock_of(**policies: Any) -> type[Service]:
    """Make a service that keeps an order, with these policies."""

    class Stock(Service):
        def __init__(self) -> None:
            self.bad: set[tuple[str, int]] = set()

        async def setup(self, tx: Transaction) -> None:
            await tx.execute("create table if not exists moved (id integer primary key, sku text, number integer)")

        @on(Moved, **{"order_key": "sku", "retry": SOON, **policies})
        async def move(self, moved: Moved, tx: Transaction = injected()) -> None:
            await tx.execute("insert into moved (sku, number) values (?, ?)", moved.sku, moved.number)
            if (moved.sku, moved.number) in self.bad:
                raise ConnectionError("the scale does not answer")

    return Stock


class Place:
    """An open app, and what its reaction has applied."""

    def __init__(self, app: App, stock: Any, folder: str) -> None:
        self.app, self.stock = app, stock
        self.eyes = sqlite3.connect(f"file:{folder}/depot.db?mode=ro", uri=True)
        self.letters = app.control.letters

    def applied(self, sku: str = "a") -> list[int]:
        rows = self.eyes.execute("select number from moved where sku = ? order by id", (sku,)).fetchall()
        return [number for (number,) in rows]

    async def comes(self, condition: Callable[[], bool]) -> None:
        async def is_so() -> bool:
            return condition()

        await until(is_so)

    async def has_applied(self, *numbers: int, sku: str = "a") -> None:
        try:
            await self.comes(lambda: self.applied(sku) == list(numbers))
        except TimeoutError:
            raise AssertionError(f"applied: {self.applied(sku)}") from None

    async def numbers(self) -> tuple[int, int, int]:
        (view,) = await self.letters.subscriptions()
        return view.late, view.early, view.gaps

    async def are(self, late: int, early: int, gaps: int) -> None:
        async def is_so() -> bool:
            return await self.numbers() == (late, early, gaps)

        try:
            await until(is_so)
        except TimeoutError:
            raise AssertionError(f"late, early, gaps: {await self.numbers()}") from None

    async def dead(self, count: int) -> list[Any]:
        async def is_so() -> bool:
            return len(await self.letters.dead_letters()) == count

        await until(is_so)
        return await self.letters.dead_letters()


@asynccontextmanager
async def opened(stock: Service, clock: WaitingClock) -> AsyncIterator[Place]:
    with TemporaryDirectory() as folder:
        async with App("depot", services=[stock], store=f"sqlite:///{folder}/depot.db", clock=clock) as app:
            here = Place(app, stock, folder)
            yield here
            here.eyes.close()


@asynccontextmanager
async def place(**policies: Any) -> AsyncIterator[Place]:
    async with opened(stock_of(**policies)(), SystemClock()) as here:
        yield here


@asynccontextmanager
async def place_at_leisure(**policies: Any) -> AsyncIterator[tuple[Place, Callable[[timedelta], Any]]]:
    clock = ManualClock()
    async with opened(stock_of(**policies)(), clock) as here:

        async def later(by: timedelta) -> None:
            """Let time pass a second at a time, and the store's thread do what it has to."""
            left = by
            while left > timedelta():
                step = min(left, timedelta(seconds=1))
                await clock.advance(step)
                left -= step
                await participant(here.app).drain()
                await here.letters.subscriptions()

        yield here, later


async def test_what_comes_in_any_order_is_applied_in_the_order_of_its_key() -> None:
    async with place() as p:
        rows = published(p.app, "abaabb")  # a: 1 3 4, b: 2 5 6
        for row in at(rows, 4, 6, 3, 2, 5):
            await receive(p.app, row)
        await p.has_applied(2, 5, 6, sku="b")
        assert p.applied() == []
        await p.are(late=0, early=2, gaps=0)
        await receive(p.app, rows[0])
        await p.has_applied(1, 3, 4)
        await p.are(late=0, early=0, gaps=0)
        assert await p.letters.dead_letters() == []


async def test_what_comes_twice_is_applied_once() -> None:
    async with place() as p:
        rows = published(p.app, "aaa")
        for row in at(rows, 2, 2, 1, 1, 2, 3, 3):
            await receive(p.app, row)
        await p.has_applied(1, 2, 3)
        await p.are(late=0, early=0, gaps=0)


async def test_what_is_published_here_keeps_the_order_of_commits_as_ever() -> None:
    async with place() as p:
        await receive(p.app, *at(published(p.app, "aa"), 2))
        for number in (7, 3, 5):
            await p.app.send(Moved("a", number))
        await p.has_applied(7, 3, 5)
        await p.are(late=0, early=1, gaps=0)


async def test_what_follows_a_failing_event_of_its_key_waits_and_is_no_gap() -> None:
    async with place(retry=RetryPolicy(attempts=2, first_ms=1)) as p:
        p.stock.bad = {("a", 1)}
        rows = published(p.app, "aaaa")
        await receive(p.app, *at(rows, 3))
        await receive(p.app, *at(rows, 1, 2, 4))
        (letter,) = await p.dead(1)
        await p.are(late=0, early=3, gaps=0)
        p.stock.bad.clear()
        await p.letters.retry(LetterChoice(ids=(letter.id,)))
        await p.has_applied(1, 2, 3, 4)


async def test_what_cannot_be_applied_and_holds_up_nothing_is_passed() -> None:
    async with place(poison="skip") as p:
        p.stock.bad = {("a", 1)}
        rows = published(p.app, "aaa")
        await receive(p.app, *at(rows, 3, 2, 1))
        await p.has_applied(2, 3)
        assert [x.reason for x in await p.dead(1)] == ["exhausted"]


async def test_a_gap_raises_its_alarm_within_its_time_once_and_heals_when_the_missing_event_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with place_at_leisure(buffer_age=timedelta(minutes=5)) as (p, later):
        rows = published(p.app, "aaaaa")
        await receive(p.app, *at(rows, 1, 3, 4))
        await p.has_applied(1)
        await p.are(late=0, early=2, gaps=0)
        await later(timedelta(minutes=5) - timedelta(seconds=2))
        assert await p.letters.dead_letters() == []
        await later(timedelta(seconds=4))
        (letter,) = await p.dead(1)
        assert (letter.reason, letter.message, letter.state) == ("gap", "far-3", "dead")
        assert "after number 1" in letter.error
        assert await p.numbers() == (0, 2, 1)
        await later(timedelta(minutes=20))
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "lacks something" in r.getMessage()]
        assert len(warnings) == 1
        await receive(p.app, *at(rows, 2))
        await p.has_applied(1, 2, 3, 4)
        assert await p.letters.dead_letters() == []
        await p.are(late=0, early=0, gaps=0)


async def test_a_gap_is_one_when_too_many_wait_behind_it() -> None:
    async with place(buffer=3) as p:
        rows = published(p.app, "aaaaaa")
        await receive(p.app, *at(rows, 6, 3))
        await p.are(late=0, early=2, gaps=0)
        await receive(p.app, *at(rows, 4))
        (letter,) = await p.dead(1)
        assert (letter.reason, letter.message) == ("gap", "far-3")
        await receive(p.app, *at(rows, 2, 1, 5))
        await p.has_applied(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("verb", ["retry", "skip", "discard"])
async def test_a_person_lets_a_key_go_on_in_front_of_a_gap(tmp_path: Path, verb: str) -> None:
    async with place(buffer=1) as p:
        rows = published(p.app, "aaaaaa")
        await receive(p.app, *at(rows, 1, 3, 4, 6))
        (letter,) = await p.dead(1)
        which = LetterChoice(ids=(letter.id,))
        if verb == "retry":
            await p.letters.retry(which)
            await p.has_applied(1, 3, 4)
        elif verb == "skip":
            await p.letters.skip(which)
            await p.has_applied(1, 4)
        else:
            await p.letters.discard(which, note="it was a mistake")
            await p.has_applied(1, 4)
        await receive(p.app, *at(rows, 2))
        await p.are(late=1, early=1, gaps=1)
        second = next(x for x in await p.letters.dead_letters() if x.state == "dead")
        assert (second.reason, second.message) == ("gap", "far-6"), "the next gap is told of as well"


async def test_a_gap_may_only_be_told_of() -> None:
    async with place(buffer=1, on_gap="wait") as p:
        rows = published(p.app, "aaa")
        await receive(p.app, *at(rows, 1, 3))
        await p.are(late=0, early=1, gaps=1)
        assert await p.letters.dead_letters() == []
        await receive(p.app, *at(rows, 2))
        await p.has_applied(1, 2, 3)
        await p.are(late=0, early=0, gaps=0)


async def test_a_gap_may_be_skipped_and_what_comes_after_all_is_late() -> None:
    async with place(buffer=2, on_gap="skip") as p:
        rows = published(p.app, "aaaa")
        await receive(p.app, *at(rows, 1, 4, 3))
        await p.has_applied(1, 3, 4)
        await receive(p.app, *at(rows, 2))
        await p.are(late=1, early=0, gaps=0)
        assert p.applied() == [1, 3, 4]


async def test_behind_a_gap_only_the_newest_may_count() -> None:
    async with place(buffer=3, on_gap="latest") as p:
        rows = published(p.app, "aaaaaa")
        await receive(p.app, *at(rows, 1, 5, 3, 4))
        await p.has_applied(1, 5)
        await p.are(late=2, early=0, gaps=0)
        await receive(p.app, *at(rows, 6))
        await p.has_applied(1, 5, 6)


async def test_what_is_late_is_dropped_and_counted_also_after_a_restart(tmp_path: Path) -> None:
    stock = stock_of(buffer=1, on_gap="skip")
    store = f"sqlite:///{tmp_path / 'depot.db'}"
    async with App("depot", services=[stock()], store=store) as app:
        rows = published(app, "aaa")
        subscriber = app.hosts.home.inlet.find("stock.move")
        await receive(app, *at(rows, 3))

        async def has_applied() -> bool:
            return subscriber.applied == 1

        await until(has_applied)

        async def is_counted() -> bool:
            return [v.late for v in await app.control.letters.subscriptions()] == [2]

        await receive(app, *at(rows, 1, 2))
        await until(is_counted)
    async with App("depot", services=[stock()], store=store) as app:
        assert [v.late for v in await app.control.letters.subscriptions()] == [2]


@pytest.mark.parametrize("on_late", ["park", "apply"])
async def test_what_is_late_may_be_parked_or_applied(on_late: str) -> None:
    async with place(buffer=1, on_gap="skip", on_late=on_late) as p:
        rows = published(p.app, "aaaa")
        await receive(p.app, *at(rows, 3))
        await p.has_applied(3)
        await receive(p.app, *at(rows, 1))
        if on_late == "apply":
            await p.has_applied(3, 1)
            assert await p.letters.dead_letters() == []
        else:
            (letter,) = await p.dead(1)
            assert (letter.reason, letter.state) == ("late", "skipped"), "it holds up nobody"
        await receive(p.app, *at(rows, 4))
        await p.comes(lambda: p.applied()[-1] == 4)


async def test_early_events_and_their_gap_outlive_the_process(tmp_path: Path) -> None:
    stock = stock_of(buffer=2)
    store = f"sqlite:///{tmp_path / 'depot.db'}"
    async with App("depot", services=[stock()], store=store) as app:
        rows = published(app, "aaaaab")
        await receive(app, *at(rows, 1, 3, 4, 5))

        async def is_parked() -> bool:
            return [x.reason for x in await app.control.letters.dead_letters()] == ["gap"]

        await until(is_parked)
    heard: list[int] = []

    class Stock(Service):
        @on(Moved, order_key="sku", buffer=2)
        async def move(self, moved: Moved) -> None:
            heard.append(moved.number)

    async with App("depot", services=[Stock()], store=store) as app:
        await receive(app, *at(rows, 2, 6))

        async def is_heard() -> bool:
            return len(heard) == 5

        await until(is_heard)
        assert sorted(heard, key=lambda n: (n == 6, heard.index(n))) == [2, 3, 4, 5, 6]
        assert await app.control.letters.dead_letters() == []


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_way_each_key_is_applied_as_it_was_published(tmp_path: Path, seed: int) -> None:
    """Any order, duplicates, attempts that fail, and a process that stops in between."""
    dice = Random(seed)
    store = f"sqlite:///{tmp_path / 'depot.db'}"
    applied: dict[str, list[int]] = {}

    class Stock(Service):
        @on(Moved, order_key="sku", retry=RetryPolicy(attempts=0, first_ms=1, at_most_ms=2), limit=4)
        async def move(self, moved: Moved) -> None:
            if dice.random() < 0.1:
                raise ConnectionError
            if dice.random() < 0.5:
                await asyncio.sleep(0)
            if dice.random() < 0.1:
                raise ConnectionError
            applied.setdefault(moved.sku, []).append(moved.number)

    keys = [dice.choice("abcd") for _ in range(120)]
    async with App("depot", services=[Stock()], store=store) as app:
        rows = published(app, keys)
    way = [row for row in rows for _ in range(dice.choice([1, 1, 2]))]
    way = [row for _, row in sorted((i + dice.uniform(0, 30), row) for i, row in enumerate(way))]
    third = len(way) // 3
    for part in (way[:third], way[third : 2 * third], way[2 * third :]):
        async with App("depot", services=[Stock()], store=store) as app:
            for row in part:
                await receive(app, row)
                if dice.random() < 0.3:
                    await asyncio.sleep(0.001)
    async with App("depot", services=[Stock()], store=store) as app:

        async def is_done() -> bool:
            return sum(map(len, applied.values())) >= len(rows)

        try:
            await until(is_done)
        except TimeoutError:
            raise AssertionError(f"{await app.control.letters.subscriptions()} {applied}") from None
        for key in "abcd":
            assert applied[key] == [n for n, k in enumerate(keys, start=1) if k == key]
        assert await app.control.letters.dead_letters() == []


async def test_an_order_is_not_asked_for_without_a_key() -> None:
    with pytest.raises(DeclarationError, match="there is none"):
        on(Moved, on_gap="skip")
