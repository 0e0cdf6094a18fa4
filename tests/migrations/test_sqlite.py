"""A store that was brought up step by step is the same as one that was made today."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import minuet.stores.sqlite.store as sqlite_store
from minuet.engine.row import Lease
from minuet.errors import StoreDamaged
from minuet.stores.migration import Migration, find_migrations
from minuet.stores.query import load_queries
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.leases import Leases
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.rows import RowWriter
from minuet.stores.sqlite.schema import MIGRATIONS, migrate, open_schema, verify_schema
from minuet.testing.store_desk import start

QUERIES = load_queries(Path(sqlite_store.__file__).parent / "queries")
# Released migrations are never edited: what they made is in the files of users. A new one gets a line here.
RELEASED: dict[int, str] = {}
NEXT = len(find_migrations(MIGRATIONS)) + 1


def schema(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return connection.execute("select type, name, sql from sqlite_master order by type, name").fetchall()


def migrated(*steps: list[Migration]) -> sqlite3.Connection:
    connection = open_writer(None)
    for known in steps:
        connection.execute("begin")
        migrate(connection, QUERIES, known, "memory")
        connection.execute("commit")
    return connection


def test_a_fresh_schema_equals_a_migrated_one() -> None:
    known = find_migrations(MIGRATIONS)
    fresh = migrated(known)
    stepwise = migrated(*([*known[:n]] for n in range(1, len(known) + 1)))
    assert schema(fresh) == schema(stepwise)
    again = migrated(known, known)
    assert schema(again) == schema(fresh)
    for connection in (fresh, stepwise, again):
        connection.close()


def test_runs_of_an_earlier_schema_are_read_and_keep_their_keys() -> None:
    known = find_migrations(MIGRATIONS)
    connection = migrated(known[:1])
    columns = "run, workflow, digest, key, state, load, paused, dirty, started_at_ms"
    connection.execute(f"insert into minuet_run ({columns}) values (7, 'w', 'd', 'k', 'running', 1, 0, 0, 5)")
    connection.execute("begin")
    migrate(connection, QUERIES, known, "memory")
    connection.execute("commit")
    stored = Reads(connection, QUERIES).load_run(7)
    assert stored is not None
    assert (stored.run.key, stored.run.home, stored.carried) == ("k", None, [])
    rows = RowWriter(connection, QUERIES)
    rows.write([start(8, workflow="w", key="k", home="elsewhere")])
    with pytest.raises(sqlite3.IntegrityError):
        rows.write([start(9, workflow="w", key="k")])
    connection.close()


def test_what_the_release_before_reads_and_writes_is_as_it_was() -> None:
    known = find_migrations(MIGRATIONS)
    before, after = migrated(known[:-1]), migrated(known)
    assert {row for row in schema(before) if row[0] != "table"} <= set(schema(after))
    for kind, table, _ in schema(before):
        if kind == "table":
            then, now = columns(before, table), columns(after, table)
            assert then.items() <= now.items()
            assert all(is_optional for name, (_, is_optional) in now.items() if name not in then)
    before.close()
    after.close()


def columns(connection: sqlite3.Connection, table: str) -> dict[str, tuple[str, bool]]:
    """Give the type of each column of a table, and whether it may be left out."""
    rows = connection.execute('select name, type, "notnull", dflt_value from pragma_table_info(?)', (table,))
    return {name: (type_, not is_needed or default is not None) for name, type_, is_needed, default in rows}


def test_owners_and_what_they_leave_each_other_come_to_a_store_of_before() -> None:
    known = find_migrations(MIGRATIONS)
    connection = migrated(known[:3])
    RowWriter(connection, QUERIES).write([start(7, key="k")])
    connection.execute("begin")
    migrate(connection, QUERIES, known, "memory")
    connection.execute("commit")
    assert Leases(connection, QUERIES).claim("a", 9, 1_000, 5, 2) == [Lease(0, 1), Lease(1, 1)]
    reads = Reads(connection, QUERIES)
    assert (reads.passed([0, 1], 9), reads.runs_to_load(0, 9, [0])) == ([], [7])
    connection.close()


def test_released_migrations_are_as_they_were_released() -> None:
    known = {migration.number: migration.checksum for migration in find_migrations(MIGRATIONS)}
    assert {number: known.get(number) for number in RELEASED} == RELEASED


def test_a_migration_that_fails_leaves_the_store_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = open_writer(None)
    open_schema(connection, QUERIES, "memory")
    before = schema(connection)
    broken = Migration(number=NEXT, sql="create table minuet_new (n integer) strict;\nselect nonsense;\n", checksum="x")
    monkeypatch.setattr(
        "minuet.stores.sqlite.schema.find_migrations", lambda folder: [*find_migrations(folder), broken]
    )
    with pytest.raises(sqlite3.OperationalError):
        open_schema(connection, QUERIES, "memory")
    assert not connection.in_transaction
    assert schema(connection) == before
    connection.close()


def test_a_store_that_lacks_a_migration_is_not_read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = open_writer(None)
    open_schema(connection, QUERIES, "memory")
    verify_schema(connection, QUERIES, "memory")
    later = Migration(number=NEXT, sql="create table minuet_new (n integer) strict;", checksum="x")
    monkeypatch.setattr("minuet.stores.sqlite.schema.find_migrations", lambda folder: [*find_migrations(folder), later])
    with pytest.raises(StoreDamaged, match="earlier release"):
        verify_schema(connection, QUERIES, "memory")
    connection.close()


def test_every_table_of_ours_is_strict_and_bears_our_name() -> None:
    connection = migrated(find_migrations(MIGRATIONS))
    tables = [(name, sql) for kind, name, sql in schema(connection) if kind == "table"]
    tables = [(name, sql) for name, sql in tables if not name.startswith("sqlite_")]  # SQLite's own
    assert len(tables) > 8
    for name, sql in tables:
        assert name.startswith("minuet_")
        assert "strict" in sql
    connection.close()
