"""The schema of a SQLite store: made, moved forward, verified; and the epoch, raised by every opening."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from minuet.engine.port import Opened
from minuet.errors import StoreDamaged
from minuet.stores.migration import Migration, find_migrations, pending_migrations

MIGRATIONS = Path(__file__).parent / "migrations"


def open_schema(connection: sqlite3.Connection, queries: Mapping[str, str], store: str) -> Opened:
    """Bring the schema up to this release, raise the epoch, in one transaction.

    Raises:
        StoreDamaged: it is of a later release, or was changed.
    """
    connection.execute(queries["begin"])
    try:
        migrate(connection, queries, find_migrations(MIGRATIONS), store)
        connection.execute(queries["create_incarnation"])
        (epoch,) = connection.execute(queries["raise_epoch"]).fetchone()
        (incarnation,) = connection.execute(queries["incarnation"]).fetchone()
        connection.execute(queries["commit"])
    except BaseException:
        if connection.in_transaction:
            connection.execute(queries["rollback"])
        raise
    return Opened(epoch=epoch, incarnation=incarnation)


def migrate(connection: sqlite3.Connection, queries: Mapping[str, str], known: list[Migration], store: str) -> None:
    """Apply, within the open transaction, the migrations that a store lacks.

    Raises:
        StoreDamaged: it is of a later release, or was changed.
    """
    connection.execute(queries["create_migrations"])
    for migration in pending_migrations(known, connection.execute(queries["migrations"]).fetchall(), store):
        for statement in _statements(migration.sql):
            connection.execute(statement)
        connection.execute(queries["record_migration"], {"number": migration.number, "checksum": migration.checksum})


def verify_schema(connection: sqlite3.Connection, queries: Mapping[str, str], store: str) -> None:
    """See that this release can read a store as it is.

    Raises:
        StoreDamaged: it is no store of Minuet, or one of another release.
    """
    (has_migrations,) = connection.execute(queries["has_migrations"]).fetchone()
    if not has_migrations:
        raise StoreDamaged(f"{store} is no store of Minuet", remedy="Check the store URL", store=store)
    applied = connection.execute(queries["migrations"]).fetchall()
    if pending_migrations(find_migrations(MIGRATIONS), applied, store):
        raise StoreDamaged(
            f"{store} was written by an earlier release",
            remedy="Start the application once, which brings it up to this one",
            store=store,
        )


def _statements(sql: str) -> Iterator[str]:
    """Give the statements of a script; `executescript` would commit before the first."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), "the last statement has no end"
