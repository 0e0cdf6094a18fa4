"""Leases and their fence, over one connection and without a loop: which shards are taken, until when, and who wins."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import minuet.stores.sqlite.store as sqlite_store
from minuet.engine.port import Outcome, Work
from minuet.engine.row import Decision, Lease
from minuet.errors import Contradiction, StaleOwner
from minuet.ids import RunIds, shard_of
from minuet.stores.query import load_queries
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.leases import Leases
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.schema import open_schema
from minuet.testing.owner_suite import under
from minuet.testing.store_desk import NOW_MS, decision, execute, fact_row, one_statement, run_row, start

QUERIES = load_queries(Path(sqlite_store.__file__).parent / "queries")
TTL_MS = 10_000
SHARDS = 8


class Bench:
    """A database in memory with all that works on it."""

    def __init__(self) -> None:
        self.connection = open_writer(None)
        open_schema(self.connection, QUERIES, "memory")
        self.groups = Groups(self.connection, None, QUERIES, nullcontext())
        self.leases = Leases(self.connection, QUERIES)
        self.reads = Reads(self.connection, QUERIES)

    def claim(self, owner: str, wanted: int, now_ms: int) -> list[Lease]:
        return self.groups.perform(lambda _: self.leases.claim(owner, wanted, TTL_MS, now_ms, SHARDS))

    def record(self, *items: Decision | Work) -> list[type[Exception] | None]:
        """Record a group; give the kinds of errors."""
        return [type(o.error) if o.error is not None else None for o in self.run(*items)]

    def run(self, *items: Decision | Work) -> list[Outcome]:
        return self.groups.run(self.groups.take(deque(items)))

    def runs(self) -> list[int]:
        return self.reads.runs_to_load(0, 99)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.groups.close()


def test_shards_that_were_never_owned_come_first_then_those_that_are_free_for_the_longest(bench: Bench) -> None:
    assert bench.claim("a", 3, 1_000) == [Lease(0, 1), Lease(1, 1), Lease(2, 1)]
    bench.leases.give_back("a", [Lease(0, 1)], 2_000)
    bench.leases.renew("a", [Lease(1, 1)], TTL_MS, 3_000)
    assert bench.claim("b", 5, 4_000) == [Lease(n, 1) for n in range(3, 8)]
    # 0 is free since 2,000; 2 since 11,000; 1 since 13,000
    assert bench.claim("c", 9, 13_000) == [Lease(0, 2), Lease(2, 2), Lease(1, 2)]


def test_a_lease_runs_out_at_the_millisecond(bench: Bench) -> None:
    held = bench.claim("a", SHARDS, 1_000)
    assert bench.claim("b", 1, 1_000 + TTL_MS - 1) == []
    assert bench.leases.owners(1_000 + TTL_MS - 1) == {"a": SHARDS}
    assert bench.leases.owners(1_000 + TTL_MS) == {}
    assert bench.claim("b", 1, 1_000 + TTL_MS) == [Lease(0, 2)]
    assert bench.leases.renew("a", held, TTL_MS, 1_000 + TTL_MS) == held[1:]


def test_a_shard_that_somebody_took_since_it_was_looked_at_is_not_claimed(bench: Bench) -> None:
    """Here nobody can; a server lets others in between."""
    bench.claim("a", 1, 1_000)
    claim = {"shard": 0, "owner": "b", "until_ms": 99_000}
    assert bench.connection.execute(QUERIES["claim_shard"], claim | {"now_ms": 10_999}).fetchall() == []
    assert bench.connection.execute(QUERIES["claim_shard"], claim | {"now_ms": 11_000}).fetchall() == [(2,)]


def test_nothing_is_claimed_where_nothing_is_wanted(bench: Bench) -> None:
    assert bench.claim("a", 0, 1_000) == bench.claim("a", -1, 1_000) == []
    assert bench.leases.owners(1_000) == {}


def test_a_lease_is_renewed_and_given_back_by_its_owner_under_its_epoch_only(bench: Bench) -> None:
    (lease,) = bench.claim("a", 1, 1_000)
    for owner, other in (("b", lease), ("a", Lease(lease.shard, 2)), ("a", Lease(5, 1)), ("a", Lease(lease.shard, 0))):
        assert bench.leases.renew(owner, [other], TTL_MS, 2_000) == []
        bench.leases.give_back(owner, [other], 2_000)
    assert bench.leases.owners(2_000) == {"a": 1}


def test_giving_back_what_ran_out_long_ago_does_not_make_it_free_more_recently(bench: Bench) -> None:
    bench.claim("a", SHARDS, 0)
    bench.leases.give_back("a", [Lease(3, 1)], 5_000)
    bench.leases.give_back("a", [Lease(5, 1)], 9_000)
    bench.leases.give_back("a", [Lease(0, 1)], 60_000)
    assert [lease.shard for lease in bench.claim("b", 4, 60_000)] == [3, 5, 0, 1]


def test_a_zombie_is_refused_from_the_very_next_transaction(bench: Bench) -> None:
    """What was read of leases in one transaction is not believed in the next."""
    (old, *_) = bench.claim("a", SHARDS, 1_000)
    assert bench.record(under(old, start(1)), one_statement(execute("create table page (n integer)"), start(2))) == [
        None,
        None,
    ]
    bench.claim("b", SHARDS, 1_000 + TTL_MS)
    work = one_statement(execute("insert into page values (1)"), under(old, start(4)))
    assert bench.record(under(old, start(3)), work) == [StaleOwner, StaleOwner]
    assert bench.runs() == [1, 2]
    assert bench.connection.execute("select * from page").fetchall() == []


def test_a_fence_of_a_shard_that_nobody_ever_owned_holds_nothing_off(bench: Bench) -> None:
    assert bench.record(under(Lease(0, 1), start(1)), start(2)) == [StaleOwner, None]
    assert bench.runs() == [2]


def test_an_epoch_that_was_not_given_yet_is_refused_like_one_of_the_past(bench: Bench) -> None:
    (lease, *_) = bench.claim("a", 1, 1_000)
    assert bench.record(under(Lease(lease.shard, lease.epoch + 1), start(1))) == [StaleOwner]


def test_a_refusal_says_which_shard_and_which_epochs(bench: Bench) -> None:
    bench.claim("a", 1, 1_000)
    bench.claim("b", SHARDS, 1_000 + TTL_MS)
    (outcome,) = bench.run(under(Lease(0, 1), start(1)))
    assert isinstance(outcome.error, StaleOwner)
    assert outcome.error.subject == {"shard": 0, "epoch": 1, "current": 2}
    assert outcome.error.remedy


def test_each_lease_of_a_group_is_asked_about_once_and_without_leases_nothing_is_asked(bench: Bench) -> None:
    first, second, *_ = bench.claim("a", SHARDS, 1_000)
    bench.record(one_statement(execute("create table page (n integer)")))
    asked: list[str] = []
    bench.connection.set_trace_callback(lambda sql: asked.append(sql) if "minuet_lease" in sql else None)
    bench.record(*map(start, range(1, 50)), one_statement(execute("insert into page values (1)"), start(50)))
    assert asked == []
    items = [under((first, second)[run % 2], start(run)) for run in range(51, 90)]
    works = [
        one_statement(execute("insert into page values (1)"), under(second, start(run))) for run in range(101, 110)
    ]
    assert set(bench.record(*items, *works)) == {None}
    assert len(asked) == 2


def test_a_group_that_is_done_again_singly_refuses_its_zombies_too(bench: Bench) -> None:
    old, other, *_ = bench.claim("a", SHARDS, 1_000)
    bench.record(decision(1, runs=[run_row(1)], facts=[fact_row(1, "2")]))
    bench.leases.give_back("a", [old], 2_000)
    bench.claim("b", 1, 2_000)
    denying = decision(1, facts=[fact_row(1, "2", "rejected:late")])
    assert bench.record(under(old, start(2)), denying, under(other, start(3)), start(4)) == [
        StaleOwner,
        Contradiction,
        None,
        None,
    ]
    assert bench.runs() == [1, 3, 4]


def test_a_handler_whose_transaction_was_lost_is_refused_under_a_lost_lease(bench: Bench) -> None:
    old, *_ = bench.claim("a", SHARDS, 1_000)
    bench.record(one_statement(execute("create table page (n integer primary key on conflict rollback)")))
    bench.record(one_statement(execute("insert into page values (1)")))
    bench.claim("b", SHARDS, 1_000 + TTL_MS)
    work = one_statement(execute("insert into page values (1)"), None)
    work._otherwise = under(old, start(3))
    assert bench.record(under(old, start(1)), start(2), work) == [StaleOwner, None, StaleOwner]
    assert bench.runs() == [2]


def test_the_sql_and_the_ids_agree_on_the_shard_of_a_run(bench: Bench) -> None:
    ids = RunIds()
    runs = [ids.next(NOW_MS, shard) for shard in range(256)]
    assert set(bench.record(*map(start, runs))) == {None}
    for run in runs:
        assert bench.reads.runs_to_load(0, 9, [shard_of(run)]) == [run]


def test_a_claim_that_is_undone_leaves_leases_as_they_were(bench: Bench) -> None:
    (lease,) = bench.claim("a", 1, 1_000)

    def claim_in_vain(_: sqlite3.Connection) -> None:
        assert len(bench.leases.claim("b", SHARDS, TTL_MS, 1_000 + TTL_MS, SHARDS)) == SHARDS
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        bench.groups.perform(claim_in_vain)
    assert bench.record(under(lease, start(1))) == [None]
