"""What handlers may send to the database, and how their values are kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest

from minuet.errors import StatementRefused
from minuet.stores.sqlite import guard as module
from minuet.stores.sqlite.guard import StatementGuard, adapt, marked


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("create table minuet_run (run integer primary key)")
    connection.execute("create table mine (n integer)")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (1, 1),
        (True, 1),
        (1.5, 1.5),
        ("text", "text"),
        (b"bytes", b"bytes"),
        (bytearray(b"b"), b"b"),
        (memoryview(b"m"), b"m"),
        (Decimal("9.90"), "9.90"),
        (Decimal("1E+3"), "1E+3"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=-3))), "2026-01-02T03:04:05.000006-03:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (Colour.RED, "red"),
        (Size.LARGE, 3),
    ],
)
def test_values_are_kept_in_one_way(value: Any, kept: Any) -> None:
    (adapted,) = adapt((value,))
    assert adapted == kept
    assert type(adapted) is type(kept)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2026, 1, 2), "without an offset"),  # noqa: DTZ001 - that it has none is the point
        (float("nan"), "would keep as NULL"),
        (float("-inf"), "would keep as NULL"),
        ([1], "is a list"),
        ({"a": 1}, "is a dict"),
        (timedelta(1), "is a timedelta"),
        (object(), "is a object"),
    ],
)
def test_values_that_have_no_one_way_are_refused_by_their_place(value: Any, said: str) -> None:
    with pytest.raises(StatementRefused, match=said) as caught:
        adapt((1, value))
    assert "argument 2" in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "sql",
    [
        "pragma synchronous = off",
        "pragma journal_mode",
        "select * from pragma_table_info('mine')",
        "attach ':memory:' as other",
        "analyze",
        "create temp table t (n integer)",
        "create temp view v as select 1",
        "savepoint a",
        "release a",
        "begin",
        "commit",
        "rollback",
        "/* hidden */ commit",
        "explain commit",
        "select (select max(run) from minuet_run)",
        "create view v as select run from minuet_run",
        "insert into mine select run from minuet_run",
        "create table MINUET_x (n integer)",
    ],
)
def test_a_statement_that_is_not_for_handlers_is_refused(connection: sqlite3.Connection, sql: str) -> None:
    guard = StatementGuard(connection)
    with pytest.raises(StatementRefused) as caught, guard.watching():
        connection.execute(marked(sql)).fetchall()
        if sql.startswith("create view"):
            connection.execute(marked("select * from v"))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "sql",
    [
        "create table other (n integer)",
        "create index i on mine (n)",
        "create trigger t after insert on mine begin delete from mine where n < 0; end",
        "with a as (select 1 as n) insert into mine select n from a",
        "select 'minuet_run', n from mine",
        "select count(*) from sqlite_master",
        "drop table mine",
    ],
)
def test_a_statement_about_tables_of_ones_own_is_executed(connection: sqlite3.Connection, sql: str) -> None:
    with StatementGuard(connection).watching():
        connection.execute(marked(sql))


def test_a_statement_of_ours_that_is_prepared_already_is_not_lent_to_a_handler(connection: sqlite3.Connection) -> None:
    guard = StatementGuard(connection)
    for sql in ("select run from minuet_run", "commit"):
        if sql == "commit":
            connection.execute("begin")
        connection.execute(sql)
        with pytest.raises(StatementRefused), guard.watching():
            connection.execute(marked(sql))
    connection.execute("select run from minuet_run")  # and ours goes on as before


def test_a_statement_without_end_is_cut_off(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS_MAX", 20_000_000)
    guard = StatementGuard(connection)
    endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select max(i) from n"
    with pytest.raises(StatementRefused, match="steps"), guard.watching():
        connection.execute(marked(endless)).fetchall()
    assert connection.execute("select 1").fetchone() == (1,)
