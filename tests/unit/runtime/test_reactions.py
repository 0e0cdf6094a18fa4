"""What an app does with events: each reaction applies each once, in order where it asks for one, or says why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import (
    App,
    Context,
    DeclarationError,
    InvalidPayload,
    NotFound,
    RetryPolicy,
    Service,
    Transaction,
    action,
    event,
    injected,
    on,
    publish,
    wait_for,
    workflow,
)
from minuet.engine.row import Decision, EventRow
from minuet.runtime.letters import LetterChoice
from tests.unit.runtime.conftest import until

pytestmark = pytest.mark.asyncio

SOON = RetryPolicy(attempts=3, first_ms=1, at_most_ms=1)


@event("news.added", version=1, key="isbn")
class Added(msgspec.Struct, frozen=True):
    isbn: str
    number: int = 0


@event("news.made", version=1, key="isbn")
class Made(msgspec.Struct, frozen=True):
    isbn: str
    number: int = 0


@event("ring.passed", version=1, key="k")
class Passed(msgspec.Struct, frozen=True):
    k: str


class Ring(Service):
    @on(Passed, emits=(Passed,))
    async def pass_on(self, passed: Passed) -> None:
        publish(Passed(passed.k))


class Catalogue(Service):
    """Keeps a page for each book, in its transaction, and says so."""

    def __init__(self) -> None:
        self.bad: set[tuple[str, int]] = set()
        self.attempts: list[tuple[str, int]] = []

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists page (id integer primary key, isbn text, number integer, by text)")

    @on(Added, order_key="isbn", emits=(Made,), retry=SOON)
    async def make(self, added: Added, tx: Transaction = injected()) -> None:
        self.attempts.append((added.isbn, added.number))
        await tx.execute("insert into page (isbn, number, by) values (?, ?, 'make')", added.isbn, added.number)
        publish(Made(added.isbn, added.number))
        if (added.isbn, added.number) in self.bad:
            raise ConnectionError(f"no paper for {added.number}")


class Mail(Service):
    """Tells readers, outside of any transaction."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.contexts: list[Context] = []
        self.fails = 0

    @on(Made, retry=SOON)
    async def tell(self, made: Made, *, context: Context = injected()) -> None:
        self.contexts.append(context)
        if self.fails:
            self.fails -= 1
            raise OSError("no post today")
        self.told.append((made.isbn, made.number))


class Desk(Service):
    @action(emits=(Added,))
    async def add(self, isbn: str) -> None:
        publish(Added(isbn, 1))
        publish(Added(isbn, 2))


@workflow
async def add(isbn: str, *, desk: Desk) -> None:
    await desk.add(isbn)


@workflow
async def until_made(isbn: str, *, mail: Mail) -> int:
    made = await wait_for(Made, key=isbn, by=mail)
    return made.number


class Reading:
    """An open app, and what its services did."""

    def __init__(self, app: App, catalogue: Catalogue, mail: Mail) -> None:
        self.app, self.catalogue, self.mail = app, catalogue, mail
        self.letters = app.control.letters

    async def told(self, *expected: tuple[str, int]) -> None:
        async def is_told() -> bool:
            return sorted(self.mail.told) == sorted(expected)

        try:
            await until(is_told)
        except TimeoutError:
            raise AssertionError(f"told: {self.mail.told}") from None

    async def applied(self, subscription: str, count: int) -> None:
        """Wait until so many events are applied, durably: what is under way is not applied once more."""
        subscriber = self.app.hosts.home.inlet.find(subscription)

        async def is_applied() -> bool:
            return subscriber.applied == count

        await until(is_applied)

    async def dead(self, count: int) -> list[Any]:
        async def is_dead() -> bool:
            return len(await self.letters.dead_letters()) == count

        await until(is_dead)
        return await self.letters.dead_letters()

    def order(self, isbn: str) -> list[int]:
        return [number for i, number in self.mail.told if i == isbn]


