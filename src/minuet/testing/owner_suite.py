"""What every store must do that several participants may have open: leases, fences, and what they leave each other.

Whoever has written a store with `Capability.SHARED` subclasses `OwnerSuite` in a test module, beside `StoreSuite`, and
gives it a fixture `database`: a `SharedDatabase` of at least four shards, new for each test.
"""

# ruff: noqa: D102 - the name of a test is a sentence already

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Protocol
from unittest import SkipTest

from minuet.engine.port import Capability, Store, Work
from minuet.engine.row import Decision, InboxTaken, Lease, PassedKey, PassedRow, WaitKey
from minuet.errors import Contradiction, KeyConflict, StaleOwner
from minuet.ids import RunIds, shard_of
from minuet.testing.store_desk import (
    NOW_MS,
    Desk,
    Script,
    ScriptedWork,
    attempt_row,
    decision,
    desk_of,
    execute,
    fact_row,
    fetch,
    inbox_row,
    one_statement,
    run_row,
    start,
    timer_row,
    wait_row,
)

TTL_MS = 60_000
ALL = 256  # more than there are, or just as many
EVENT = "carrier.picked-up"


class SharedDatabase(Protocol):
    """One database, the loop in which its stores are used, and its clock."""

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        """Perform a test in the loop, to its end."""
        ...

    def another_store(self) -> Store:
        """Give another participant's store over the database, still closed."""
        ...

    def pass_ms(self, duration_ms: int) -> None:
        """Move the clock by which leases run out."""
        ...


def passed_row(message: str, shard: int, **other: Any) -> PassedRow:
    """Make a message for the owner of a shard."""
    return PassedRow(message, shard, '{"id":"é"}', NOW_MS)._replace(**other)


def passing(*rows: PassedRow, done: tuple[str, ...] = ()) -> Decision:
    """Make a decision that leaves messages for owners, and forgets some."""
    made = Decision()
    messages = made.ensure_messages()
    messages.passed, messages.passed_done = list(rows), [PassedKey(message) for message in done]
    return made


def under(lease: Lease, made: Decision) -> Decision:
    """Have a decision recorded only while this lease is held."""
    made.fence = lease
    return made


def run_of(shard: int, number: int = 0) -> int:
    """Give the id of a run of a shard."""
    return RunIds().next(NOW_MS + number, shard)


def _by_two(database: SharedDatabase, test: Callable[[Desk, Desk], Awaitable[None]]) -> None:
    """Perform a test with the open stores of two participants."""

    async def perform() -> None:
        async with desk_of(database.another_store()) as one, desk_of(database.another_store()) as other:
            await test(one, other)

    database.run(perform())


def _shards(*leases: Lease) -> list[int]:
    return [lease.shard for lease in leases]


