"""An APSW connection with the face of the standard `sqlite3`, as far as the store and its handlers use it.

APSW carries a SQLite of its own, and never opens a file here: what it works on lies in memory.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import apsw

from minuet.stores.sqlite import checkpoint, connection, log
from tests.powercut.disk import SimulatedOs, disk_of
from tests.powercut.vfs import NAME

Arguments = Mapping[str, Any] | Sequence[Any]
_CHANGES_ROWS = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(insert|update|delete|replace)\b", re.IGNORECASE | re.DOTALL)
_NAMES = {**apsw.mapping_result_codes, **apsw.mapping_extended_result_codes}
_KINDS: dict[int, type[sqlite3.Error]] = {
    apsw.SQLITE_INTERNAL: sqlite3.InternalError,
    apsw.SQLITE_NOTFOUND: sqlite3.InternalError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
    apsw.SQLITE_AUTH: sqlite3.DatabaseError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_MISUSE: sqlite3.InterfaceError,
    apsw.SQLITE_RANGE: sqlite3.InterfaceError,
}


class Connection:
    """One connection to a database on a disk in memory. `synchronous`: what is taken in place of FULL."""

    def __init__(self, path: str, *, synchronous: int | None = None) -> None:
        with _TRANSLATED:
            self._apsw = apsw.Connection(path, vfs=NAME)
            self._apsw.execute("pragma locking_mode = exclusive").fetchall()
        disk_of(path)[0].users.append(self.close)
        self._synchronous = synchronous

    @property
    def in_transaction(self) -> bool:
        """See `sqlite3.Connection`."""
        with _TRANSLATED:
            return self._apsw.in_transaction

    @property
    def total_changes(self) -> int:
        """See `sqlite3.Connection`."""
        with _TRANSLATED:
            return self._apsw.total_changes()

    def execute(self, sql: str, arguments: Arguments = ()) -> Cursor:
        """See `sqlite3.Connection`."""
        if self._synchronous is not None and sql.startswith("pragma synchronous"):
            if "=" not in sql:
                return self.cursor().execute("select 2")
            sql = f"pragma synchronous = {self._synchronous}"
        return self.cursor().execute(sql, arguments)

    def cursor(self) -> Cursor:
        """See `sqlite3.Connection`."""
        with _TRANSLATED:
            return Cursor(self._apsw)

    def set_authorizer(self, authorize: Callable[..., int] | None) -> None:
        """See `sqlite3.Connection`."""
        self._apsw.set_authorizer(authorize)

    def set_progress_handler(self, look: Callable[[], int] | None, steps: int) -> None:
        """See `sqlite3.Connection`."""
        self._apsw.set_progress_handler(None if look is None else lambda: bool(look()), steps or 100)

    def close(self) -> None:
        """See `sqlite3.Connection`: what the disk refuses meanwhile is not told, as SQLite does not tell it."""
        with suppress(apsw.IOError, apsw.FullError):
            self._apsw.close(force=True)


class Cursor:
    """One cursor; `row_factory` may be `sqlite3.Row`, and then rows have names."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._apsw = connection.cursor()
        self._connection = connection
        self.row_factory: object = None
        self.rowcount = -1

    def execute(self, sql: str, arguments: Arguments = ()) -> Cursor:
        """See `sqlite3.Cursor`."""
        with _TRANSLATED:
            self._apsw.execute(sql, arguments or None)
        self.rowcount = self._connection.changes() if _CHANGES_ROWS.match(sql) else -1
        return self

    def executemany(self, sql: str, arguments: Iterable[Arguments]) -> Cursor:
        """See `sqlite3.Cursor`."""
        before = self._connection.total_changes()
        with _TRANSLATED:
            self._apsw.executemany(sql, arguments)
        self.rowcount = self._connection.total_changes() - before
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def fetchone(self) -> Any:
        """See `sqlite3.Cursor`."""
        with _TRANSLATED:
            row = self._apsw.fetchone()
        if row is None or self.row_factory is None:
            return row
        return Row(row, tuple(name for name, *_ in self._apsw.get_description()))

    def fetchall(self) -> list[Any]:
        """See `sqlite3.Cursor`."""
        if self.row_factory is not None:
            return list(iter(self.fetchone, None))
        with _TRANSLATED:
            return self._apsw.fetchall()

    def close(self) -> None:
        """See `sqlite3.Cursor`."""
        with _TRANSLATED:
            self._apsw.close(force=True)


class Row:
    """A row whose columns have names, as `sqlite3.Row`."""

    def __init__(self, values: tuple[Any, ...], names: tuple[str, ...]) -> None:
        self._values = values
        self._names = names

    def keys(self) -> list[str]:
        """Give the names."""
        return list(self._names)

    def __getitem__(self, key: int | str) -> Any:
        return self._values[self._names.index(key) if isinstance(key, str) else key]


@contextmanager
def simulated_disks(*, synchronous: int | None = None, passive_pages: int | None = None) -> Iterator[None]:
    """Have the store open files of disks in memory, and none else.

    `synchronous`: 0 or 1 weakens what the store demands. `passive_pages`: how long the log may grow, which is far less
    here, so that a short record has many checkpoints.
    """

    def connect(uri: str) -> sqlite3.Connection:
        return cast("sqlite3.Connection", Connection(unquote(urlsplit(uri).path), synchronous=synchronous))

    with (
        patch.object(connection, "_connect", connect),
        patch.object(checkpoint, "os", system := SimulatedOs()),
        patch.object(log, "os", system),
        patch.object(checkpoint, "PASSIVE_PAGES", passive_pages or checkpoint.PASSIVE_PAGES),
    ):
        yield


class _Translation:
    """Tells an error of APSW as the standard module does."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, apsw.Error):
            return
        if isinstance(error, apsw.BindingsError | apsw.ConnectionClosedError):
            raise sqlite3.ProgrammingError(str(error)) from error
        extended = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
        told = _KINDS.get(extended & 0xFF, sqlite3.OperationalError)(str(error))
        told.sqlite_errorcode = extended
        told.sqlite_errorname = str(_NAMES.get(extended, "SQLITE_ERROR"))
        raise told from error


_TRANSLATED = _Translation()


def file_of(folder: Path) -> Path:
    """Give the database of a disk."""
    return folder / "store.db"