@asynccontextmanager
async def reading(store: str = "sqlite://", **of_mail: Any) -> AsyncIterator[Reading]:
    catalogue, mail = Catalogue(), Mail()
    vars(mail).update(of_mail)
    async with App("library", services=[catalogue, mail], store=store) as app:
        yield Reading(app, catalogue, mail)


async def test_an_event_reaches_a_reaction_and_what_that_publishes_the_next() -> None:
    async with reading() as r:
        await r.app.send(Added("978", 1))
        await r.told(("978", 1))
        (context,) = r.mail.contexts
        assert (context.key, context.attempt, context.position) == ("978", 1, "mail.tell")
        assert context.op_key == "mail.tell:2"
        assert context.input(msgspec.defstruct("In", [("made", Made)])).made == Made("978", 1)  # type: ignore[attr-defined]


async def test_the_same_event_of_a_source_is_heard_once() -> None:
    async with reading() as r:
        assert (await r.app.send(Added("978", 1), id="a")).outcome == "accepted"
        assert (await r.app.send(Added("978", 1), id="a")).outcome == "duplicate"
        await r.app.send(Added("978", 2), id="b")
        await r.told(("978", 1), ("978", 2))


async def test_what_fails_is_tried_again_and_leaves_nothing_of_the_attempts_before() -> None:
    async with reading(fails=2) as r:
        await r.app.send(Added("978", 1))
        await r.told(("978", 1))
        assert [c.attempt for c in r.mail.contexts] == [1, 2, 3]
        assert await r.letters.dead_letters() == []


async def test_a_poison_message_holds_up_its_own_key_and_no_other() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 1)}
        for number in range(4):
            for isbn in ("good", "bad"):
                await r.app.send(Added(isbn, number))
        await r.told(("bad", 0), *(("good", n) for n in range(4)))
        (letter,) = await r.dead(1)
        assert (letter.subscription, letter.reason, letter.key, letter.data["number"]) == (
            "catalogue.make", "exhausted", "bad", 1,
        )  # fmt: skip
        assert [a.error for a in letter.attempts] == ["ConnectionError: no paper for 1"] * 3
        assert r.order("good") == [0, 1, 2, 3]


async def test_a_dead_letter_that_is_retried_lets_its_key_go_on_in_order() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 1)}
        for number in range(5):
            await r.app.send(Added("bad", number))
        (letter,) = await r.dead(1)
        r.catalogue.bad.clear()
        await r.letters.retry(LetterChoice(ids=(letter.id,)), who="test")
        await r.told(*(("bad", n) for n in range(5)))
        await r.app.send(Added("bad", 5))
        await r.told(*(("bad", n) for n in range(6)))
        assert r.catalogue.attempts[-5:] == [("bad", n) for n in range(1, 6)]
        assert await r.letters.dead_letters() == []


async def test_a_dead_letter_that_is_skipped_lets_its_key_go_on_and_stays_listed() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 1)}
        for number in range(3):
            await r.app.send(Added("bad", number))
        (letter,) = await r.dead(1)
        await r.letters.skip(LetterChoice(ids=(letter.id,)))
        await r.told(("bad", 0), ("bad", 2))
        (still,) = await r.letters.dead_letters()
        assert still.state == "skipped"
        r.catalogue.bad.clear()
        await r.letters.retry(LetterChoice(ids=(letter.id,)))
        await r.told(("bad", 0), ("bad", 1), ("bad", 2))


