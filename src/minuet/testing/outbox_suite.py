"""What every store must do with events: the outbox, subscriptions, what they applied, and what they could not.

Used like `StoreSuite`, and beside it, with the same fixture.
"""

# ruff: noqa: D102 - the name of a test is a sentence already

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from minuet.engine.port import LetterFilter, Store
from minuet.engine.row import Decision, DeliveryKey, DeliveryRow, EventRow, SeenRow, SubscriptionRow
from minuet.errors import Conflict
from minuet.testing.store_desk import NOW_MS, Desk, Script, ScriptedWork, desk_of, execute, fetch

MakeStore = Callable[[], Store]


def event_row(message: str, event: str = "news.added", **other: Any) -> EventRow:
    """Make an event that is to be published."""
    row = EventRow(None, "/catalogue", message, event, 1, "978", '{"isbn":"978"}', 0, "", NOW_MS, NOW_MS)
    return row._replace(**other)


def delivery_row(entry: int, state: str = "waiting", **other: Any) -> DeliveryRow:
    """Make what subscription 1 could not apply at once."""
    row = DeliveryRow(1, entry, "978", state, 1, NOW_MS, NOW_MS, NOW_MS, '[[1,"x"]]', None, None, None)
    return row._replace(**other)


def subscription_row(number: int = 1, **other: Any) -> SubscriptionRow:
    """Make a subscription that has heard nothing yet."""
    return SubscriptionRow(number, f"mail.tell{number}", "news.added", 0, 1, NOW_MS)._replace(**other)


def about(**nouns: Any) -> Decision:
    """Make a decision about events, by noun: `about(outbox=[…], applied=[…])`."""
    decision = Decision()
    for noun, rows in nouns.items():
        setattr(decision.ensure_messages(), noun, rows)
    return decision


