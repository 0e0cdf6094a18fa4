"""For each way in which an event can fail to be applied: it is found in `failed`, and can be seen to."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from minuet import App, Rejection, RetryPolicy, Service, action, on
from minuet.engine import bound
from minuet.engine.dead_letter import Reason
from minuet.engine.row import EventRow
from minuet.runtime.letters import LetterChoice
from tests.unit.runtime.conftest import until
from tests.unit.runtime.outside import Moved, published, receive

pytestmark = pytest.mark.asyncio

DAY_MS = 86_400_000
TO_BE_WEIGHED = 77


class Unwilling(Rejection):
    pass


class Stock(Service):
    """Fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.applied: list[int] = []

    @action(effect_key="sku")
    async def weigh(self, sku: str) -> None: ...

    @on(Moved, order_key="sku", buffer=1, on_late="park", retry=RetryPolicy(attempts=2, first_ms=1))
    async def move(self, moved: Moved) -> None:
        if self.error is not None:
            raise self.error
        if moved.number == TO_BE_WEIGHED:
            await self.weigh(moved.sku)
        self.applied.append(moved.number)


Make = Callable[[App, Stock], list[EventRow]]


def plain(app: App, **other: Any) -> list[EventRow]:
    (row,) = published(app, "a")
    return [row._replace(sequence=None, previous=None, **other)]


def failing(error: Exception) -> Make:
    def make(app: App, stock: Stock) -> list[EventRow]:
        stock.error = error
        return plain(app)

    return make


def late(app: App, stock: Stock) -> list[EventRow]:
    old, new = published(app, "aa")
    return [new._replace(previous=0), old]


def twice(app: App, stock: Stock) -> list[EventRow]:
    """Two events that cause one effect."""
    body = f'{{"sku": "a", "number": {TO_BE_WEIGHED}}}'
    return [*plain(app, body=body), *plain(app, body=body, message="far-2")]


WAYS: dict[Reason, Make] = {
    Reason.EXHAUSTED: failing(ConnectionError("the scale does not answer")),
    Reason.REFUSED: failing(Unwilling("not today")),
    Reason.SECOND_CAUSE: twice,
    Reason.UNREADABLE: lambda app, _: plain(app, body='{"sku": 3}'),
    Reason.NEWER_VERSION: lambda app, _: plain(app, version=2),
    Reason.HOP_LIMIT: lambda app, _: plain(app, hops=bound.HOPS + 1),
    Reason.TOO_OLD: lambda app, _: plain(app, time_ms=app.clock.now_ms() - 8 * DAY_MS),
    Reason.GAP: lambda app, _: published(app, "aa")[1:],
    Reason.LATE: late,
    Reason.UNKNOWN_TYPE: failing(ConnectionError("first it fails")),
}


@asynccontextmanager
async def depot(file: Path) -> AsyncIterator[tuple[App, Stock]]:
    stock = Stock()
    async with App("depot", services=[stock], store=f"sqlite:///{file}") as app:
        yield app, stock


async def found(app: App, reason: Reason) -> Any:
    async def is_found() -> bool:
        return any(f.kind == "dead-letter" for f in await app.control.failed())

    await until(is_found)
    (failed,) = [f for f in await app.control.failed() if f.kind == "dead-letter"]
    assert failed.reason.startswith(reason)
    assert failed.position == "stock.move"
    (letter,) = await app.control.letters.dead_letters(LetterChoice(reason=reason))
    return letter


def was_of_another_type(file: Path) -> None:
    """What a former release has left under the name of this reaction: it heard events of another type."""
    connection = sqlite3.connect(file)
    connection.execute("update minuet_outbox set event = 'stock.counted'")
    connection.execute("update minuet_delivery set state = 'waiting', next_at_ms = 0, reason = null")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("reason", list(Reason))
async def test_whatever_cannot_be_applied_is_found_in_failed(tmp_path: Path, reason: Reason) -> None:
    file = tmp_path / "depot.db"
    async with depot(file) as (app, stock):
        for row in WAYS[reason](app, stock):
            await receive(app, row)
        letter = await found(app, Reason.EXHAUSTED if reason == Reason.UNKNOWN_TYPE else reason)
        assert letter.error
        assert letter.fingerprint
    if reason == Reason.UNKNOWN_TYPE:
        was_of_another_type(file)
    async with depot(file) as (app, _):
        letter = await found(app, reason)
        letters = app.control.letters
        which = LetterChoice(ids=(letter.id,))
        await letters.discard(which, who="test", note="seen to")
        assert await letters.dead_letters() == []


@pytest.mark.parametrize(
    "reason",
    [r for r in Reason if r not in (Reason.NEWER_VERSION, Reason.UNREADABLE, Reason.UNKNOWN_TYPE, Reason.SECOND_CAUSE)],
)
async def test_what_a_person_takes_up_again_is_applied(tmp_path: Path, reason: Reason) -> None:
    async with depot(tmp_path / "depot.db") as (app, stock):
        for row in WAYS[reason](app, stock):
            await receive(app, row)
        await found(app, reason)
        before, stock.error = len(stock.applied), None
        await app.control.letters.retry(LetterChoice(reason=reason))

        async def is_applied() -> bool:
            return len(stock.applied) == before + 1 and await app.control.letters.dead_letters() == []

        await until(is_applied)


async def test_dead_letters_are_seen_to_in_bulk_by_each_verb(tmp_path: Path) -> None:
    async with depot(tmp_path / "depot.db") as (app, stock):
        letters = app.control.letters
        stock.error = ConnectionError("down")

        async def are(count: int, **which: Any) -> None:
            async def is_so() -> bool:
                return len(await letters.dead_letters(LetterChoice(**which), limit=999)) == count

            await until(is_so)

        for sku in range(250):  # more than a page
            await app.send(Moved(f"k-{sku}", sku))
        await are(250, reason="exhausted")
        (cause,) = {x.fingerprint for x in await letters.dead_letters(limit=999)}
        said = await letters.skip(LetterChoice(fingerprint=cause), who="test")
        assert said.message.startswith("250 dead letters")
        assert {x.state for x in await letters.dead_letters(limit=999)} == {"skipped"}
        some = await letters.dead_letters(limit=50)
        await letters.discard(LetterChoice(ids=tuple(x.id for x in some)), note="of no use")
        await are(200)
        stock.error = None
        await letters.retry(LetterChoice(subscription="stock.move", everything=True))
        await are(0)

        async def is_applied() -> bool:
            return len(stock.applied) == 200

        await until(is_applied)
        audit = await app.hosts.home.store.audit(999)
        assert [sum(1 for a in audit if a.verb == verb) for verb in ("skip", "discard", "retry")] == [250, 50, 200]