async def test_a_dead_letter_that_is_discarded_is_gone_and_the_audit_says_why() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 0)}
        for number in range(2):
            await r.app.send(Added("bad", number))
        (letter,) = await r.dead(1)
        with pytest.raises(InvalidPayload, match="a reason is missing"):
            await r.letters.discard(LetterChoice(ids=(letter.id,)), note=" ")
        await r.letters.discard(LetterChoice(ids=(letter.id,)), who="test", note="sent by mistake")
        await r.told(("bad", 1))
        assert await r.app.hosts.home.store.events_unapplied(1, "news.added", 0, 9) == [], "a crash brings nothing back"
        assert await r.letters.dead_letters() == []
        (audit, *_) = await r.app.hosts.home.store.audit(10)
        assert (audit.who, audit.verb, audit.subject, audit.note) == ("test", "discard", letter.id, "sent by mistake")
        with pytest.raises(NotFound, match="no dead letter"):
            await r.letters.retry(LetterChoice(ids=(letter.id,)))


async def test_a_dead_letter_is_corrected_and_applied() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 7)}
        await r.app.send(Added("bad", 7))
        (letter,) = await r.dead(1)
        with pytest.raises(InvalidPayload):
            await r.letters.edit(letter.id, b'{"isbn": 3}', note="x")
        with pytest.raises(InvalidPayload, match="order key"):
            await r.letters.edit(letter.id, b'{"isbn": "other", "number": 8}', note="x")
        with pytest.raises(InvalidPayload, match="a reason"):
            await r.letters.edit(letter.id, b'{"isbn": "bad", "number": 8}', note="")
        await r.letters.edit(letter.id, b'{"isbn": "bad", "number": 8}', note="a wrong number")
        await r.told(("bad", 8))


async def test_dead_letters_of_one_cause_are_mended_together() -> None:
    async with reading() as r:
        r.catalogue.bad = {(f"k{n}", n) for n in range(5)}
        for n in range(5):
            await r.app.send(Added(f"k{n}", n))
        letters = await r.dead(5)
        (cause,) = {x.fingerprint for x in letters}
        page = await r.letters.dead_letters(limit=2)
        rest = await r.letters.dead_letters(after=page[-1].id)
        assert [x.id for x in page + rest] == [x.id for x in letters]
        assert [f.kind for f in await r.app.control.failed()] == ["dead-letter"] * 5
        r.catalogue.bad.clear()
        said = await r.letters.retry(LetterChoice(fingerprint=cause))
        assert said.message == "5 dead letters: due now"
        await r.told(*((f"k{n}", n) for n in range(5)))


async def test_what_is_newer_than_known_or_unreadable_is_a_dead_letter() -> None:
    async with reading() as r:
        store, now = r.app.hosts.home.store, r.app.clock.now_ms()
        decision = Decision()
        decision.ensure_messages().outbox = [
            EventRow(None, "/other", "m-1", "news.made", 2, "k", '{"isbn":"k"}', 0, "", now, now),
            EventRow(None, "/other", "m-2", "news.made", 1, "k", '{"number":"x"}', 0, "", now, now),
            EventRow(None, "/other", "m-3", "news.made", 1, "k", '{"isbn":"k"}', 65, "m-0", now, now),
            EventRow(None, "/other", "m-4", "news.made", 1, "k", '{"isbn":"k"}', 0, "", now - 8 * 86_400_000, now),
            EventRow(None, "/other", "m-5", "news.made", 1, "k", '{"isbn":"fine"}', 0, "", now, now),
        ]
        await r.app.hosts.home.participant.record(decision)
        found = {x.message: x.reason for x in await r.dead(4)}
        assert found == {
            "m-1": "newer-version",
            "m-2": "unreadable",
            "m-3": "hop-limit",
            "m-4": "too-old-to-deduplicate",
        }
        await r.told(("fine", 0))
        assert await store.deliveries_open(1) == []


async def test_reactions_in_a_circle_come_to_an_end() -> None:
    async with App("ring", services=[Ring()], store="sqlite://") as app:
        await app.send(Passed("x"))

        async def is_found() -> bool:
            return bool(await app.control.letters.dead_letters())

        await until(is_found)
        (listed,) = await app.control.letters.dead_letters()
        letter = await app.control.letters.dead_letter(listed.id)
        assert (letter.reason, letter.hops) == ("hop-limit", 65)
        assert len(letter.causes) == 16
        assert letter.causes[0].startswith("ring.passed x (/ring, ")


