"""Connections to databases in memory: they have the whole schema at once, and any of their statements can fail."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from minuet.stores.migration import find_migrations
from minuet.stores.query import load_queries
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.schema import MIGRATIONS, migrate

_STATEMENTS_CACHED = 256  # as in a real store


class FragileConnection(sqlite3.Connection):
    """The only connection to a database in memory. It is clear of its thread: there is one only."""

    _failing: tuple[str, int] | None = None

    @contextmanager
    def failing(self, failure: tuple[str, int] | None) -> Iterator[None]:
        """Have the statement of this text fail with this code of SQLite, within the block."""
        self._failing = failure
        try:
            yield
        finally:
            self._failing = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, unless it is the one that fails."""
        if self._failing is not None and self._failing[0] == sql:
            error = sqlite3.OperationalError("simulated")
            error.sqlite_errorcode = self._failing[1]
            error.sqlite_errorname = "simulated"
            raise error
        return super().execute(sql, parameters)

    def become(self, image: bytes) -> None:
        """Take over another state of the whole database.

        By a backup: `deserialize` would leave statements that are prepared as they are, pointing to what is no more.
        """
        with closing(sqlite3.connect(":memory:")) as other:
            other.deserialize(image)
            other.backup(self)


def connect() -> FragileConnection:
    """Give a connection to a new database with the schema of this release, and nothing in it."""
    connection = sqlite3.connect(
        ":memory:", isolation_level=None, cached_statements=_STATEMENTS_CACHED, factory=FragileConnection
    )
    connection.become(_image())
    connection.execute("pragma foreign_keys = 1")
    connection.execute("pragma trusted_schema = 0")
    return connection


@functools.cache
def queries() -> Mapping[str, str]:
    """Give the queries of the SQLite store, read once."""
    return load_queries(MIGRATIONS.parent / "queries")


@functools.cache
def _image() -> bytes:
    connection, named = open_writer(None), queries()
    try:
        connection.execute(named["begin"])
        migrate(connection, named, find_migrations(MIGRATIONS), "the simulated database")
        connection.execute(named["commit"])
        return connection.serialize()
    finally:
        connection.close()
