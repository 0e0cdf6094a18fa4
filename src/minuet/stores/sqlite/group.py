"""Groups of decisions and works: each is one transaction and one sync, on the one connection that writes.

A group is plain decisions, noun by noun in few statements, then works one after another, each in a savepoint, then one
commit. What was decided under a lease that is lost is left out, and refused. A group whose decisions violate a
constraint is undone and done again, with a savepoint for each decision, so that only the culprit is refused. Anything
else that fails sinks the group: nothing of it is recorded, or it is unknown whether it is. A connection whose commit
failed is not trusted again: a sync that failed once may report success when it is repeated, while the kernel has
dropped the pages. It is closed, and a new one has to checkpoint the whole log, that is to write and sync it again from
what can be read of it, before anything is acknowledged.

There are no threads here, and no loop: whoever has a group calls, and is told its outcomes.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

from minuet.engine.basis import Basis, is_lost, lose
from minuet.engine.port import Outcome, Work
from minuet.engine.row import Decision
from minuet.errors import MinuetError, StatementFailed, StoreError, StoreFull, StoreUnavailable
from minuet.stores.sqlite.checkpoint import Checkpointer, checkpoint_all
from minuet.stores.sqlite.connection import open_writer, translate
from minuet.stores.sqlite.leases import Fence
from minuet.stores.sqlite.rows import RowWriter
from minuet.stores.sqlite.work import UNFIT, TransactionLost, WorkPerformer, write_again

# A group, at most. Decisions: some 20 ms of writing. Works: a handler may take its time between two statements; with W1
# and an insert in each step, groups of 32, 128 and 512 gave 4,100, 5,200 and 5,450 runs/s.
GROUP_DECISIONS_MAX = 2_048
GROUP_WORKS_MAX = 128
# After a deferred constraint failed a commit, that many works are committed one by one, to find whose it is.
WORKS_ALONE = 64

T = TypeVar("T")


class Groups:
    """Records groups on a connection. `turn` is held during a group, where readers share the connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path | None,
        queries: Mapping[str, str],
        turn: AbstractContextManager[Any],
    ) -> None:
        self._file = file
        self._queries = queries
        self._turn = turn
        self._works_alone = 0
        self._use(connection)

    def close(self) -> None:
        """Close the connection, which checkpoints the log. Readers are closed before."""
        self._connection.close()

    def take(self, waiting: deque[Any]) -> list[Decision | Work]:
        """Take the next group from the left of what waits, in order, up to anything that is neither."""
        works_max = GROUP_WORKS_MAX
        if self._works_alone:
            works_max = 1
        group = list[Decision | Work]()
        decisions = works = 0
        while waiting:
            item = waiting[0]
            if isinstance(item, Decision):
                if decisions == GROUP_DECISIONS_MAX:
                    break
                decisions += 1
            elif callable(item) or works == works_max:
                break
            else:
                works += 1
            group.append(item)
            waiting.popleft()
        if self._works_alone:
            self._works_alone -= works
        return group

    def run(self, group: list[Decision | Work]) -> list[Outcome]:
        """Record a group in one transaction; give what became of each, in order."""
        outcomes = self._run(group)
        for item, outcome in zip(group, outcomes, strict=True):
            if outcome.error is not None:
                lose(item)
        return outcomes

    def _run(self, group: list[Decision | Work]) -> list[Outcome]:
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

    def perform(self, task: Callable[[sqlite3.Connection], T]) -> T:
        """Do something on the connection in a transaction of its own.

        Raises:
            StatementFailed: it breaks a constraint.
            StoreError: the store is in trouble; what the task itself raises passes through.
        """
        with self._turn:
            self._trust()
            try:
                self._begin()
                result = task(self._connection)
                self._execute("commit")
            except sqlite3.IntegrityError as error:
                self._roll_back()
                raise _breach(error) from error
            except sqlite3.Error as error:
                raise self._sink(error) from error
            except BaseException:
                self._roll_back()
                raise
            return result

    def perform_work(self, work: Work) -> None:
        """Perform a work by itself, within `perform`; its failure is the caller's."""
        try:
            self._works.perform(work)
        except TransactionLost:
            self._begin()
            self._works.record(work)

    def consider_checkpoint(self) -> None:
        """Bring the log into the file, if it is time to."""
        if not self._is_trusted:
            return
        try:
            self._checkpointer.consider()
        except sqlite3.Error as error:
            self._sink(error)

    def _record(self, group: list[Decision | Work]) -> list[Outcome]:
        """Record a group in one transaction; give its outcomes in order."""
        decisions = [item for item in group if isinstance(item, Decision)]
        works = [item for item in group if not isinstance(item, Decision)]
        self._begin()
        refused = self._write(decisions)
        performed: dict[int, Outcome] = {}
        for work in works:
            if is_lost(work) or any(d.basis is work.basis is not None for d in decisions if id(d) in refused):
                performed[id(work)] = _outcome(work, None, _groundless())
                continue
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
        stale = self._fence.stale(decisions)
        if stale or any(d.after is not None or (d.basis is not None and d.basis.is_lost) for d in decisions):
            return self._write_singly(decisions)
        try:
            self._rows.write(decisions)
        except (sqlite3.IntegrityError, *UNFIT):
            self._roll_back()
            self._begin()
            return self._write_singly(decisions)
        return {}

    def _write_singly(self, decisions: list[Decision]) -> dict[int, Exception]:
        refused: dict[int, Exception] = {}
        stale = self._fence.stale(decisions)
        lost = set[Basis | None]()  # what those stand on that are refused here; none of the rest may stand on it
        for decision in decisions:
            if decision.fence in stale:
                refused[id(decision)] = stale[decision.fence]
                continue
            if is_lost(decision) or (decision.basis is not None and decision.basis in lost):
                refused[id(decision)] = _groundless()
                continue
            self._execute("open_savepoint")
            try:
                self._rows.refuse_second(decision)
                try:
                    self._rows.write([decision])
                except (sqlite3.IntegrityError, *UNFIT) as error:
                    self._execute("undo_savepoint")
                    write_again(self._rows, decision, error)
            except MinuetError as error:
                self._execute("undo_savepoint")
                refused[id(decision)] = error
                lost.add(decision.basis)
            self._execute("release_savepoint")
        return refused

    def _write_anew(self, decisions: list[Decision]) -> dict[int, Exception]:
        """Begin a transaction again that was lost, with the decisions of the group alone."""
        self._roll_back()
        self._begin()
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
        self._fence = Fence(connection, self._queries)
        self._works = WorkPerformer(connection, self._queries, self._rows, self._fence)
        self._checkpointer = Checkpointer(connection, self._file)
        self._is_trusted = True

    def _begin(self) -> None:
        self._execute("begin")
        self._fence.forget()

    def _execute(self, query: str) -> None:
        self._connection.execute(self._queries[query])


def _outcome(item: Decision | Work, decision: Decision | None, error: Exception | None) -> Outcome:
    if isinstance(item, Decision):
        return Outcome(item, None, error)
    return Outcome(decision, item, error)


def _groundless() -> StoreUnavailable:
    return StoreUnavailable("what it was made on was not recorded", remedy="Read the run anew, and decide again")


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