async def test_what_was_going_on_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'news.db'}"
    async with reading(store) as r:
        r.catalogue.bad = {("bad", 1)}
        for number in range(4):
            await r.app.send(Added("bad", number))
        (letter,) = await r.dead(1)
        await r.told(("bad", 0))
    async with reading(store) as r:
        await r.app.send(Added("bad", 4))
        await r.app.send(Added("good", 0))
        await r.told(("good", 0))
        await r.letters.retry(LetterChoice(ids=(letter.id,)))
        await r.told(("good", 0), *(("bad", n) for n in range(1, 5)))
        assert r.catalogue.attempts[-4:] == [("bad", n) for n in range(1, 5)]
    async with reading(store) as r:

        async def is_noted() -> bool:
            return all(s.position >= s.newest for s in await r.letters.subscriptions())

        await until(is_noted)
        assert r.mail.told == []


@pytest.mark.parametrize(("start", "expected"), [("now", [3]), ("beginning", [1, 2, 3]), ("time", [2, 3])])
async def test_a_new_subscription_begins_where_it_says(tmp_path: Path, start: str, expected: list[int]) -> None:
    store = f"sqlite:///{tmp_path / 'news.db'}"
    heard: list[int] = []
    async with App("before", events=[Added], store=store) as app:
        await app.send(Added("k", 1))
        await asyncio.sleep(0.005)
        between = datetime.now(UTC)
        await asyncio.sleep(0.005)
        await app.send(Added("k", 2))
    begin: Any = between if start == "time" else start

    class Late(Service):
        @on(Added, start=begin)
        async def hear(self, added: Added) -> None:
            heard.append(added.number)

    async with App("after", services=[Late()], store=store) as app:
        await app.send(Added("k", 3))

        async def is_heard() -> bool:
            return len(heard) >= len(expected)

        await until(is_heard)
    assert sorted(heard) == expected


async def test_a_range_is_applied_once_more_by_one_subscription_and_heard_once_by_others() -> None:
    async with reading() as r:
        for number in range(3):
            await r.app.send(Added("k", number))
        await r.told(*(("k", n) for n in range(3)))
        await r.applied("catalogue.make", 3)
        for before in (3, 6):
            said = await r.letters.replay("catalogue.make")
            assert said.message == "3 events are applied once more by catalogue.make"
            await r.applied("catalogue.make", before + 3)
            assert r.catalogue.attempts[before:] == [("k", n) for n in range(3)]
        await r.app.send(Added("k", 3))
        await r.told(*(("k", n) for n in range(4)))
        await r.applied("mail.tell", 4)
        await r.letters.replay("mail.tell", since_ms=0, until_ms=r.app.clock.now_ms())
        await r.told(*(("k", n) for n in range(4)), *(("k", n) for n in range(4)))
        with pytest.raises(NotFound, match="no subscription"):
            await r.letters.replay("nobody.here")


async def test_a_wait_and_a_reaction_hear_the_same_event() -> None:
    catalogue, mail = Catalogue(), Mail()
    async with App("library", services=[catalogue, mail], workflows=[until_made], store="sqlite://") as app:
        run = await app.start(until_made, "978")
        await app.send(Added("978", 4))
        assert await run.result(60) == 4

        async def is_told() -> bool:
            return mail.told == [("978", 4)]

        await until(is_told)


async def test_an_action_publishes_with_its_fact() -> None:
    catalogue, mail = Catalogue(), Mail()
    async with App("library", services=[catalogue, mail, Desk()], workflows=[add], store="sqlite://") as app:
        await app.run(add, "978")

        async def is_told() -> bool:
            return mail.told == [("978", 1), ("978", 2)]

        await until(is_told)


