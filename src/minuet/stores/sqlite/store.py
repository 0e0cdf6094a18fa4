"""The `Store` port over SQLite: one writer thread, a few reading ones, one file.

`SqliteStore` holds the file and writes; `SqliteReader` reads one that nobody holds, for the command line.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from minuet.engine.port import Opened, Outcome, Work
from minuet.engine.row import Decision, Lease
from minuet.errors import NotFound, StoreUnavailable
from minuet.stores.query import load_queries
from minuet.stores.sqlite.checkpoint import lengthen_log
from minuet.stores.sqlite.connection import open_reader, open_writer, refuse_network, translate
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.lock import StoreLock
from minuet.stores.sqlite.read_side import ReadSide
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.retention import forget_events, forget_runs
from minuet.stores.sqlite.schema import open_schema, verify_schema
from minuet.stores.sqlite.writer import Writer

READERS_MAX = 3
_QUERIES = Path(__file__).parent / "queries"

P = ParamSpec("P")
R = TypeVar("R")


class _ThreadedReads(ReadSide):
    """The reading half of the port, on threads with connections of their own.

    A database in memory has one connection, which all share in turn.
    """

    def __init__(self, file: Path | None, queries: Mapping[str, str]) -> None:
        self._file = file
        self._queries = queries
        self._turn: AbstractContextManager[Any] = nullcontext() if file else threading.Lock()
        self._shared: sqlite3.Connection | None = None
        self._pool = ThreadPoolExecutor(max_workers=READERS_MAX, thread_name_prefix="minuet-reader")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def _read(self, method: Callable[Concatenate[Reads, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        assert not named, "reads take arguments by place"
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._perform, method, arguments)

    def _require_open(self) -> None:
        raise NotImplementedError

    def _perform(self, method: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        with self._turn:
            try:
                return method(self._reads(), *arguments)
            except sqlite3.Error as error:
                self._own.reads = None  # a connection that failed is not trusted again; `close` closes it
                raise translate(error, self._file) from error

    def _reads(self) -> Reads:
        reads: Reads | None = getattr(self._own, "reads", None)
        if reads is None:
            connection = self._shared
            if connection is None:
                assert self._file is not None, "what is in memory has one connection"
                connection = open_reader(self._file)
                self._opened.append(connection)
            reads = self._own.reads = Reads(connection, self._queries)
        return reads

    def _close_readers(self) -> None:
        self._pool.shutdown(wait=True)
        for connection in self._opened:
            connection.close()
        self._opened.clear()


class SqliteStore(_ThreadedReads):
    """A store in one SQLite file, or in memory where `file` is None; users keep their own tables beside ours.

    To be opened once, in a running event loop; outcomes arrive there. One process holds a file at a time.
    """

    def __init__(self, file: Path | None = None) -> None:
        super().__init__(file.resolve() if file else None, load_queries(_QUERIES))
        self._lock = StoreLock(self._file) if self._file else None
        self._writer: Writer | None = None
        self._closing: asyncio.Future[None] | None = None
        self._left_by_fork = False

    async def open(self, on_outcomes: Callable[[Sequence[Outcome]], None]) -> Opened:
        """Open for writing; see `Store.open`.

        Raises:
            AlreadyOpen: another process holds it; names that process.
            StoreDamaged: this is not a store of Minuet, or one of a later release.
            SettingsError: it is on a network file system.
        """
        assert self._writer is None, "a store is opened once"
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._pool, self._open, loop, on_outcomes)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            await self.close()
            raise

    async def close(self) -> None:
        """Commit what was submitted, then close. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().run_in_executor(None, self._close)
        await asyncio.shield(self._closing)

    def submit(self, decision: Decision) -> None:
        """Have a decision recorded with the next group. Returns at once."""
        self._open_writer().submit(decision)

    def submit_work(self, work: Work) -> None:
        """Have a transactional handler performed, and what it decides recorded, with the next group."""
        self._open_writer().submit(work)

    @property
    def backlog(self) -> int:
        """Give how many decisions and works wait for the next group."""
        return 0 if self._writer is None else self._writer.backlog

    async def claim(self, owner: str, wanted: int, ttl_ms: int) -> list[Lease]:
        """Give nothing: who holds the file owns everything."""
        return []

    async def renew(self, owner: str, held: Sequence[Lease], ttl_ms: int) -> list[Lease]:
        """Give what was given: nobody else can take it."""
        return list(held)

    async def give_back(self, owner: str, held: Sequence[Lease]) -> None:
        """Do nothing: nobody else could have it."""

    async def time_ms(self) -> int:
        """Give the time of this machine."""
        return await self._read(Reads.time_ms)

    async def owners(self) -> dict[str, int]:
        """Give nobody: there are no shards."""
        return {}

    def on_news(self, call: Callable[[Collection[int]], None] | None) -> None:
        """Do nothing: there are no other participants to leave anything."""

    def publish_address(self, address: str | None) -> None:
        """Tell other processes, by the lock file, where the API of this one listens."""
        self._open_writer()
        if self._lock:
            self._lock.publish_address(address)

    async def forget(self, ended_before_ms: int, limit: int) -> int:
        """Remove ended runs with all their rows, oldest first, in one transaction; give how many."""
        runs = await self._read(Reads.runs_to_forget, ended_before_ms, limit)
        if not runs:
            return 0
        return await asyncio.wrap_future(self._open_writer().perform(lambda c: forget_runs(c, self._queries, runs)))

    async def forget_events(self, until_entry: int, limit: int) -> int:
        """Remove events that every active subscription has passed and no delivery needs; give how many."""
        return await asyncio.wrap_future(
            self._open_writer().perform(lambda c: forget_events(c, self._queries, until_entry, limit))
        )

    async def setup(self, work: Work) -> None:
        """Perform a work of its own group, for services that create their tables."""
        await asyncio.wrap_future(self._open_writer().perform_work(work))

    def _open(self, loop: asyncio.AbstractEventLoop, on_outcomes: Callable[[Sequence[Outcome]], None]) -> Opened:
        if self._lock and self._file:
            refuse_network(self._file)
            self._lock.acquire()
        try:
            connection = open_writer(self._file)
            try:
                opened = open_schema(connection, self._queries, str(self._file or "the store in memory"))
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            if self._lock:
                self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise translate(error, self._file) from error
            raise
        if self._file is None:
            self._shared = connection
        else:
            lengthen_log(self._file)
        self._writer = Writer(Groups(connection, self._file, self._queries, self._turn), loop, on_outcomes)
        self._writer.start()
        _OPEN.add(self)
        return opened

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()
        self._close_readers()  # before the writer: the last one to close checkpoints, and readers must not
        if writer is not None:
            writer.close()
        if self._lock:
            self._lock.release()
        _OPEN.discard(self)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            self._require_open()
        assert self._writer is not None
        return self._writer

    def _require_open(self) -> None:
        if self._left_by_fork:
            raise StoreUnavailable(
                "this process was forked from one that has the store open; nothing was recorded",
                remedy="Open stores after a fork, or start processes with spawn",
            )
        if self._writer is None:
            raise StoreUnavailable("the store is not open; nothing was recorded", remedy="Open it first")

    def _leave_in_child(self) -> None:
        """Let go of everything in a forked child: it has no threads, and must not touch its parent's file."""
        self._left_by_fork = True
        _LEFT.append((self._writer, self._opened, self._shared, self._pool))
        self._writer, self._opened, self._shared = None, [], None
        if self._lock:
            self._lock.forget()


class SqliteReader(_ThreadedReads):
    """A store that nobody holds, opened to be read only. SQLite keeps files of its own beside it meanwhile."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.resolve(), load_queries(_QUERIES))
        self._is_open = False

    async def open(self) -> None:
        """Open for reading.

        Raises:
            NotFound: there is no such file.
            StoreDamaged: this is not a store of Minuet, or one of another release.
        """
        self._is_open = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._verify)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._is_open = False
        await asyncio.get_running_loop().run_in_executor(None, self._close_readers)

    def _verify(self) -> None:
        assert self._file is not None
        if not self._file.exists():
            raise NotFound(f"there is no store at {self._file}", remedy="Check the store URL", store=str(self._file))
        try:
            verify_schema(self._reads().connection, self._queries, str(self._file))
        except sqlite3.Error as error:
            raise translate(error, self._file) from error

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the store is not open", remedy="Open it first")


_OPEN: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
# Connections of the parent, in a forked child: closing them there would disturb the parent, so they are kept.
_LEFT: list[Any] = []


def _leave_stores_in_child() -> None:
    for store in list(_OPEN):
        store._leave_in_child()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_leave_stores_in_child)
