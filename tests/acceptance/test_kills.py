"""A share of `make kills`: 30 of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.kills import kill_beside, table
from tests.acceptance.kills_counts import Counts

SEED = 20_260_101


@pytest.mark.parametrize(
    ("program", "kills", "books", "of"),
    [("errands", 20, "errands.db", "errand"), ("shop", 10, "shop.orders.db", "run")],
)
def test_kills_lose_nothing_and_do_nothing_twice(
    program: str, kills: int, books: str, of: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    (victim,) = asyncio.run(kill_beside([program], tmp_path, kills, SEED, print))
    record_property("killed", {**victim.counts.wrong, **victim.counts.seen})
    assert victim.counts.fell_short() == [], table({program: victim.counts})

    _tamper(victim.process.store, victim.process.store.with_name(books), of)  # the comparison is able to find fault
    victim.counts = Counts(dict.fromkeys(victim.counts.wrong, 0))
    victim.compare()
    victim.close()
    expected = {"lost": 1, "stuck": 1, "unended": 1, "wrong_end": 1, "missing": 1, "twice": 1}
    assert {what: victim.counts.wrong[what] for what in expected} == expected


def _tamper(store: Path, books: Path, of: str) -> None:
    """Take a run away, have another stuck, take an entry off the books, and write down another one twice."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("delete from minuet_run where run = (select min(run) from minuet_run)")
        connection.execute("update minuet_run set state = 'stuck' where run = (select max(run) from minuet_run)")
    with closing(sqlite3.connect(books)) as connection, connection:
        connection.execute("delete from entry where id = (select min(id) from entry)")
        connection.execute(f"insert into entry ({of}, what) select {of}, what from entry order by id desc limit 1")


def test_what_was_wrong_falls_short_and_so_does_what_never_happened() -> None:
    counts = Counts(wrong=["lost"], seen=["completed"])
    counts.seen.update(counts.missing)
    assert counts.fell_short() == []
    counts.wrong["lost"] += 1
    counts.seen["pauses"] = 0
    assert counts.fell_short() == ["lost is 1", "pauses is 0: it was not tested"]
