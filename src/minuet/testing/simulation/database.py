"""A database server of a simulated world: the real schema, SQL and transactions, in memory, without threads.

It lives on when processes crash. What goes wrong with a commit goes wrong where a driver would say so: the connection
raises what SQLite raises, and the real code makes of it what it makes of it. How long everything takes, and what gets
lost between a process and the server, is in `store.py`.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

from minuet.engine.port import Opened, Outcome, StoredRun, Work
from minuet.engine.row import Decision
from minuet.errors import AlreadyOpen, StaleOwner, StoreUnavailable
from minuet.ids import shard_of
from minuet.stores.sqlite.connection import translate
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.leases import Leases
from minuet.stores.sqlite.reads import Reads
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.connection import connect, queries
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop
from minuet.testing.simulation.store import SimulatedStore

T = TypeVar("T")

DOWN_S = (0.1, 3.0)  # how long a restart takes
NEWS_LOST = 0.1  # the share of hints to other participants that get lost, where anything goes wrong at all
# What a commit meets, by the name of the fault: the statement that fails, and how.
_FAILING = {
    "busy": ("begin", sqlite3.SQLITE_BUSY),
    "full": ("commit", sqlite3.SQLITE_FULL),
    "unknown_lost": ("commit", sqlite3.SQLITE_IOERR),
}


class _Past(NamedTuple):
    """What the whole database was after a commit, and what was decided with that."""

    image: bytes
    decisions: Sequence[Decision]


class SimulatedDatabase:
    """One database of a world; `store` gives what a process sees of it.

    `shards`: over how many its runs are spread, and any number of processes may have it open; None: one at a time.
    `now_ms`: the server's clock, by which leases run out. `lag_max`: how many commits `forget_tail` may undo; each
    commit costs a copy of the whole where it is not 0. `on_recorded` is called with the name of a process and a
    decision that it has made durable, in the order of commits.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        chance: Chance,
        faults: Faults,
        name: str,
        *,
        shards: int | None = None,
        now_ms: Callable[[], int],
        lag_max: int = 0,
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.faults = faults  # may be replaced at any time
        self.name = name
        self.shards = shards
        self.commits = 0
        self.refused_stale = 0
        self.on_recorded: Callable[[str, Decision], None] = lambda *_: None
        self.now_ms = now_ms
        self.queries = queries()
        self._connection = connect()
        self._groups = Groups(self._connection, None, self.queries, nullcontext())
        self.reads = Reads(self._connection, self.queries)
        self.leases = Leases(self._connection, self.queries)
        self._stores: list[SimulatedStore] = []
        self._holder: SimulatedStore | None = None
        self._restarts = 0
        self._down_until_s = 0.0
        self._cuts: dict[Process, int] = {}  # how often each was cut off
        self._cut: list[Process] = []
        self._incarnations = 0
        self._begin_incarnation()
        self._lag_max = lag_max
        self._past: deque[_Past] = deque(maxlen=lag_max + 1)
        self._remember(())

    def store(self, process: Process) -> SimulatedStore:
        """Give the store of one process, still closed; to be opened once."""
        return SimulatedStore(self, process)

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Read what is recorded, at once."""
        return self._connection.execute(sql, arguments).fetchall()

    def all_runs(self) -> list[StoredRun]:
        """Read all runs with all their rows, at once."""
        return self.reads.load_runs([run for (run,) in self.query("select run from minuet_run order by run")])

    def close(self) -> None:
        """Drop everything."""
        self._connection.close()

    # What befalls it

    def restart(self) -> None:
        """Break all connections, and take none for a while; what was recorded stays."""
        self._restarts += 1
        self._down_until_s = self.loop.time() + self.chance.between(f"{self.name}: down", *DOWN_S)

    def partition(self, process: Process) -> None:
        """Cut a process off: its calls fail after a while, and of those under way it never hears."""
        if process not in self._cut:
            self._cut.append(process)
            self._cuts[process] = self._cuts.get(process, 0) + 1

    def heal(self, process: Process) -> None:
        """Let a process reach it again."""
        if process in self._cut:
            self._cut.remove(process)

    def forget_tail(self, commits: int) -> list[Decision]:
        """Undo the last commits, at most `lag_max`, as a failover to a replica that lags does; give what was undone.

        The failover is noticed: connections break, the incarnation is another one, no lease is held any more, and no
        epoch is given again. Whoever holds an exclusive store has to be crashed: nothing else tells it.
        """
        assert self._lag_max, "it remembers no past"
        epochs = self.query("select shard, epoch from minuet_lease")
        undone = list[Decision]()
        for _ in range(min(commits, len(self._past) - 1)):
            undone[:0] = self._past.pop().decisions
        self._connection.become(self._past[-1].image)
        self._connection.executemany(
            "insert or replace into minuet_lease (shard, owner, epoch, until_ms) values (?, null, ?, 0)",
            [(shard, epoch + 1) for shard, epoch in epochs],
        )
        self._begin_incarnation()
        self._past[-1] = _Past(self._connection.serialize(), self._past[-1].decisions)
        self._restarts += 1
        return undone

    # For stores: what happens at the server, at one instant

    def line(self, process: Process) -> tuple[int, int] | None:
        """Give what a process' connection is: another one if it broke meanwhile; None where there is none."""
        if self.loop.time() < self._down_until_s or self.is_cut_off(process):
            return None
        return (self._restarts, self._cuts.get(process, 0))

    def is_cut_off(self, process: Process) -> bool:
        """Say whether a process hears nothing, not even that there is nobody."""
        return process in self._cut

    def open(self, store: SimulatedStore) -> Opened:
        """Let a store write.

        Raises:
            AlreadyOpen: it is exclusive, and a living process has it open.
        """
        if self.shards is None:
            if self._holder is not None:
                if self._holder.process.is_alive:
                    raise self._already_open(self._holder.process)
                self._holder.settle()
            self._holder = store
        self._stores = [s for s in self._stores if s.process.is_alive]
        self._stores.append(store)
        (epoch,) = self._groups.perform(lambda c: c.execute(self.queries["raise_epoch"]).fetchone())
        self._committed()
        ((incarnation,),) = self.query(self.queries["incarnation"])
        return Opened(epoch=epoch, incarnation=incarnation, shards=self.shards)

    def release(self, store: SimulatedStore) -> None:
        """Take note that a store is closed, or could not be opened."""
        if self._holder is store:
            self._holder = None
        if store in self._stores:
            self._stores.remove(store)

    def take(self, waiting: deque[Any]) -> list[Decision | Work]:
        """Take the next group from the left of what waits."""
        return self._groups.take(waiting)

    def record(self, group: list[Decision | Work], store: SimulatedStore) -> list[Outcome]:
        """Record a group in one transaction; give what became of each, in order.

        Raises:
            StoreUnavailable: the answer is lost.
        """
        with self._connection.failing(self._failure()):
            outcomes = self._groups.run(group)
        recorded = [o.decision for o in outcomes if o.error is None and o.decision is not None]
        self.refused_stale += sum(isinstance(o.error, StaleOwner) for o in outcomes)
        if any(o.error is None for o in outcomes):
            self._committed(recorded)
        for decision in recorded:
            self.on_recorded(store.process.name, decision)
        if self.shards is not None:
            self._spread_news(recorded, store)
        self._lose_answer()
        return outcomes

    def perform(self, task: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in a transaction of its own.

        Raises:
            StoreUnavailable: the answer is lost, or nothing was done.
            StoreFull: nothing was done.
            MinuetError: as the task says; nothing was done.
        """
        with self._connection.failing(self._failure()):
            result = self._groups.perform(task)
        self._committed()
        self._lose_answer()
        return result

    def perform_work(self, work: Work) -> None:
        """Perform a work by itself; raises as `perform` does, and what the work raises."""
        self.perform(lambda _: self._groups.perform_work(work))

    def read(self, do: Callable[[], T]) -> T:
        """Read something.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        if self.chance.strikes("read_error", self.faults.read_error):
            raise self.unavailable("a read failed")
        try:
            return do()
        except sqlite3.Error as error:
            raise translate(error, None) from error

    def unavailable(self, what: str) -> StoreUnavailable:
        """Say that there is no answer."""
        return StoreUnavailable(f"the database {self.name}: {what}", remedy="It is asked again by itself")

    # Within

    def _failure(self) -> tuple[str, int] | None:
        """Draw what the next commit meets."""
        for fault, (query, code) in _FAILING.items():
            if self.chance.strikes(fault, getattr(self.faults, fault)):
                return self.queries[query], code
        return None

    def _lose_answer(self) -> None:
        if self.chance.strikes("unknown_applied", self.faults.unknown_applied):
            raise self.unavailable("the connection broke after a commit was sent")

    def _committed(self, decisions: Sequence[Decision] = ()) -> None:
        self.commits += 1
        self._remember(decisions)

    def _remember(self, decisions: Sequence[Decision]) -> None:
        if self._lag_max:
            self._past.append(_Past(self._connection.serialize(), decisions))

    def _begin_incarnation(self) -> None:
        """Be another database than the one of before, in a way that depends on the seed only."""
        self._incarnations += 1
        self._connection.execute(
            "insert or replace into minuet_store (name, value) values ('incarnation', ?)",
            (f"{self.chance.seed}-{self.name}-{self._incarnations}",),
        )

    def _spread_news(self, recorded: Sequence[Decision], writer: SimulatedStore) -> None:
        """Hint to the others that something was left for these shards; each knows which ones are its own."""
        shards = set[int]()
        for decision in recorded:
            for event in decision.inbox:
                if event.state == "kept":
                    shards.update(shard_of(wait.run) for wait in self.reads.waits_for(event.event, event.key))
            if decision.messages is not None:
                shards.update(row.shard for row in decision.messages.passed)
        if not shards:
            return
        rate = 0.0 if self.faults.none else NEWS_LOST
        for store in self._stores:
            if store is not writer and not self.chance.strikes("news_lost", rate):
                store.hear(sorted(shards))

    def _already_open(self, holder: Process) -> AlreadyOpen:
        return AlreadyOpen(
            f"the database {self.name} is open in process {self.loop.processes.index(holder)} ({holder.name})",
            remedy="Wait until that process has ended: one process writes it",
            pid=self.loop.processes.index(holder),
            host=holder.name,
            started_at_ms=0,
        )