def _at_a_desk(store: MakeStore, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def perform() -> None:
        async with desk_of(store()) as desk:
            await test(desk)

    asyncio.run(asyncio.wait_for(perform(), 60))


class OutboxSuite:
    """The tests."""

    def test_events_are_given_in_the_order_of_their_commits(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(*(about(outbox=[event_row(f"m-{n}")]) for n in range(10)))
            await desk.record(about(outbox=[event_row("m-x"), event_row("o", "news.other"), event_row("m-y")]))
            found = await desk.store.events_after("news.added", 0, 100)
            assert [e.message for e in found] == [*(f"m-{n}" for n in range(10)), "m-x", "m-y"]
            entries = [e.entry for e in found if e.entry is not None]
            assert entries == sorted(set(entries))
            assert await desk.store.events_after("news.added", entries[3], 2) == found[4:6]
            assert await desk.store.events_between("news.added", entries[2], entries[4], 9) == found[2:5]
            assert await desk.store.last_entry() == await desk.store.newest_of("news.added") == entries[-1]
            assert await desk.store.newest_of("news.unknown") == 0

        _at_a_desk(store, test)

    def test_an_identity_is_published_once(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row("m-1")]), about(outbox=[event_row("m-1", body="{}")]))
            await desk.record(about(outbox=[event_row("m-1", source="/other")]))
            found = await desk.store.events_after("news.added", 0, 9)
            assert [(e.source, e.body) for e in found] == [
                ("/catalogue", '{"isbn":"978"}'),
                ("/other", '{"isbn":"978"}'),
            ]
            assert await desk.store.find_published("/other", "m-1") == found[1]
            assert await desk.store.find_published(None, "m-1") == found[0]
            assert await desk.store.find_published(None, "m-2") is None

        _at_a_desk(store, test)

    def test_an_event_is_applied_once_by_a_subscription_and_what_goes_with_the_second_is_refused(
        self, store: MakeStore
    ) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row("m-1")], applied=[DeliveryKey(1, 1)]))
            again = about(outbox=[event_row("m-2")], applied=[DeliveryKey(1, 1)])
            assert isinstance(await desk.refused(again), Conflict)
            assert [e.message for e in await desk.store.events_after("news.added", 0, 9)] == ["m-1"]
            await desk.record(about(applied=[DeliveryKey(2, 1)]))

        _at_a_desk(store, test)

    def test_a_reaction_that_was_applied_before_keeps_nothing(self, store: MakeStore) -> None:
        def script() -> Script:
            yield execute("insert into page values (1)")
            return about(applied=[DeliveryKey(1, 1)])

        seen: list[int] = []

        def count() -> Script:
            rows = yield fetch("select * from page")
            seen.append(len(rows))
            return None

        async def test(desk: Desk) -> None:
            def setup() -> Script:
                yield execute("create table page (n integer)")
                return None

            await desk.store.setup(ScriptedWork(setup))
            await desk.record(ScriptedWork(script))
            assert isinstance(await desk.refused(ScriptedWork(script)), Conflict)
            await desk.record(ScriptedWork(count))
            assert seen == [1]

        _at_a_desk(store, test)

    def test_what_is_neither_applied_nor_recorded_is_found_after_a_crash(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row(f"m-{n}") for n in range(1, 7)]))
            await desk.record(about(subscriptions=[subscription_row()], applied=[DeliveryKey(1, 2), DeliveryKey(1, 5)]))
            await desk.record(about(deliveries=[delivery_row(3)]))
            found = await desk.store.events_unapplied(1, "news.added", 0, 9)
            assert [e.entry for e in found] == [1, 4, 6]
            moved = [subscription_row(position=4)]
            await desk.record(about(subscriptions=moved, applied_until=[DeliveryKey(1, 4)]))
            assert await desk.store.subscriptions() == moved
            await desk.record(about(applied=[DeliveryKey(1, 2)]))  # forgotten: below the position
            assert isinstance(await desk.refused(about(applied=[DeliveryKey(1, 5)])), Conflict)

        _at_a_desk(store, test)

    def test_deliveries_are_found_by_what_is_to_be_done_with_them(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(
                about(outbox=[event_row(f"m-{n}") for n in range(1, 8)], subscriptions=[subscription_row()])
            )
            rows = [
                delivery_row(1, next_at_ms=NOW_MS + 50),
                delivery_row(2, next_at_ms=NOW_MS + 20),
                delivery_row(3, "running"),
                delivery_row(4, "held"),
                delivery_row(5, "held"),
                delivery_row(6, "dead", reason="exhausted", fingerprint="f"),
                delivery_row(7, "skipped", reason="refused", last_at_ms=NOW_MS - 1),
            ]
            await desk.record(about(deliveries=rows))
            read = desk.store
            assert [d.delivery for d in await read.deliveries_due(1, NOW_MS + 99, 9)] == [rows[1], rows[0]]
            assert [d.delivery.entry for d in await read.deliveries_due(1, NOW_MS + 30, 9)] == [2]
            assert await read.next_delivery_due(1) == NOW_MS + 20
            assert await read.next_delivery_due(2) is None
            (first, *_), held = await read.deliveries_due(1, NOW_MS + 99, 1), await read.deliveries_held(1, "978", 9)
            assert (first.event.message, first.name) == ("m-2", "mail.tell1")
            assert [d.delivery.entry for d in held] == [4, 5]
            assert [d.delivery.entry for d in await read.deliveries_running(1, 9)] == [3]
            opened = {(e, s) for _, e, s in await read.deliveries_open(1)}
            assert opened == {(1, "waiting"), (2, "waiting"), (3, "running"), (4, "held"), (6, "dead")}
            assert [d.delivery.entry for d in await read.dead_letters(LetterFilter())] == [7, 6]
            after = LetterFilter(after=(NOW_MS - 1, 1, 7))
            assert [d.delivery.entry for d in await read.dead_letters(after)] == [6]
            for which in (LetterFilter(reason="exhausted"), LetterFilter(fingerprint="f"), LetterFilter(entry=6)):
                assert [d.delivery.entry for d in await read.dead_letters(which)] == [6]
            assert await read.dead_letters(LetterFilter(subscription="mail.other")) == []

        _at_a_desk(store, test)

    def test_the_last_word_on_a_delivery_counts_also_within_a_group(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row("m-1")], subscriptions=[subscription_row()]))
            later = [about(deliveries=[delivery_row(1, "waiting", attempts=n)]) for n in range(1, 4)]
            await desk.record(*later)
            (found,) = await desk.store.deliveries_due(1, NOW_MS, 9)
            assert found.delivery.attempts == 3
            await desk.record(about(applied=[DeliveryKey(1, 1)], deliveries_done=[DeliveryKey(1, 1)]))
            assert await desk.store.deliveries_due(1, NOW_MS, 9) == []

        _at_a_desk(store, test)

    def test_an_instant_is_found_in_the_outbox(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            assert await desk.store.entry_before(NOW_MS) == 0
            await desk.record(about(outbox=[event_row(f"m-{n}", at_ms=NOW_MS + 10 * n) for n in range(20)]))
            assert await desk.store.entry_before(NOW_MS) == 0
            assert await desk.store.entry_before(NOW_MS + 1) == 1
            assert await desk.store.entry_before(NOW_MS + 50) == 5
            assert await desk.store.entry_before(NOW_MS + 1_000_000) == 20

        _at_a_desk(store, test)

    def test_only_events_are_forgotten_that_everybody_has_passed_and_nobody_needs(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row(f"m-{n}") for n in range(1, 7)]))
            await desk.record(about(outbox=[event_row("o-1", "news.unheard")]))
            await desk.record(about(subscriptions=[subscription_row(1, position=5), subscription_row(2, position=0)]))
            assert await desk.store.forget_events(6, 99) == 0, "the second has heard nothing"
            await desk.record(about(subscriptions=[subscription_row(2, position=0, active=0)]))
            await desk.record(about(deliveries=[delivery_row(2, "dead")]))
            assert await desk.store.forget_events(99, 2) == 2
            assert await desk.store.forget_events(99, 99) == 3
            assert [e.entry for e in await desk.store.events_after("news.added", 0, 9)] == [2, 6]
            await desk.record(about(outbox=[event_row("m-7")]))
            assert await desk.store.last_entry() == 8, "an entry is never used again"

        _at_a_desk(store, test)

    def test_an_event_from_elsewhere_keeps_its_number_and_that_of_the_one_before_it(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            far = event_row("far-7", sequence=7, previous=3)
            await desk.record(about(outbox=[far, event_row("m-1")], subscriptions=[subscription_row()]))
            found = await desk.store.events_after("news.added", 0, 9)
            assert [(e.sequence, e.previous) for e in found] == [(7, 3), (None, None)]
            await desk.record(about(deliveries=[delivery_row(1, "early"), delivery_row(2, "held")]))
            (stored,) = await desk.store.deliveries_of(1, [1, 3])
            assert (stored.delivery.state, stored.event.sequence) == ("early", 7)
            (streamed,) = await desk.store.deliveries_streamed(1)
            assert (streamed.entry, streamed.state, streamed.source, streamed.event_key) == (
                1,
                "early",
                "/catalogue",
                "978",
            )
            assert (streamed.sequence, streamed.previous) == (7, 3)
            assert [e for _, e, _ in await desk.store.deliveries_open(1)] == [2], "what is early holds up nobody else"

        _at_a_desk(store, test)

    def test_how_far_a_stream_is_only_grows(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = [SeenRow(1, "/far", "a", n) for n in (3, 9, 4)]
            await desk.record(about(seen=rows[:2]), about(seen=rows[2:]), about(seen=[SeenRow(1, "/far", "b", 2)]))
            await desk.record(about(seen=[SeenRow(1, "/far", "a", 5)]))
            asked = [("/far", "a"), ("/far", "c"), ("/far", "b")]
            assert sorted(await desk.store.seen(1, asked)) == [("/far", "a", 9), ("/far", "b", 2)]
            assert await desk.store.seen(2, asked) == []

        _at_a_desk(store, test)

    def test_what_came_before_an_event_of_its_source_type_and_key_is_known(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            others = [{}, {"key": "x"}, {"event": "o.o"}, {"source": "/o"}, {}, {"key": "x"}]
            await desk.record(about(outbox=[event_row(f"m-{n}", **other) for n, other in enumerate(others, start=1)]))
            log = await desk.store.log_after(0, 9)
            assert await desk.store.previous_of(log) == [0, 0, 0, 0, 1, 2]
            assert await desk.store.previous_of([log[4], log[0]]) == [1, 0]

        _at_a_desk(store, test)

    def test_what_a_step_has_published_is_found_by_its_key(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            names = [
                "R:2:0:forward:0:0",
                "R:2:0:forward:0:1",
                "R:2:0:forward:1:0",
                "R:2a:0:forward:0:0",
                "R:2:01:forward",
            ]
            await desk.record(about(outbox=[event_row(name) for name in names]))
            found = await desk.store.published_by("R:2:0:forward:")
            assert [e.message for e in found] == names[:3]

        _at_a_desk(store, test)

    def test_what_a_subscription_also_hears_is_kept_for_it_and_what_was_discarded_is_not(
        self, store: MakeStore
    ) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row("m-1"), event_row("m-2", "news.added.taken-back")]))
            hears = subscription_row(position=1, began=0, also="news.added.taken-back", late=4)
            await desk.record(about(subscriptions=[hears], deliveries=[delivery_row(1, "discarded")]))
            assert await desk.store.subscriptions() == [hears]
            assert await desk.store.dead_letters(LetterFilter()) == []
            assert await desk.store.forget_events(9, 9) == 1
            assert await desk.store.deliveries_of(1, [1]) == []
            assert [e.message for e in await desk.store.log_after(0, 9)] == ["m-2"]

        _at_a_desk(store, test)
