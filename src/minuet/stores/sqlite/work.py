"""A handler's transaction: driven statement by statement, in a savepoint of the group that it is committed with.

Works of a group are performed one after another; while one has begun and not ended, nobody else writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from minuet.engine.port import Statement, Work
from minuet.engine.row import Decision
from minuet.errors import MinuetError, StatementError, StatementFailed
from minuet.stores.sqlite.guard import StatementGuard, adapt, marked
from minuet.stores.sqlite.leases import Fence
from minuet.stores.sqlite.rows import RowWriter, refusal

# A handler that repeats a failing statement for ever would stop everybody.
STATEMENTS_MAX = 100_000
# Errors of one statement; any other error of SQLite is about the store, and sinks the group.
_OWN_CODES = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_SCHEMA,
    }
)
_CONSTRAINTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "unique",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign-key",
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not-null",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
    3091: "type",  # SQLITE_CONSTRAINT_DATATYPE, which Python's module does not name
}


class TransactionLost(Exception):
    """The whole transaction was undone by one statement of the work that was being performed.

    `keeps` is False by then, and the work has ended; only `WorkPerformer.record` is left to be called.
    """


class WorkPerformer:
    """Performs works on the connection that writes, within its transaction."""

    def __init__(
        self, connection: sqlite3.Connection, queries: Mapping[str, str], rows: RowWriter, fence: Fence
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._rows = rows
        self._fence = fence
        self._guard = StatementGuard(connection)

    def perform(self, work: Work) -> Decision | None:
        """Drive a work to its end, and record what it decides; a failed one leaves nothing behind.

        Raises:
            Contradiction, KeyConflict, Conflict, StaleOwner: its decision cannot be recorded; all of it is undone.
            TransactionLost: one of its statements undid the whole transaction.
            sqlite3.Error: the store is in trouble.
        """
        self._execute("open_savepoint")
        keeps = self._drive(work)
        if not keeps:
            self._execute("undo_savepoint")
        return self._finish(work, keeps=keeps)

    def record(self, work: Work) -> Decision | None:
        """Record what a work decides that has ended and whose writes are gone already; raises as `perform`."""
        self._execute("open_savepoint")
        return self._finish(work, keeps=False)

    def _finish(self, work: Work, *, keeps: bool) -> Decision | None:
        """Write the decision within the open savepoint, and release it."""
        try:
            decision = work.finish(undo=not keeps)
            if decision is not None:
                self._fence.check(decision)
                self._write(decision)
        except BaseException:
            if self._connection.in_transaction:
                self._execute("undo_savepoint")
                self._execute("release_savepoint")
            raise
        self._execute("release_savepoint")
        return decision

    def _write(self, decision: Decision) -> None:
        try:
            self._rows.write([decision])
        except (sqlite3.IntegrityError, *UNFIT) as error:
            # Whatever is there already was recorded by a transaction that also kept this work's writes, or by
            # another answer: either way these writes must go. Only then is an equal fact no news.
            self._execute("undo_savepoint")
            write_again(self._rows, decision, error)

    def _drive(self, work: Work) -> bool:
        """Run a work's statements until it ends; tell whether what they wrote stands."""
        try:
            statement: Statement | None = work.first
            for _ in range(STATEMENTS_MAX):
                if statement is None:
                    return work.keeps_writes()
                try:
                    answer = self._answer(statement)
                except StatementError as error:
                    if not self._connection.in_transaction:
                        self._wind_up(work, error)
                        raise TransactionLost from error
                    statement = work.fail(error)
                else:
                    statement = work.next(answer)
            return False
        except (sqlite3.Error, TransactionLost):
            raise
        except BaseException:  # noqa: BLE001 - a handler's failure undoes its own part, and says so in `finish`
            return False

    def _wind_up(self, work: Work, error: StatementError) -> None:
        """Let a work end whose transaction is gone: every further statement fails in the same way."""
        try:
            for _ in range(STATEMENTS_MAX):
                if work.fail(error) is None:
                    return
        except BaseException:  # noqa: BLE001, S110 - as above; there is nothing left to be undone
            pass

    def _answer(self, statement: Statement) -> Any:
        """Execute one statement of a handler.

        Raises:
            StatementError: it did nothing.
        """
        many = statement.kind == "executemany"
        arguments: Any = [adapt(tuple(row)) for row in statement.arguments] if many else adapt(statement.arguments)
        cursor = self._connection.cursor()
        try:
            with self._guard.watching():
                changed = self._connection.total_changes
                (cursor.executemany if many else cursor.execute)(marked(statement.sql), arguments)
                if statement.kind.startswith("fetch"):
                    cursor.row_factory = sqlite3.Row
                    return cursor.fetchall() if statement.kind == "fetch" else self._first(cursor)
                cursor.fetchall()  # a statement with `returning` has done all its work only then
                return self._count(cursor, changed)
        except sqlite3.Error as error:
            raise _failure(error) from error
        except (sqlite3.Warning, *UNFIT) as error:
            raise StatementFailed(f"the statement cannot be executed: {error}") from error
        finally:
            cursor.close()

    def _first(self, cursor: sqlite3.Cursor) -> Any:
        row = cursor.fetchone()
        cursor.fetchall()
        return row

    def _count(self, cursor: sqlite3.Cursor, changed_before: int) -> int:
        """Give the number of rows changed, also where Python does not see that the statement writes (`with …`)."""
        if cursor.rowcount >= 0:
            return cursor.rowcount
        if self._connection.total_changes == changed_before:
            return 0
        (count,) = self._connection.execute(self._queries["rows_changed"]).fetchone()
        return int(count)

    def _execute(self, query: str) -> None:
        self._connection.execute(self._queries[query])


# What Python raises for values that SQLite cannot take: beyond 64 bits, lone surrogates, unknown types, too long.
UNFIT = (OverflowError, TypeError, ValueError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError)


def write_again(rows: RowWriter, decision: Decision, error: Exception) -> None:
    """Write a decision whose rows could not be written at once, leaving out what is there already.

    Raises:
        MinuetError: it cannot be recorded; says why.
    """
    if not isinstance(error, sqlite3.IntegrityError):
        raise refusal(error, decision) from error
    try:
        rows.write([rows.unknown_part(decision)])
    except (sqlite3.IntegrityError, *UNFIT) as other:
        raise refusal(other, decision) from other


def _failure(error: sqlite3.Error) -> MinuetError | sqlite3.Error:
    """Tell what is wrong with a statement from what is wrong with the store."""
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is None:  # Python's own: more than one statement, a wrong number of arguments
        return StatementFailed(f"the statement cannot be executed: {error}")
    if extended & 0xFF not in _OWN_CODES:
        return error
    constraint = None
    if extended & 0xFF == sqlite3.SQLITE_CONSTRAINT:
        constraint = _CONSTRAINTS.get(extended, "other")
    return StatementFailed(f"the statement failed: {error}", constraint=constraint)
