"""The writer: one thread with the one connection that writes and checkpoints; groups share a transaction and a sync.

Whatever was submitted when a group begins is in it, up to its bounds; what comes meanwhile goes into the next one.
So an idle writer commits a lone decision at once, and a busy one makes its groups larger by itself: nobody waits
for a group to fill. A group is plain decisions, noun by noun in few statements, then works one after another, each
in a savepoint, then one commit. Only then are outcomes told, all in one call of the loop.

A group whose decisions violate a constraint is undone and done again, with a savepoint for each decision, so that
only the culprit is refused. Anything else that fails sinks the group: nothing of it is recorded, or it is unknown
whether it is. A connection whose commit failed is not trusted again: a sync that failed once may report success when it
is repeated, while the kernel has dropped the pages. It is closed, and a new one has to checkpoint the whole log,
that is to write and sync it again from what can be read of it, before anything is acknowledged.

The interpreter lock is the one thing that the writer shares with the loop. A loop that is never idle, and whose turns
are shorter than the switch interval, keeps it for ever: each turn gives the lock back for an instant, too short for a
thread to wake up in, and long enough to make its wait start anew (tried: no commit in seconds, at every interval
down to 0.1 ms). So the loop looks after the writer now and then, and steps aside when no group came to its end.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from minuet.engine.port import Outcome, Work
from minuet.engine.row import Decision
from minuet.errors import MinuetError, StatementFailed, StoreError, StoreFull, StoreUnavailable
from minuet.stores.sqlite.checkpoint import Checkpointer, checkpoint_all
from minuet.stores.sqlite.connection import open_writer, translate
from minuet.stores.sqlite.rows import RowWriter
from minuet.stores.sqlite.work import UNFIT, TransactionLost, WorkPerformer, write_again

# A group, at most. Decisions: some 20 ms of writing. Works: a handler may take its time between two statements; with W1
# and an insert in each step, groups of 32, 128 and 512 gave 4,100, 5,200 and 5,450 runs/s.
GROUP_DECISIONS_MAX = 2_048
GROUP_WORKS_MAX = 128
# How often the loop looks after a writer that has something to do, and how long it steps aside for it at most.
LOOK_S = 0.01
STEP_ASIDE_S = 0.001
# After a deferred constraint failed a commit, that many works are committed one by one, to find whose it is.
WORKS_ALONE = 64


class _Task:
    """Something to be done in a transaction of its own, whose caller waits for the result."""

    __slots__ = ("future", "perform")

    def __init__(self, perform: Callable[[sqlite3.Connection], Any]) -> None:
        self.perform = perform
        self.future: Future[Any] = Future()


class Writer:
    """Runs the groups of one store, from `start` to `stop`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path | None,
        queries: Mapping[str, str],
        turn: AbstractContextManager[Any],
        loop: asyncio.AbstractEventLoop,
        on_outcomes: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._file = file
        self._queries = queries
        self._turn = turn  # held during a group where readers share the connection
        self._loop = loop
        self._on_outcomes = on_outcomes
        self._waiting: deque[Decision | Work | _Task] = deque()
        # Locked while there is nothing to do. A bare lock wakes a thread quicker than a condition or a queue.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._told = threading.Lock()  # unlocked by each group that has been told
        self._told.acquire()
        self._groups = 0
        self._is_working = False
        self._is_looked_after = False
        self._stopping = False
        self._works_alone = 0
        self._use(connection)
        self._thread = threading.Thread(target=self._run, name="minuet-writer", daemon=True)

    @property
    def backlog(self) -> int:
        """Give how much waits for the next group."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, item: Decision | Work) -> None:
        """Have a decision or work recorded with the next group; to be called in the thread of the loop."""
        self._waiting.append(item)
        self._ring()
        if not self._is_looked_after:
            self._is_looked_after = True
            self._loop.call_later(LOOK_S, self._look_after, self._groups)

    def perform(self, task: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Have something done on the connection that writes, in a transaction of its own."""
        item = _Task(task)
        self._waiting.append(item)
        self._ring()
        return item.future

    def perform_work(self, work: Work) -> Future[Any]:
        """Have a work performed in a group of its own; its failure is the caller's."""

        def task(_: sqlite3.Connection) -> None:
            try:
                self._works.perform(work)
            except TransactionLost:
                self._execute("begin")
                self._works.record(work)

        return self.perform(task)

    def stop(self) -> None:
        """Commit what was submitted, and end the thread. Blocks; the connection stays open."""
        self._stopping = True
        self._ring()
        self._thread.join()

    def close(self) -> None:
        """Close the connection, which checkpoints the log. Readers are closed before."""
        self._connection.close()

    def abandon(self) -> list[object]:
        """Give what must stay untouched in a forked child: closing a connection there would disturb its parent."""
        return [self._connection, self._works, self._rows]

    def _ring(self) -> None:
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread rang in between
                self._bell.release()

    def _look_after(self, groups_before: int) -> None:
        """See, in the loop, whether the writer gets on; step aside if it does not."""
        if not self._is_working and not self._waiting:
            self._is_looked_after = False
            return
        if self._groups == groups_before:
            self._told.acquire(blocking=False)
            self._told.acquire(timeout=STEP_ASIDE_S)
        self._loop.call_later(LOOK_S, self._look_after, self._groups)

    def _run(self) -> None:
        while True:
            self._is_working = False
            self._bell.acquire()
            self._is_working = True
            while self._waiting:
                item = self._waiting[0]
                if isinstance(item, _Task):
                    self._waiting.popleft()
                    self._run_task(item)
                else:
                    self._tell(self._run_group(self._take()))
                self._groups += 1
                if self._told.locked():
                    self._told.release()
                self._consider_checkpoint()
            if self._stopping:
                return

    def _take(self) -> list[Decision | Work]:
        """Take the next group from what waits, in order."""
        works_max = GROUP_WORKS_MAX
        if self._works_alone:
            works_max = 1
        waiting, group = self._waiting, list[Decision | Work]()
        decisions = works = 0
        while waiting:
            item = waiting[0]
            if isinstance(item, Decision):
                if decisions == GROUP_DECISIONS_MAX:
                    break
                decisions += 1
            elif isinstance(item, _Task) or works == works_max:
                break
            else:
                works += 1
            group.append(item)
            waiting.popleft()
        if self._works_alone:
            self._works_alone -= works
        return group

    def _tell(self, outcomes: list[Outcome]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told; what is recorded stays
            self._loop.call_soon_threadsafe(self._on_outcomes, outcomes)

    def _run_group(self, group: list[Decision | Work]) -> list[Outcome]:
        with self._turn:
            try:
                self._trust()
                return self._record(group)
            except sqlite3.Error as error:
                sunk = self._sink(error)
            except StoreError as error:
                sunk = error
            except BaseException as error:  # noqa: BLE001 - a mistake of ours ends this group, not the writer
                self._give_up()
                sunk = StoreUnavailable(
                    f"the writer failed: {error!r}", remedy="This is a mistake in Minuet; please report it"
                )
                sunk.__cause__ = error
        return [_outcome(item, None, sunk) for item in group]

    def _run_task(self, task: _Task) -> None:
        if not task.future.set_running_or_notify_cancel():
            return
        with self._turn:
            try:
                self._trust()
                self._execute("begin")
                result = task.perform(self._connection)
                self._execute("commit")
            except sqlite3.IntegrityError as error:
                self._roll_back()
                task.future.set_exception(_breach(error))
            except sqlite3.Error as error:
                task.future.set_exception(self._sink(error))
            except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for it
                self._roll_back()
                task.future.set_exception(error)
            else:
                task.future.set_result(result)

    def _record(self, group: list[Decision | Work]) -> list[Outcome]:
        """Record a group in one transaction; give its outcomes in order."""
        decisions = [item for item in group if isinstance(item, Decision)]
        works = [item for item in group if not isinstance(item, Decision)]
        self._execute("begin")
        refused = self._write(decisions)
        performed: dict[int, Outcome] = {}
        for work in works:
            try:
                try:
                    decision = self._works.perform(work)
                except TransactionLost:
                    refused = self._write_anew(decisions)
                    performed = {key: _undone(outcome.work) for key, outcome in performed.items()}
                    decision = self._works.record(work)
                performed[id(work)] = _outcome(work, decision, None)
            except sqlite3.Error:
                raise
            except Exception as error:  # noqa: BLE001 - refused, or a mistake in its `finish`: undone, and told
                performed[id(work)] = _outcome(work, None, error)
        try:
            self._execute("commit")
        except sqlite3.IntegrityError as error:
            if not works:
                raise
            refused = self._write_anew(decisions)
            self._execute("commit")
            performed = {id(work): self._unkept(work, alone=len(works) == 1, error=error) for work in works}
        return [
            _outcome(item, item, refused.get(id(item))) if isinstance(item, Decision) else performed[id(item)]
            for item in group
        ]

    def _write(self, decisions: list[Decision]) -> dict[int, Exception]:
        """Write decisions within the transaction; give the errors of those that are refused, by `id`."""
        if not decisions:
            return {}
        try:
            self._rows.write(decisions)
        except (sqlite3.IntegrityError, *UNFIT):
            self._roll_back()
            self._execute("begin")
            return self._write_singly(decisions)
        return {}

    def _write_singly(self, decisions: list[Decision]) -> dict[int, Exception]:
        refused: dict[int, Exception] = {}
        for decision in decisions:
            self._execute("open_savepoint")
            try:
                try:
                    self._rows.write([decision])
                except (sqlite3.IntegrityError, *UNFIT) as error:
                    self._execute("undo_savepoint")
                    write_again(self._rows, decision, error)
            except MinuetError as error:
                self._execute("undo_savepoint")
                refused[id(decision)] = error
            self._execute("release_savepoint")
        return refused

    def _write_anew(self, decisions: list[Decision]) -> dict[int, Exception]:
        """Begin a transaction again that was lost, with the decisions of the group alone."""
        self._roll_back()
        self._execute("begin")
        return self._write(decisions)

    def _unkept(self, work: Work, *, alone: bool, error: sqlite3.Error) -> Outcome:
        """Say what became of a work whose group broke a constraint that is checked only at the commit."""
        if not alone:
            self._works_alone = WORKS_ALONE
            return _undone(work)
        return _outcome(work, None, _breach(error))

    def _sink(self, error: sqlite3.Error) -> StoreError:
        """Undo the transaction, and say what the error means for everything in it."""
        sunk = translate(error, self._file)
        sunk.__cause__ = error
        if isinstance(sunk, StoreFull) or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            self._roll_back()
        else:
            self._give_up()
        return sunk

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._execute("rollback")

    def _give_up(self) -> None:
        """Close a connection that is not to be trusted again; what is in memory only is kept, as there is no disk."""
        if self._file is None:
            self._roll_back()
        else:
            self._is_trusted = False
            with suppress(sqlite3.Error):
                self._connection.close()

    def _trust(self) -> None:
        """Open the store again if the last connection was given up.

        Raises:
            StoreError: it cannot be opened, or its log cannot be brought into the file.
        """
        if self._is_trusted:
            return
        connection = open_writer(self._file)
        try:
            checkpoint_all(connection)
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, self._file) from error
        self._use(connection)

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows = RowWriter(connection, self._queries)
        self._works = WorkPerformer(connection, self._queries, self._rows)
        self._checkpointer = Checkpointer(connection, self._file)
        self._is_trusted = True

    def _consider_checkpoint(self) -> None:
        if not self._is_trusted:
            return
        try:
            self._checkpointer.consider()
        except sqlite3.Error as error:
            self._sink(error)

    def _execute(self, query: str) -> None:
        self._connection.execute(self._queries[query])


def _outcome(item: Decision | Work, decision: Decision | None, error: Exception | None) -> Outcome:
    if isinstance(item, Decision):
        return Outcome(item, None, error)
    return Outcome(decision, item, error)


def _breach(error: sqlite3.Error) -> StatementFailed:
    return StatementFailed(
        f"what the handler wrote breaks a constraint that is checked at the commit: {error}",
        constraint="foreign-key",
        remedy="Write the rows that others refer to in the same handler",
    )


def _undone(work: Work | None) -> Outcome:
    error = StoreUnavailable(
        "another handler of the group made the store undo it all", remedy="Perform the handler again"
    )
    return Outcome(None, work, error)
