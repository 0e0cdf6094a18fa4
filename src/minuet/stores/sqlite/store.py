"""The `Store` port over SQLite: one writer thread, a few reading ones, one file.

`SqliteStore` holds the file and writes; `SqliteReader` reads one that nobody holds, for the command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from minuet.engine.port import (
    LetterFilter,
    Opened,
    Outcome,
    RunFilter,
    StoredDelivery,
    StoredRun,
    StreamedDelivery,
    Work,
)
from minuet.engine.row import (
    ActivationRow,
    AttemptRow,
    AuditRow,
    Decision,
    EarlyRow,
    EffectRow,
    EventRow,
    InboxRow,
    Lease,
    PassedRow,
    PlanRow,
    RunRow,
    SendingRow,
    SubscriptionRow,
    TimerRow,
    WaitRow,
)
from minuet.errors import NotFound, StoreUnavailable
from minuet.stores.query import load_queries
from minuet.stores.sqlite.checkpoint import lengthen_log
from minuet.stores.sqlite.connection import open_reader, open_writer, refuse_network, translate
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.lock import StoreLock
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.schema import open_schema, verify_schema
from minuet.stores.sqlite.writer import Writer

READERS_MAX = 3
_QUERIES = Path(__file__).parent / "queries"
# What a run's end removes, the run last.
_FORGOTTEN = (
    "forget_carried",
    "forget_facts",
    "forget_attempts",
    "forget_timers",
    "forget_waits",
    "forget_inbox",
    "forget_runs",
)

P = ParamSpec("P")
R = TypeVar("R")


class _ReadSide:
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

    async def load_run(self, run: int) -> StoredRun | None:
        """Read one run with all its rows, as of the last commit."""
        return await self._read(Reads.load_run, run)

    async def load_runs(self, runs: Sequence[int]) -> list[StoredRun]:
        """Read several runs at once, in the order asked for; missing ones are left out."""
        return await self._read(Reads.load_runs, runs)

    async def find_run(self, workflow: str | None, key: str) -> RunRow | None:
        """Find the newest run of this key (of any workflow where None)."""
        return await self._read(Reads.find_run, workflow, key)

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """List runs, newest first."""
        return await self._read(Reads.list_runs, which)

    async def count_runs(self) -> dict[tuple[str, str], int]:
        """Count unfinished runs by (workflow, state)."""
        return await self._read(Reads.count_runs)

    async def runs_to_load(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs with `load` 1."""
        return await self._read(Reads.runs_to_load, after, limit, shards)

    async def unfinished_runs(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs that have not ended, or have something left to do."""
        return await self._read(Reads.unfinished_runs, after, limit, shards)

    async def timers_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[TimerRow]:
        """Give timers due at or before this instant, earliest first."""
        return await self._read(Reads.timers_due, until_ms, limit, shards)

    async def attempts_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[AttemptRow]:
        """Give attempts in state `waiting` of runs with `load` 0 that are due, earliest first."""
        return await self._read(Reads.attempts_due, until_ms, limit, shards)

    async def waits_for(self, event: str, key: str, shards: Collection[int] | None = None) -> list[WaitRow]:
        """Give the armed waits for this event and key, oldest first."""
        return await self._read(Reads.waits_for, event, key, shards)

    async def kept_events(self, event: str, key: str) -> list[InboxRow]:
        """Give the events of this type and key that nobody has taken, in order of arrival."""
        return await self._read(Reads.kept_events, event, key)

    async def keys_that_meet(
        self, event: str, key: str, limit: int, shards: Collection[int] | None = None
    ) -> list[tuple[str, str]]:
        """Give (event, key), ascending and above these, for which an event is kept and a wait is armed."""
        return await self._read(Reads.keys_that_meet, event, key, limit, shards)

    async def which_meet(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give those of these (event, key) for which an event is kept and a wait is armed."""
        return await self._read(Reads.which_meet, keys)

    async def find_event(self, source: str, message: str) -> InboxRow | None:
        """Find an event by its identity."""
        return await self._read(Reads.find_event, source, message)

    async def expired_events(self, until_ms: int, limit: int) -> list[InboxRow]:
        """Give kept events whose time is over."""
        return await self._read(Reads.expired_events, until_ms, limit)

    async def parked(self, limit: int) -> tuple[list[tuple[RunRow, AttemptRow]], list[RunRow], list[InboxRow]]:
        """Give what needs a person: parked attempts with their runs, quarantined runs, parked events."""
        return await self._read(Reads.parked, limit)

    async def subscriptions(self) -> list[SubscriptionRow]:
        """Give all subscriptions that were ever heard of."""
        return await self._read(Reads.subscriptions)

    async def events_after(self, event: str, after: int, limit: int) -> list[EventRow]:
        """Give published events of this type above this entry, in the order of their commits."""
        return await self._read(Reads.events_after, event, after, limit)

    async def events_unapplied(self, subscription: int, event: str, after: int, limit: int) -> list[EventRow]:
        """Give what this subscription has neither applied nor a delivery for."""
        return await self._read(Reads.events_unapplied, subscription, event, after, limit)

    async def events_between(self, event: str, first: int, last: int, limit: int) -> list[EventRow]:
        """Give published events of this type from one entry to another, both included."""
        return await self._read(Reads.events_between, event, first, last, limit)

    async def last_entry(self) -> int:
        """Give the entry of the newest event; 0 if there never was one."""
        return await self._read(Reads.last_entry)

    async def newest_of(self, event: str) -> int:
        """Give the entry of the newest event of this type; 0 if there is none."""
        return await self._read(Reads.newest_of, event)

    async def entry_before(self, at_ms: int) -> int:
        """Give the entry of the last event that came before this instant; 0 if there is none."""
        return await self._read(Reads.entry_before, at_ms)

    async def find_published(self, source: str | None, message: str) -> EventRow | None:
        """Find a published event by its identity; by the message alone where the source is None."""
        return await self._read(Reads.find_published, source, message)

    async def published_by(self, prefix: str) -> list[EventRow]:
        """Give published events whose ids begin so (at least one character), in the order of their commits."""
        return await self._read(Reads.published_by, prefix)

    async def previous_of(self, events: Sequence[EventRow]) -> list[int]:
        """Give the entry of the event before each of these, of its source, type and key; 0: there is none (left)."""
        return await self._read(Reads.previous_of, events)

    async def deliveries_of(self, subscription: int, entries: Sequence[int]) -> list[StoredDelivery]:
        """Give the deliveries of these entries, in any state; those that have none are left out."""
        return await self._read(Reads.deliveries_of, subscription, entries)

    async def deliveries_streamed(self, subscription: int) -> list[StreamedDelivery]:
        """Give what is recorded of events from elsewhere: those that have a `sequence`."""
        return await self._read(Reads.deliveries_streamed, subscription)

    async def seen(self, subscription: int, streams: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Give (source, key, sequence) of those of these (source, key) of which something was applied, or left."""
        return await self._read(Reads.seen, subscription, streams)

    async def deliveries_due(self, subscription: int, until_ms: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `waiting` that are due, earliest first."""
        return await self._read(Reads.deliveries_due, subscription, until_ms, limit)

    async def next_delivery_due(self, subscription: int) -> int | None:
        """Give when the next waiting delivery is due."""
        return await self._read(Reads.next_delivery_due, subscription)

    async def deliveries_held(self, subscription: int, key: str, limit: int) -> list[StoredDelivery]:
        """Give deliveries of a key in state `held`, in the order of publication."""
        return await self._read(Reads.deliveries_held, subscription, key, limit)

    async def deliveries_open(self, subscription: int) -> list[tuple[str, int, str]]:
        """Give (key, entry, state) of what is not `held`, and of the first `held` one of each key."""
        return await self._read(Reads.deliveries_open, subscription)

    async def deliveries_running(self, subscription: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `running`."""
        return await self._read(Reads.deliveries_running, subscription, limit)

    async def dead_letters(self, which: LetterFilter) -> list[StoredDelivery]:
        """List deliveries that are `dead` or `skipped`, oldest first."""
        return await self._read(Reads.dead_letters, which)

    async def log_after(self, after: int, limit: int) -> list[EventRow]:
        """Give published events of any type above this entry, in the order of their commits."""
        return await self._read(Reads.log_after, after, limit)

    async def sending(self, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that the broker has not confirmed, in the order of their commits."""
        return await self._read(Reads.sending, after, limit)

    async def early(self, digest: str | None, limit: int) -> list[EarlyRow]:
        """Give messages that came before this plan (before any, where None), oldest first."""
        return await self._read(Reads.early, digest, limit)

    async def runs_of_others(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Give (run, home), ascending above `after`, of unfinished runs that end elsewhere."""
        return await self._read(Reads.runs_of_others, after, limit)

    async def activations(self) -> list[ActivationRow]:
        """Give who is to know which plan, and who has said so."""
        return await self._read(Reads.activations)

    async def find_effect(self, action: str, key: str) -> EffectRow | None:
        """Find the effect of an action for a business key."""
        return await self._read(Reads.find_effect, action, key)

    async def plans(self) -> list[PlanRow]:
        """Give all plans."""
        return await self._read(Reads.plans)

    async def open_digests(self) -> dict[str, int]:
        """Count unfinished runs by the digest of their plan."""
        return await self._read(Reads.open_digests)

    async def passed(self, shards: Collection[int], limit: int) -> list[PassedRow]:
        """Give messages that were left for the owners of these shards and have no answer, oldest first."""
        return await self._read(Reads.passed, shards, limit)

    async def answer_of(self, message: str) -> str | None:
        """Give what the owner has said to a message that was left for it; None: nothing yet."""
        return await self._read(Reads.answer_of, message)

    async def audit(self, limit: int) -> list[AuditRow]:
        """Give the newest audit rows, newest first."""
        return await self._read(Reads.audit, limit)

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


class SqliteStore(_ReadSide):
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
        ids = {"runs": json.dumps(runs)}  # what has ended stays ended: nothing can have happened to them meanwhile

        def remove(connection: sqlite3.Connection) -> int:
            return [connection.execute(self._queries[query], ids).rowcount for query in _FORGOTTEN][-1]

        return await asyncio.wrap_future(self._open_writer().perform(remove))

    async def forget_events(self, until_entry: int, limit: int) -> int:
        """Remove events that every active subscription has passed and no delivery needs; give how many."""
        which = {"until": until_entry, "limit": limit}

        def remove(connection: sqlite3.Connection) -> int:
            connection.execute(self._queries["forget_discarded"], which)
            return connection.execute(self._queries["forget_events"], which).rowcount

        return await asyncio.wrap_future(self._open_writer().perform(remove))

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


class SqliteReader(_ReadSide):
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
