"""The SQLite store without threads: the real groups, statements and reads, on one connection to a disk in memory.

Tells a witness of each transaction: from which operation of the disk's record it began, and when it was acknowledged.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from random import Random
from typing import Any, Protocol, cast

from minuet.engine.port import Opened, Outcome, Work
from minuet.engine.row import Decision
from minuet.errors import StoreError
from minuet.stores.sqlite.checkpoint import lengthen_log
from minuet.stores.sqlite.connection import open_writer, translate
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.schema import open_schema
from minuet.stores.sqlite.store import SqliteStore
from minuet.stores.sqlite.writer import Writer
from tests.powercut.disk import Disk
from tests.powercut.driver import file_of

TURNS_HELD = 4  # of the loop, less than: how long a group waits for more to come


class Witness(Protocol):
    """Hears of each transaction of a store."""

    def begins(self) -> None:
        """Hear that one begins."""

    def done(self, connection: sqlite3.Connection) -> None:
        """Hear that it is acknowledged."""


class InlineStore(SqliteStore):
    """A store on a disk in memory, all in the thread of the loop. `chance` draws how long a group waits for more."""

    def __init__(self, disk: Disk, chance: Random, witness: Witness) -> None:
        super().__init__(None)
        self.groups: Groups | None = None
        self.path = file_of(disk.folder)
        self._chance = chance
        self._witness = witness

    async def open(self, on_outcomes: Callable[[Sequence[Outcome]], None]) -> Opened:
        """See `SqliteStore.open`."""
        self._witness.begins()
        try:
            connection = open_writer(self.path)
            try:
                opened = open_schema(connection, self._queries, str(self.path))
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            if isinstance(error, sqlite3.Error):
                raise translate(error, self.path) from error
            raise
        self._witness.done(connection)
        lengthen_log(self.path)
        self.groups = Groups(connection, self.path, self._queries, nullcontext())
        self._writer = cast("Writer", _InlineWriter(self.groups, on_outcomes, self._chance, self._witness))
        return opened

    async def close(self) -> None:
        """See `SqliteStore.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()
            writer.close()
        self._pool.shutdown()

    async def _read(self, method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        self._require_open()
        assert self.groups is not None
        self.groups._trust()  # readers have connections of their own, and do not wait for the writer's
        try:
            return method(Reads(self.groups._connection, self._queries), *arguments)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error


class _InlineWriter:
    """Has the groups recorded between two turns of the loop."""

    def __init__(
        self,
        groups: Groups,
        on_outcomes: Callable[[Sequence[Outcome]], None],
        chance: Random,
        witness: Witness,
    ) -> None:
        self._groups = groups
        self._on_outcomes = on_outcomes
        self._chance = chance
        self._witness = witness
        self._waiting = deque[Decision | Work]()

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def submit(self, item: Decision | Work) -> None:
        self._waiting.append(item)
        if len(self._waiting) == 1:
            self._later(self._chance.randrange(TURNS_HELD))

    def perform(self, task: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        self._record()
        self._witness.begins()
        future = Future[Any]()
        try:
            result = self._groups.perform(task)
        except BaseException as error:
            future.set_exception(error)
        else:
            self._witness.done(self._groups._connection)
            future.set_result(result)
        self._groups.consider_checkpoint()
        return future

    def perform_work(self, work: Work) -> Future[Any]:
        return self.perform(lambda _: self._groups.perform_work(work))

    def stop(self) -> None:
        self._record()

    def close(self) -> None:
        self._groups.close()

    def _later(self, turns: int) -> None:
        asyncio.get_running_loop().call_soon(self._later if turns else self._record, *((turns - 1,) if turns else ()))

    def _record(self) -> None:
        while self._waiting:
            group = self._groups.take(self._waiting)
            self._witness.begins()
            outcomes = self._groups.run(group)
            if not all(isinstance(outcome.error, StoreError) for outcome in outcomes):
                self._witness.done(self._groups._connection)
            asyncio.get_running_loop().call_soon(self._on_outcomes, outcomes)
            self._groups.consider_checkpoint()
