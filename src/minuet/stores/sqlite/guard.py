"""What users' statements may do: their own tables, inside the transaction that is ours to begin and end.

An authorizer of SQLite is asked while a statement is prepared, so it sees what a statement does, not how it is
spelled: views, triggers and common table expressions included. It stays installed, since installing one throws all
prepared statements away, and lets everything pass while the statements are ours.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from minuet.errors import StatementRefused

# A statement of a user is prepared under another text than any of ours, so that neither is found in the cache,
# already prepared, in place of the other.
_MARK = "/* handler */ "
# Steps of SQLite's virtual machine that one statement may take, some ten seconds: the writer serves everybody.
STEPS_MAX = 1_000_000_000
_STEPS_A_LOOK = 10_000_000

_REFUSED = {
    sqlite3.SQLITE_TRANSACTION: "the transaction is begun and ended by Minuet",
    sqlite3.SQLITE_SAVEPOINT: "the transaction is managed by Minuet; raise an exception to undo what was written",
    sqlite3.SQLITE_PRAGMA: "a pragma would change the connection for everybody",
    sqlite3.SQLITE_ATTACH: "a handler's transaction is one file",
    sqlite3.SQLITE_DETACH: "a handler's transaction is one file",
    sqlite3.SQLITE_ANALYZE: "statistics would change how Minuet finds its own rows",
    sqlite3.SQLITE_CREATE_TEMP_INDEX: "temporary objects would outlive the handler",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: "temporary objects would outlive the handler",
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: "temporary objects would outlive the handler",
    sqlite3.SQLITE_CREATE_TEMP_VIEW: "temporary objects would outlive the handler",
}


class StatementGuard:
    """Watches the statements of handlers on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._watching = False
        self._looks = 0
        self._refusal: str | None = None
        connection.set_authorizer(self._authorize)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Apply the rules to whatever is executed in this block.

        Raises:
            StatementRefused: a statement was against them.
        """
        self._watching, self._refusal, self._looks = True, None, 0
        self._connection.set_progress_handler(self._look, _STEPS_A_LOOK)
        try:
            yield
        except sqlite3.Error as error:
            if self._refusal is not None:
                raise StatementRefused(
                    f"the statement is refused: {self._refusal}",
                    remedy="Keep to tables of your own, and leave the transaction to Minuet",
                ) from error
            raise
        finally:
            self._watching = False
            self._connection.set_progress_handler(None, 0)

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if not self._watching:
            return sqlite3.SQLITE_OK
        reason = _REFUSED.get(action)
        if reason is None:
            for name in (first, second):
                if name is not None and name.lower().startswith("minuet_"):
                    reason = f"{name} is a table of Minuet, or is named as one"
        if reason is None:
            return sqlite3.SQLITE_OK
        self._refusal = reason
        return sqlite3.SQLITE_DENY

    def _look(self) -> int:
        self._looks += 1
        if self._looks * _STEPS_A_LOOK < STEPS_MAX:
            return 0
        self._refusal = f"it took more than {STEPS_MAX:,} steps, and nobody else can write meanwhile"
        return 1


def marked(sql: str) -> str:
    """Give the text under which a handler's statement is prepared."""
    return _MARK + sql


def adapt(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the arguments of a handler's statement as SQLite keeps them.

    `Decimal` and `UUID` become their text, a `datetime` with an offset and a `date` RFC 3339 text; everything else
    must be None, an int of 64 bits, a float, a str or bytes.

    Raises:
        StatementRefused: another type, a `datetime` without an offset, or a float that is not finite, which SQLite
            would keep as NULL.
    """
    return tuple(value if type(value) in _KEPT else _adapted(place, value) for place, value in enumerate(arguments, 1))


_KEPT = frozenset({int, str, bytes, type(None)})


def _adapted(place: int, value: Any) -> Any:
    match value:
        case float() if math.isfinite(value):
            return float(value)
        case bool() | int():
            return int(value)
        case str():
            return str.__str__(value)
        case bytearray() | memoryview():
            return bytes(value)
        case Decimal() | UUID():
            return str(value)
        case datetime() if value.tzinfo is not None:
            return value.isoformat()
        case datetime():
            raise _unfit(place, "is a datetime without an offset", "Give it a time zone: datetime.now(UTC)")
        case date():
            return value.isoformat()
        case float():
            raise _unfit(place, f"is {value}, which SQLite would keep as NULL", "Give a finite number, or None")
        case _:
            raise _unfit(
                place, f"is a {type(value).__name__}", "Give None, a number, text or bytes; or encode it as JSON"
            )


def _unfit(place: int, what: str, remedy: str) -> StatementRefused:
    return StatementRefused(f"argument {place} of the statement {what}", remedy=remedy, argument=place)
