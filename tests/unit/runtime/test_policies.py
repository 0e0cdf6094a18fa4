"""Policies of a reaction that are not about order: who gets a copy, how many at once, when again, how long known."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from minuet import App, DeclarationError, RetryPolicy, Service, action, on, publish, workflow
from minuet.runtime.letters import LetterChoice
from minuet.testing.clock import ManualClock
from tests.unit.runtime.conftest import until
from tests.unit.runtime.outside import Moved, participant, published, receive

pytestmark = pytest.mark.asyncio

SOON = RetryPolicy(attempts=2, first_ms=1, at_most_ms=1)


def cache(heard: list[int], **policies: Any) -> Service:
    class Cache(Service):
        fails = False

        @on(Moved, cardinality="all", retry=SOON, **policies)
        async def refresh(self, moved: Moved) -> None:
            if self.fails:
                raise ConnectionError(f"no memory for {moved.number}")
            heard.append(moved.number)

    return Cache()


async def until_heard(heard: list[int], *expected: int) -> None:
    async def is_heard() -> bool:
        return sorted(heard) == sorted(expected)

    try:
        await until(is_heard)
    except TimeoutError:
        raise AssertionError(f"heard: {heard}") from None


async def test_a_cache_hears_what_comes_while_its_process_is_there(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'depot.db'}"
    first: list[int] = []
    async with App("depot", services=[cache(first)], store=store) as app:
        await app.send(Moved("a", 1))
        await until_heard(first, 1)
    async with App("between", events=[Moved], store=store) as app:
        await app.send(Moved("a", 2))
    second: list[int] = []
    async with App("depot", services=[cache(second)], store=store) as app:
        await app.send(Moved("a", 3))
        await until_heard(second, 3)
        assert first == [1]


async def test_what_a_process_was_still_to_hear_goes_with_it_and_its_dead_letters_say_which_it_was(
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path / 'depot.db'}"
    service = cache([], order_key="sku")
    service.fails = True  # type: ignore[attr-defined]
    async with App("depot", services=[service], store=store) as app:
        for row in published(app, "aabb")[1:]:  # the first of a is missing, the second of b waits behind its first
            await receive(app, row)

        async def is_dead() -> bool:
            return len(await app.control.letters.dead_letters()) == 1

        await until(is_dead)
        (letter,) = await app.control.letters.dead_letters()
        assert letter.error.endswith("no memory for 3")
        assert f"process {os.getpid()}: ConnectionError" in letter.error
    heard: list[int] = []
    async with App("depot", services=[cache(heard)], store=store) as app:
        await app.send(Moved("b", 9))
        await until_heard(heard, 9)
        (letter,) = await app.control.letters.dead_letters()
        await app.control.letters.retry(LetterChoice(ids=(letter.id,)))
        await until_heard(heard, 3, 9)


async def test_a_cache_has_no_start() -> None:
    with pytest.raises(DeclarationError, match="has a start"):
        on(Moved, cardinality="all", start="beginning")


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_run_at_once_than_a_limit_says(limit: int) -> None:
    class Narrow(Service):
        now = most = done = 0

        @on(Moved, limit=limit)
        async def move(self, moved: Moved) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            self.done += 1

    narrow = Narrow()
    async with App("depot", services=[narrow], store="sqlite://") as app:
        await asyncio.gather(*(app.send(Moved("a", n)) for n in range(20)))

        async def is_done() -> bool:
            return narrow.done == 20

        await until(is_done)
        assert narrow.most == limit


async def test_an_error_says_itself_when_it_may_be_tried_again() -> None:
    class Busy(ConnectionError):
        retry_after = timedelta(hours=1)

    class Stock(Service):
        attempts: list[int] = []  # noqa: RUF012 - of this test alone

        @on(Moved)
        async def move(self, moved: Moved) -> None:
            self.attempts.append(clock.now_ms())
            if len(self.attempts) == 1:
                raise Busy("come back in an hour")

    clock = ManualClock()
    async with App("depot", services=[Stock()], store="sqlite://", clock=clock) as app:
        began = clock.now_ms()
        await app.send(Moved("a"))
        store, subscription = participant(app).store, app.hosts.home.inlet.find("stock.move").policy.subscription

        async def is_waiting() -> bool:
            return await store.next_delivery_due(subscription) is not None

        await until(is_waiting)
        assert await store.next_delivery_due(subscription) == began + 3_600_000
        await clock.advance(timedelta(minutes=59))
        assert len(Stock.attempts) == 1
        await clock.advance(timedelta(minutes=1))

        async def is_done() -> bool:
            await clock.advance(timedelta(seconds=1))
            return len(Stock.attempts) == 2

        await until(is_done)


@pytest.mark.parametrize(("window", "is_applied"), [(7, False), (30, True)])
async def test_what_is_older_than_events_are_recognised_is_set_aside(window: int, is_applied: bool) -> None:
    heard: list[int] = []

    class Stock(Service):
        @on(Moved, dedup_window=timedelta(days=window))
        async def move(self, moved: Moved) -> None:
            heard.append(moved.number)

    async with App("depot", services=[Stock()], store="sqlite://") as app:
        (row,) = published(app, "a")
        await receive(app, row._replace(time_ms=row.at_ms - 8 * 86_400_000))

        async def is_seen_to() -> bool:
            return bool(heard) or bool(await app.control.letters.dead_letters())

        await until(is_seen_to)
        assert [x.reason for x in await app.control.letters.dead_letters()] == (
            [] if is_applied else ["too-old-to-deduplicate"]
        )


async def test_an_event_is_recognised_for_days_and_not_below_seven() -> None:
    with pytest.raises(DeclarationError, match="below 7 days"):
        on(Moved, dedup_window=timedelta(days=6))


@pytest.mark.parametrize(
    ("body", "reason"), [('{"sku":"a","number":1,"colour":"red"}', ""), ('{"sku":1}', "unreadable")]
)
async def test_a_newer_version_may_be_read_as_if_it_were_known(body: str, reason: str) -> None:
    heard: list[int] = []

    class Stock(Service):
        @on(Moved, newer="accept")
        async def move(self, moved: Moved) -> None:
            heard.append(moved.number)

    async with App("depot", services=[Stock()], store="sqlite://") as app:
        (row,) = published(app, "a")
        await receive(app, row._replace(version=2, body=body))

        async def is_seen_to() -> bool:
            return bool(heard) or bool(await app.control.letters.dead_letters())

        await until(is_seen_to)
        assert "".join(x.reason for x in await app.control.letters.dead_letters()) == reason
        assert heard == ([] if reason else [1])


class Counter(Service):
    """Fails after it has published."""

    def __init__(self) -> None:
        self.attempts = 0
        self.heard: list[int] = []

    @action(emits=(Moved,))
    async def count(self, sku: str) -> str:
        self.attempts += 1
        publish(Moved(sku, self.attempts))
        if self.attempts == 1:
            raise ConnectionError("the scale does not answer")
        return sku

    @on(Moved)
    async def move(self, moved: Moved) -> None:
        self.heard.append(moved.number)


@workflow
async def counting(sku: str, *, counter: Counter) -> str:
    return await counter.count(sku).retry(2, first=0.001)


async def test_what_fails_has_published_nothing() -> None:
    counter = Counter()
    async with App("depot", services=[counter], workflows=[counting], store="sqlite://") as app:
        await app.run(counting, "a")
        await until_heard(counter.heard, 2)


async def test_a_slot_that_does_not_come_back_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minuet.runtime.slots.WATCH_EVERY_MS", 10)
    monkeypatch.setattr("minuet.runtime.slots.CUT_GRACE_MS", 30)
    stop = asyncio.Event()
    heard: list[int] = []

    class Stock(Service):
        @on(Moved, limit=1, attempt_timeout=timedelta(milliseconds=30), retry=SOON)
        async def move(self, moved: Moved) -> None:
            while moved.number == 1 and not stop.is_set():
                try:
                    await stop.wait()
                except asyncio.CancelledError:
                    continue
            heard.append(moved.number)

    async with App("depot", services=[Stock()], store="sqlite://") as app:
        for number in (1, 2, 3):
            await app.send(Moved("a", number))
        await until_heard(heard, 2, 3)

        async def is_dead() -> bool:
            return [x.reason for x in await app.control.letters.dead_letters()] == ["exhausted"]

        await until(is_dead)
        assert app.hosts.home.inlet.find("stock.move").slots.lost == 2
        stop.set()

        async def are_back() -> bool:
            return app.hosts.home.inlet.find("stock.move").slots.lost == 0

        await until(are_back)