class OwnerSuite:
    """The tests. `capabilities`: what the store can; all of it, unless said otherwise."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    # Keys

    def test_a_key_names_one_run_also_where_that_has_ended_before_the_second_one_begins(
        self, database: SharedDatabase
    ) -> None:
        async def test(one: Desk, other: Desk) -> None:
            late, first, again = start(1, key="k"), start(2, key="k", state="completed", load=None), start(3, key="k")
            late.after, first.after, again.after = 0, 0, 2
            await other.record(first)
            (refused,) = await one.outcomes(late)
            assert isinstance(refused.error, KeyConflict)
            assert refused.error.subject["run"] == 2
            await one.record(again)
            assert await one.store.load_run(1) is None

        _by_two(database, test)

    # Leases

    def test_all_are_told_over_how_many_shards_runs_are_spread(self, database: SharedDatabase) -> None:
        async def test() -> None:
            desks = [Desk(database.another_store()) for _ in range(2)]
            first, second = [await desk.open() for desk in desks]
            assert first.shards is not None
            assert 4 <= first.shards <= ALL
            assert second.shards == first.shards
            assert first.incarnation == second.incarnation
            assert {lease.shard for lease in await desks[1].store.claim("b", ALL, TTL_MS)} == set(range(first.shards))
            for desk in desks:
                await desk.store.close()

        database.run(test())

    def test_a_shard_is_claimed_by_one(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            first = await one.store.claim("a", 3, TTL_MS)
            rest = await other.store.claim("b", ALL, TTL_MS)
            assert len(first) == 3
            assert len(set(_shards(*first, *rest))) == len(first) + len(rest)
            assert await one.store.claim("a", ALL, TTL_MS) == await other.store.claim("b", ALL, TTL_MS) == []

        _by_two(database, test)

    def test_who_claims_at_once_gets_different_shards(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            claims = [desk.store.claim(name, 1, TTL_MS) for name, desk in [("a", one), ("b", other)] * 2]
            claimed = [lease.shard for leases in await asyncio.gather(*claims) for lease in leases]
            assert len(claimed) == len(set(claimed)) == 4

        _by_two(database, test)

    def test_a_lease_that_has_run_out_can_be_taken_under_a_higher_epoch(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            held = await one.store.claim("a", ALL, TTL_MS)
            database.pass_ms(TTL_MS // 2)
            assert await other.store.claim("b", ALL, TTL_MS) == []
            database.pass_ms(TTL_MS)
            taken = await other.store.claim("b", ALL, TTL_MS)
            epochs = dict(taken)
            assert epochs.keys() == dict(held).keys()
            assert all(epochs[shard] > epoch for shard, epoch in held)

        _by_two(database, test)

    def test_the_former_owner_too_gets_a_new_epoch(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            first = await one.store.claim("a", ALL, TTL_MS)
            database.pass_ms(TTL_MS * 2)
            second = await one.store.claim("a", ALL, TTL_MS)
            await one.store.give_back("a", second)
            assert await other.store.owners() == {}
            third = await one.store.claim("a", ALL, TTL_MS)
            for before, after in ((first, second), (second, third)):
                epochs = dict(after)
                assert len(before) == len(after)
                assert all(epochs[shard] > epoch for shard, epoch in before)

        _by_two(database, test)

    def test_a_renewed_lease_stays(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            held = await one.store.claim("a", ALL, TTL_MS)
            for _ in range(3):
                database.pass_ms(TTL_MS * 3 // 4)
                assert await one.store.renew("a", held[:2], TTL_MS) == held[:2]
            taken = await other.store.claim("b", ALL, TTL_MS)
            assert sorted(_shards(*taken)) == sorted(_shards(*held[2:]))

        _by_two(database, test)

    def test_a_lease_that_was_taken_is_neither_renewed_nor_given_back(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            held = await one.store.claim("a", ALL, TTL_MS)
            assert await one.store.renew("a", held[:1], TTL_MS * 9) == held[:1]
            database.pass_ms(TTL_MS * 2)
            taken = await other.store.claim("b", ALL, TTL_MS)
            assert await one.store.renew("a", held, TTL_MS) == held[:1]
            await one.store.give_back("a", held[1:])
            assert await other.store.renew("b", taken, TTL_MS) == taken
            assert await one.store.claim("a", ALL, TTL_MS) == []

        _by_two(database, test)

    def test_what_was_given_back_is_free_at_once(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            held = await one.store.claim("a", ALL, TTL_MS)
            await one.store.give_back("a", held[:2])
            assert await one.store.renew("a", held[:3], TTL_MS) == held[2:3]
            taken = await other.store.claim("b", ALL, TTL_MS)
            assert sorted(_shards(*taken)) == sorted(_shards(*held[:2]))

        _by_two(database, test)

    def test_owners_are_counted_whose_leases_have_not_run_out(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            assert await one.store.owners() == {}
            held = await one.store.claim("a", 3, TTL_MS)
            await other.store.claim("b", 1, TTL_MS * 9)
            assert await other.store.owners() == {"a": 3, "b": 1}
            await one.store.give_back("a", held[:1])
            assert await other.store.owners() == {"a": 2, "b": 1}
            database.pass_ms(TTL_MS * 2)
            assert await one.store.owners() == {"b": 1}

        _by_two(database, test)

    # Fences

    def test_a_zombie_is_refused_and_the_rest_of_its_group_is_recorded(self, database: SharedDatabase) -> None:
        async def test(zombie: Desk, heir: Desk) -> None:
            old, *_ = await zombie.store.claim("a", ALL, TTL_MS)
            runs = [run_of(old.shard, n) for n in range(5)]
            await zombie.record(under(old, start(runs[0])))
            database.pass_ms(TTL_MS * 2)
            new = next(lease for lease in await heir.store.claim("b", ALL, TTL_MS) if lease.shard == old.shard)
            late = [under(old, start(runs[1])), start(runs[2]), under(old, start(runs[3])), under(new, start(runs[4]))]
            outcomes = await zombie.outcomes(*late)
            assert [type(outcome.error) for outcome in outcomes] == [StaleOwner, type(None), StaleOwner, type(None)]
            assert await heir.store.runs_to_load(0, 9) == [runs[0], runs[2], runs[4]]

        _by_two(database, test)

    def test_who_loses_a_shard_between_two_decisions_is_refused_from_then_on(self, database: SharedDatabase) -> None:
        async def test(zombie: Desk, heir: Desk) -> None:
            old, *_ = await zombie.store.claim("a", ALL, TTL_MS)
            for number in range(3):
                await zombie.record(under(old, start(run_of(old.shard, number))))
            await zombie.store.give_back("a", [old])
            (new,) = await heir.store.claim("b", 1, TTL_MS)
            assert new.shard == old.shard
            refused = await zombie.refused(under(old, start(run_of(old.shard, 3))))
            assert isinstance(refused, StaleOwner)
            assert (refused.subject["shard"], refused.subject["epoch"]) == (old.shard, old.epoch)
            await heir.record(under(new, start(run_of(old.shard, 4))))
            assert len(await heir.store.runs_to_load(0, 9)) == 4

        _by_two(database, test)

    def test_an_owner_whose_time_has_run_out_goes_on_until_somebody_takes_the_shard(
        self, database: SharedDatabase
    ) -> None:
        async def test(one: Desk, other: Desk) -> None:
            lease, *_ = await one.store.claim("a", ALL, TTL_MS)
            database.pass_ms(TTL_MS * 2)
            await one.record(under(lease, start(run_of(lease.shard))))
            assert await other.store.runs_to_load(0, 9) == [run_of(lease.shard)]

        _by_two(database, test)

    def test_a_zombie_is_refused_whatever_else_is_wrong_in_its_group(self, database: SharedDatabase) -> None:
        async def test(zombie: Desk, heir: Desk) -> None:
            old, *_ = await zombie.store.claim("a", ALL, TTL_MS)
            first, second, third = [run_of(old.shard, n) for n in range(3)]
            await zombie.record(under(old, decision(first, runs=[run_row(first)], facts=[fact_row(first, "2")])))
            await zombie.store.give_back("a", [old])
            await heir.store.claim("b", 1, TTL_MS)
            outcomes = await zombie.outcomes(
                under(old, start(second)),
                decision(first, facts=[fact_row(first, "2", "rejected:late")]),
                under(old, decision(first, facts=[fact_row(first, "2")])),  # what is there already is refused, too
                start(third),
            )
            kinds = [type(outcome.error) for outcome in outcomes]
            assert kinds == [StaleOwner, Contradiction, StaleOwner, type(None)]
            assert await heir.store.runs_to_load(0, 9) == [first, third]

        _by_two(database, test)

    def test_a_handler_of_a_zombie_leaves_nothing(self, database: SharedDatabase) -> None:
        if Capability.TRANSACTIONS not in self.capabilities:
            raise SkipTest("this store has no transactions")
        seen: list[int] = []

        def count() -> Script:
            seen.extend([row[0] for row in (yield fetch("select n from page order by n"))])
            return None

        async def test(zombie: Desk, heir: Desk) -> None:
            await zombie.store.setup(one_statement(execute("create table page (n integer)")))
            old, *_ = await zombie.store.claim("a", ALL, TTL_MS)

            def handler(number: int, lease: Lease) -> Work:
                made = under(lease, start(run_of(lease.shard, number)))
                return one_statement(execute("insert into page values (?)", number), made)

            await zombie.record(handler(1, old))
            await zombie.store.give_back("a", [old])
            (new,) = await heir.store.claim("b", 1, TTL_MS)
            late = await zombie.outcomes(handler(2, old), handler(3, new), handler(4, old))
            assert [type(outcome.error) for outcome in late] == [StaleOwner, type(None), StaleOwner]
            await heir.record(ScriptedWork(count))
            assert seen == [1, 3]
            assert await heir.store.runs_to_load(0, 9) == [run_of(old.shard, 1), run_of(old.shard, 3)]

        _by_two(database, test)

    # What belongs to whom

    def test_runs_are_read_by_shard(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            runs = sorted(run_of(shard, n) for n, shard in enumerate((0, 1, 2, 1, 0)))
            idle = sorted(run_of(shard, 10) for shard in range(3))
            await one.record(*map(start, runs), *(start(run, load=0) for run in idle))
            store = other.store
            assert await store.runs_to_load(0, 99, None) == runs
            for shards in ([0], [1, 2], {2}, []):
                mine = [run for run in runs if shard_of(run) in shards]
                assert await store.runs_to_load(0, 99, shards) == mine
                assert await store.runs_to_load(runs[1], 1, shards) == [run for run in mine if run > runs[1]][:1]
                also = sorted([*mine, *(run for run in idle if shard_of(run) in shards)])
                assert await store.unfinished_runs(0, 99, shards) == also
                assert await store.unfinished_runs(0, 2, shards) == also[:2]

        _by_two(database, test)

    def test_what_is_due_is_read_by_shard(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            runs = [run_of(shard) for shard in range(3)]
            timers = [timer_row(run, due_at_ms=NOW_MS + n) for n, run in enumerate(runs)]
            attempts = [attempt_row(run, next_at_ms=NOW_MS + n) for n, run in enumerate(runs)]
            rows = [run_row(run, load=0) for run in runs]
            await one.record(decision(0, runs=rows, timers=timers, attempts=attempts))
            store = other.store
            assert await store.timers_due(NOW_MS + 1, 9, [1, 2]) == timers[1:2]
            assert await store.timers_due(NOW_MS + 9, 9, [1, 2]) == timers[1:]
            assert await store.timers_due(NOW_MS + 9, 1, [1, 2]) == timers[1:2]
            assert await store.timers_due(NOW_MS + 9, 9, []) == []
            assert await store.timers_due(NOW_MS + 9, 9, None) == timers
            assert await store.attempts_due(NOW_MS + 1, 9, [1, 2]) == attempts[1:2]
            assert await store.attempts_due(NOW_MS + 9, 9, [1, 2]) == attempts[1:]
            assert await store.attempts_due(NOW_MS + 9, 1, [1, 2]) == attempts[1:2]
            assert await store.attempts_due(NOW_MS + 9, 9, []) == []
            assert await store.attempts_due(NOW_MS + 9, 9, None) == attempts

        _by_two(database, test)

    def test_waits_are_read_by_shard(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            waits = [wait_row(run_of(shard), "p-1", since_ms=NOW_MS + shard) for shard in range(3)]
            alone = wait_row(run_of(2, 1), "p-2")
            await one.record(decision(0, waits=[*waits, alone], inbox=[inbox_row("m-1"), inbox_row("m-2", key="p-2")]))
            store = other.store
            assert await store.waits_for(EVENT, "p-1", [0, 2]) == [waits[0], waits[2]]
            assert await store.waits_for(EVENT, "p-1", {1}) == waits[1:2]
            assert await store.waits_for(EVENT, "p-1", None) == waits
            assert await store.waits_for(EVENT, "p-1", []) == []
            assert await store.keys_that_meet("", "", 9, [0, 1]) == [(EVENT, "p-1")]
            assert await store.keys_that_meet("", "", 9, [2]) == [(EVENT, "p-1"), (EVENT, "p-2")]
            assert await store.keys_that_meet(EVENT, "p-1", 9, [2]) == [(EVENT, "p-2")]
            assert await store.keys_that_meet("", "", 9, []) == []

        _by_two(database, test)

    # What they leave each other

    def test_messages_are_left_for_the_owners_of_shards_oldest_first(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            # the clocks of those who leave them differ: what came first is the oldest
            rows = [passed_row(f"m-{9 - n}", n % 3, at_ms=NOW_MS - n) for n in range(6)]
            for row in rows:
                await one.record(passing(row))
            store = other.store
            assert await store.passed([0, 1, 2], 9) == rows
            assert await store.passed({2, 1}, 3) == [rows[1], rows[2], rows[4]]
            assert await store.passed([3], 9) == await store.passed([], 9) == []
            await other.record(passing(done=("m-9", "m-7", "m-never")))
            assert await store.passed([0, 1, 2], 9) == [rows[1], *rows[3:]]

        _by_two(database, test)

    def test_a_message_that_is_left_twice_is_left_once(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            row = passed_row("m-1", 1)
            await one.record(passing(row, row), passing(row._replace(envelope="{}", shard=2)))
            await other.record(passing(row._replace(envelope="{}")))
            assert await other.store.passed(range(4), 9) == [row]

        _by_two(database, test)

    def test_a_message_has_the_first_answer_that_is_given(self, database: SharedDatabase) -> None:
        async def test(one: Desk, other: Desk) -> None:
            row = passed_row("m-1", 1)
            await one.record(passing(row, passed_row("m-2", 1)))
            assert await one.store.answer_of("m-1") is None
            await other.record(passing(row._replace(answer='{"run":"é"}')))
            assert await one.store.answer_of("m-1") == '{"run":"é"}'
            await one.record(passing(row))  # whoever left it does not know whether it was recorded, and says it again
            await other.record(passing(row._replace(answer='"another"')))
            assert await one.store.answer_of("m-1") == '{"run":"é"}'
            assert await other.store.passed([1], 9) == [passed_row("m-2", 1)]
            await one.record(passing(done=("m-1",)))
            assert await one.store.answer_of("m-1") is None

        _by_two(database, test)

    def test_a_message_is_left_or_answered_by_nobody_who_has_lost_the_shard(self, database: SharedDatabase) -> None:
        async def test(zombie: Desk, heir: Desk) -> None:
            old, *_ = await zombie.store.claim("a", ALL, TTL_MS)
            row = passed_row("m-1", old.shard)
            await heir.record(passing(row))
            await zombie.store.give_back("a", [old])
            await heir.store.claim("b", 1, TTL_MS)
            for late in (passing(row._replace(answer='"late"')), passing(done=("m-1",))):
                assert isinstance(await zombie.refused(under(old, late)), StaleOwner)
            assert await heir.store.passed([old.shard], 9) == [row]

        _by_two(database, test)

    # Events that several wait for

    def test_one_event_for_waits_in_two_shards_goes_to_one(self, database: SharedDatabase) -> None:
        def take(run: int) -> Decision:
            made = decision(
                run, facts=[fact_row(run, "5")], inbox_taken=[InboxTaken("taken", run, "5", "", "carrier", "m-1")]
            )
            made.waits_done = [WaitKey(EVENT, "p-1", run, "5", "")]
            return made

        async def test(one: Desk, other: Desk) -> None:
            mine, yours = runs = [run_of(shard) for shard in (0, 1)]
            waits = [wait_row(run, "p-1") for run in runs]
            await one.record(decision(0, runs=map(run_row, runs), waits=waits, inbox=[inbox_row("m-1")]))
            results = await asyncio.gather(one.outcomes(take(mine)), other.outcomes(take(yours)))
            errors = [outcome.error for outcomes in results for outcome in outcomes]
            assert sorted(type(error).__name__ for error in errors) == ["Conflict", "NoneType"]
            winner, loser = (mine, yours) if errors[0] is None else (yours, mine)
            event = await one.store.find_event("carrier", "m-1")
            assert event is not None
            assert (event.state, event.run) == ("taken", winner)
            assert [row.run for row in await other.store.waits_for(EVENT, "p-1")] == [loser]
            facts = {stored.run.run: len(stored.facts) for stored in await one.store.load_runs(runs)}
            assert facts == {winner: 1, loser: 0}
            desk = one if winner == mine else other
            await desk.record(take(winner))  # unknown whether it was recorded: the same again is no news

        _by_two(database, test)
