"""What one simulated process sees of a database: the `Store` port, over a connection that takes its time, and breaks.

Each call is on its way for a moment, is done at the server at one instant, and its answer is on its way back. A process
that crashes or loses its connection meanwhile may have had it done or not, and never hears of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from minuet.engine.basis import lose
from minuet.engine.port import Opened, Outcome, Work
from minuet.engine.row import Decision, Lease
from minuet.errors import StoreUnavailable
from minuet.stores.sqlite.read_side import ReadSide
from minuet.stores.sqlite.reads import Reads
from minuet.stores.sqlite.retention import forget_events, forget_runs
from minuet.testing.simulation.loop import Process

if TYPE_CHECKING:
    from minuet.testing.simulation.database import SimulatedDatabase

P = ParamSpec("P")
T = TypeVar("T")

READ_S = (0.0002, 0.003)
COMMIT_S = (0.0005, 0.005)
SILENCE_S = (0.1, 2.0)  # how long a process that is cut off waits for an answer


@dataclass(slots=True, eq=False)
class _Call:
    """Something that is to be done at the server; `tell` is called in the process with its result, or its error.

    `commits`: it changes something, so it may be done also where its caller has crashed. `by_process`: code of the
    process takes part in it, so it cannot.
    """

    do: Callable[[], Any]
    tell: Callable[[Any, Exception | None], object]
    commits: bool = False
    by_process: bool = False
    line: tuple[int, int] | None = None  # the connection that it was sent over; None: it got lost
    back_s: float = 0.0  # how long the answer takes
    is_overdue: bool = False  # the process has waited for an answer in vain
    result: Any = None
    error: Exception | None = None


class SimulatedStore(ReadSide):
    """The store of one process. It dies with it; what the server has taken does not."""

    def __init__(self, database: SimulatedDatabase, process: Process) -> None:
        self.process = process
        self._database = database
        self._loop = database.loop
        self._chance = database.chance
        self._way = f"{database.name}: way"
        self._coin = database.chance.stream(f"{database.name}: in time")
        self._on_outcomes: Callable[[Sequence[Outcome]], None] = lambda _: None
        self._on_news: Callable[[Collection[int]], None] | None = None
        self._is_open = False
        self._waiting: deque[Decision | Work] = deque()
        self._is_busy = False  # a group is under way
        self._idle: list[asyncio.Future[None]] = []  # of those who wait until none is
        self.on_commit: Callable[[], None] | None = None  # called once, when decisions of an owner are on their way
        self._under_way: list[_Call] = []  # what changes something

    # Opening and closing

    async def open(self, on_outcomes: Callable[[Sequence[Outcome]], None]) -> Opened:
        """Open for writing; see `Store.open`.

        Raises:
            AlreadyOpen: it is exclusive, and a living process has it open; names that process.
            StoreUnavailable: it cannot be reached.
        """
        self._on_outcomes = on_outcomes
        try:
            opened = await self._ask(lambda: self._database.open(self), READ_S)  # not to be done without us
        except BaseException:
            self._database.release(self)
            raise
        self._is_open = True
        return opened

    async def close(self) -> None:
        """Commit what was submitted, then close. Idempotent."""
        self._is_open = False
        while self._is_busy:
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
        self._database.release(self)

    def settle(self) -> None:
        """Have done, or not, what is under way of a process that is no more: another one opens what was its own."""
        for call in list(self._under_way):
            self._arrive(call)

    # Writing

    def submit(self, decision: Decision) -> None:
        """Have a decision recorded with the next group. Returns at once."""
        self._submit(decision)

    def submit_work(self, work: Work) -> None:
        """Have a transactional handler performed, and what it decides recorded, with the next group."""
        self._submit(work)

    @property
    def backlog(self) -> int:
        """Give how many decisions and works wait for the next group."""
        return len(self._waiting)

    async def setup(self, work: Work) -> None:
        """Perform a work of its own group, for services that create their tables."""
        await self._commit(lambda: self._database.perform_work(work), by_process=True)

    async def forget(self, ended_before_ms: int, limit: int) -> int:
        """Remove ended runs with all their rows, oldest first, in one transaction; give how many."""
        runs = await self._read(Reads.runs_to_forget, ended_before_ms, limit)
        if not runs:
            return 0
        queries = self._database.queries
        return await self._transact(lambda c: forget_runs(c, queries, runs))

    async def forget_events(self, until_entry: int, limit: int) -> int:
        """Remove events that every active subscription has passed and no delivery needs; give how many."""
        queries = self._database.queries
        return await self._transact(lambda c: forget_events(c, queries, until_entry, limit))

    # Owners

    async def claim(self, owner: str, wanted: int, ttl_ms: int) -> list[Lease]:
        """Take up to so many shards that nobody owns (any more); see `Store.claim`. None where it is exclusive."""
        if (shards := self._database.shards) is None:
            return []
        database = self._database
        return await self._transact(lambda _: database.leases.claim(owner, wanted, ttl_ms, database.now_ms(), shards))

    async def renew(self, owner: str, held: Sequence[Lease], ttl_ms: int) -> list[Lease]:
        """Keep shards for this long from now; gives those that were still held, under these epochs."""
        if (database := self._database).shards is None:
            return list(held)
        return await self._transact(lambda _: database.leases.renew(owner, held, ttl_ms, database.now_ms()))

    async def give_back(self, owner: str, held: Sequence[Lease]) -> None:
        """Let others have shards at once."""
        if (database := self._database).shards is not None:
            await self._transact(lambda _: database.leases.give_back(owner, held, database.now_ms()))

    async def time_ms(self) -> int:
        """Give what the server's clock says."""
        self._require_open()
        database = self._database
        return await self._ask(lambda: database.read(database.now_ms), READ_S)

    async def owners(self) -> dict[str, int]:
        """Count the shards of each owner whose lease has not run out."""
        self._require_open()
        database = self._database
        return await self._ask(lambda: database.read(lambda: database.leases.owners(database.now_ms())), READ_S)

    def on_news(self, call: Callable[[Collection[int]], None] | None) -> None:
        """Have it called when another participant left something for these shards; now and then it is not."""
        self._on_news = call

    def hear(self, shards: Sequence[int]) -> None:
        """Be told by the server that something was left for these shards."""
        if self._is_open and not self._database.is_cut_off(self.process):
            self.process.call(self._hear, shards, after_s=self._chance.between(self._way, *READ_S))

    def _hear(self, shards: Sequence[int]) -> None:
        if self._on_news is not None and self._is_open:
            self._on_news(shards)

    # Groups

    def _submit(self, item: Decision | Work) -> None:
        self._require_open()
        self._waiting.append(item)
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_outside(0, self._send_group)

    def _send_group(self) -> None:
        if self._waiting:
            group = self._database.take(self._waiting)
            if self.on_commit is not None and any(isinstance(d, Decision) and d.fence is not None for d in group):
                on_commit, self.on_commit = self.on_commit, None
                self._loop.call_outside(0, on_commit)
            self._send(
                _Call(
                    do=lambda: self._database.record(group, self),
                    tell=lambda outcomes, error: self._tell_group(group, outcomes, error),
                    commits=True,
                    by_process=any(not isinstance(item, Decision) for item in group),
                ),
                COMMIT_S,
            )
            return
        self._is_busy = False
        for idle in self._idle:
            _settle(idle, None, None)
        self._idle.clear()

    def _tell_group(
        self, group: list[Decision | Work], outcomes: list[Outcome] | None, error: Exception | None
    ) -> None:
        self._loop.call_outside(0, self._send_group)
        if outcomes is None:
            for item in group:
                lose(item)
            outcomes = [
                Outcome(item, None, error) if isinstance(item, Decision) else Outcome(None, item, error)
                for item in group
            ]
        self._on_outcomes(outcomes)

    # Calls

    async def _read(self, method: Callable[Concatenate[Reads, P], T], /, *arguments: P.args, **named: P.kwargs) -> T:
        self._require_open()
        database = self._database
        return await self._ask(lambda: database.read(lambda: method(database.reads, *arguments, **named)), READ_S)

    async def _transact(self, task: Callable[[sqlite3.Connection], T]) -> T:
        return await self._commit(lambda: self._database.perform(task))

    async def _commit(self, do: Callable[[], T], *, by_process: bool = False) -> T:
        self._require_open()
        return await self._ask(do, COMMIT_S, commits=True, by_process=by_process)

    async def _ask(
        self, do: Callable[[], T], takes_s: tuple[float, float], *, commits: bool = False, by_process: bool = False
    ) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        call = _Call(
            do=do if commits else lambda: None if answer.cancelled() else do(),
            tell=lambda result, error: _settle(answer, result, error),
            commits=commits,
            by_process=by_process,
        )
        self._send(call, takes_s)
        return await answer

    def _send(self, call: _Call, takes_s: tuple[float, float]) -> None:
        takes = self._chance.between(self._way, *takes_s)
        there = self._chance.between(self._way, 0, takes)
        call.back_s = takes - there
        call.line = self._database.line(self.process)
        if call.commits:
            self._under_way.append(call)
        self._loop.call_outside(there, self._arrive, call)

    def _arrive(self, call: _Call) -> None:
        """Have a call done at the server, if it gets there."""
        if call.commits:
            if call not in self._under_way:
                return
            self._under_way.remove(call)
        process = self.process
        if not process.is_alive:
            if call.commits and not call.by_process and self._coin.random() < 0.5:
                self._do(call)
        elif call.by_process or (call.commits and process.is_paused and self._coin.random() < 0.5):
            process.call(self._do, call)  # it was not sent yet: a process that stands still does so when it goes on
        else:
            self._do(call)

    def _do(self, call: _Call) -> None:
        if call.line is not None and call.line == self._database.line(self.process):
            try:
                call.result = call.do()
            except Exception as error:  # noqa: BLE001 - it is the caller's
                call.error = error
        else:
            call.line = None
        self.process.call(self._answer, call, after_s=call.back_s)

    def _answer(self, call: _Call) -> None:
        """Take an answer, or none, in the process."""
        database = self._database
        if call.line is None or call.line != database.line(self.process):
            if database.is_cut_off(self.process) and not call.is_overdue:
                call.is_overdue = True
                self.process.call(self._answer, call, after_s=self._chance.between(self._way, *SILENCE_S))
                return
            call.result, call.error = None, database.unavailable("there is no answer")
        call.tell(call.result, call.error)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the store is not open; nothing was recorded", remedy="Open it first")


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