async def test_a_slow_subscriber_costs_no_memory() -> None:
    gate = asyncio.Event()

    class Slow(Service):
        heard = 0

        @on(Added, limit=2)
        async def hear(self, added: Added) -> None:
            await gate.wait()
            type(self).heard += 1

    async with App("slow", services=[Slow()], store="sqlite://") as app:
        await asyncio.gather(*(app.send(Added("k", n)) for n in range(1_500)))
        subscriber = app.hosts.home.inlet.find("slow.hear")

        async def is_full() -> bool:
            return subscriber.in_memory >= 500

        await until(is_full)
        assert subscriber.in_memory <= 512
        assert subscriber.running == 2
        gate.set()

        async def is_heard() -> bool:
            return Slow.heard == 1_500

        await until(is_heard)


async def test_an_attempt_that_takes_too_long_is_cut_off_and_made_again() -> None:
    class Stuck(Service):
        attempts = 0

        @on(Added, attempt_timeout=timedelta(milliseconds=50), retry=SOON)
        async def hear(self, added: Added) -> None:
            type(self).attempts += 1
            if self.attempts == 1:
                await asyncio.sleep(60)

    async with App("stuck", services=[Stuck()], store="sqlite://") as app:
        await app.send(Added("k"))

        async def is_done() -> bool:
            return Stuck.attempts == 2

        await until(is_done)


async def test_events_that_everybody_has_heard_are_forgotten_in_the_end() -> None:
    async with reading() as r:
        r.catalogue.bad = {("bad", 1)}
        for isbn in ("good", "bad"):
            await r.app.send(Added(isbn, 1))
        await r.told(("good", 1))
        await r.dead(1)
        store = r.app.hosts.home.store

        async def is_noted() -> bool:
            return [s.position for s in await store.subscriptions()] == [2, 3]

        await until(is_noted)
        assert await store.forget_events(await store.last_entry(), 100) == 2, "all but the dead letter's"
        (letter,) = await r.letters.dead_letters()
        r.catalogue.bad.clear()
        await r.letters.retry(LetterChoice(ids=(letter.id,)))
        await r.told(("good", 1), ("bad", 1))


async def test_reactions_of_another_release_keep_their_place(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'news.db'}"
    async with reading(store) as r:
        await r.app.send(Added("k", 1))
        await r.told(("k", 1))
    async with App("without", events=[Added, Made], store=store) as app:
        await app.send(Added("k", 2))
        assert [s.active for s in await app.control.letters.subscriptions()] == [False, False]
    async with reading(store) as r:
        await r.told(("k", 2))
        assert all(s.active for s in await r.letters.subscriptions())


async def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(DeclarationError, match="time zone"):
        on(Added, start=datetime(2026, 1, 1))  # noqa: DTZ001


class Press(Service):
    """Says how often it has tried, and fails the first time, after it has said so."""

    def __init__(self) -> None:
        self.tries = 0

    @action(emits=(Made,))
    async def print_it(self, isbn: str, *, tx: Transaction = injected()) -> None:
        self.tries += 1
        await tx.execute("create table if not exists print (isbn text)")
        publish(Made(isbn, self.tries))
        if self.tries == 1:
            raise RuntimeError("no ink")


class Reader(Service):
    def __init__(self) -> None:
        self.heard: list[int] = []

    @on(Made)
    async def note(self, made: Made) -> None:
        self.heard.append(made.number)


@workflow
async def print_book(isbn: str, *, press: Press) -> None:
    await press.print_it(isbn).retry(3, first=0.001)


async def test_what_an_attempt_publishes_that_fails_is_not_heard_and_does_not_stand_for_the_next_one() -> None:
    reader = Reader()
    async with App("press", services=[Press(), reader], workflows=[print_book], store="sqlite://") as app:
        await app.run(print_book, "i-1")
        async with asyncio.timeout(60):
            while not reader.heard:
                await asyncio.sleep(0)
    assert reader.heard == [2]
