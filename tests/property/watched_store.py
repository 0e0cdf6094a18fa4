"""A real store that is watched: what became durable in which order, whether it is busy, and crashes.

The store is the real one; a participant is given a *life* of it. When a participant crashes its life ends at once: what
it had not handed over yet is lost, and it is not told what becomes of the rest. The next one gets another life.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from minuet.engine.basis import Basis
from minuet.engine.decided import Decided
from minuet.engine.port import Opened, Outcome, Statement, Work
from minuet.engine.row import Decision, WaitRow
from minuet.errors import StoreUnavailable
from minuet.ids import parse_round
from minuet.stores.sqlite.store import SqliteStore
from tests.property.interpreter import Fact, Round

TURNS_HELD = 4  # of the loop, less than: how long something may wait to be handed over, and be lost in a crash
SLOW_READS = 0.2  # the share of reads that are slow
COMMITS_LATE = 6  # less than: how many commits a slow one may be behind

TellOutcomes = Callable[[Sequence[Outcome]], None]


class Log:
    """What all participants together have recorded, in an order in which it can have happened."""

    def __init__(self) -> None:
        self.facts: dict[int, dict[Fact, Any]] = {}  # by run; told or not, but by whoever recorded them
        self.known: dict[str, dict[tuple[int, str, Round, str], int]] = {}  # by store: since when
        self.wrong: dict[int, list[str]] = {}
        self.wrong_anywhere: list[str] = []
        self.armed: list[tuple[str, WaitRow]] = []  # by store; whoever sends events takes them from here
        self.last_ms = 0

    def take(self, where: str, decision: Decision, now_ms: int) -> None:
        """Take a decision that has become durable."""
        d = decision.token
        told = d.told if isinstance(d, Decided) else 0
        known = self.known.setdefault(where, {})
        for i, f in enumerate(decision.facts):
            fact = (f.position, parse_round(f.round), f.label)
            known[f.run, *fact] = now_ms
            self.last_ms = now_ms
            if i < told:
                continue
            facts = self.facts.setdefault(f.run, {})
            if fact in facts:
                self.wrong.setdefault(f.run, []).append(f"{fact} was recorded twice, now at {where}")
            facts[fact] = msgspec.json.decode(f.value) if f.value else None
        self.armed += [(where, w) for w in decision.waits]

    def take_armed(self) -> list[tuple[str, WaitRow]]:
        """Give the waits that were armed since the last time."""
        armed, self.armed = self.armed, []
        return armed


class Shelf:
    """One participant's store through all its lives: in memory, or a file that each life opens anew."""

    def __init__(self, name: str, file: Path | None, log: Log, now_ms: Callable[[], int]) -> None:
        self.name, self.file, self.log, self._now_ms = name, file, log, now_ms
        self.inner = SqliteStore(file)
        self.life: Life | None = None
        self.under_way = 0
        self.when_changed: asyncio.Future[None] | None = None
        self._opened: Opened | None = None
        self._then: dict[int, Callable[[], object]] = {}
        self._handed_over = 0
        self._commit: asyncio.Future[None] | None = None

    def new_life(self) -> Life:
        """Give the store to a participant."""
        self.life = Life(self)
        return self.life

    async def open(self) -> Opened:
        """Open the real store, if it is not open."""
        if self._opened is None:
            self._opened = await self.counted(self.inner.open(self._take))
        return self._opened

    async def end_life(self) -> None:
        """Wait until what was handed over is durable; of a file everything is closed, as at the end of a process."""
        while self.under_way:
            await asyncio.sleep(0.001)
        if self.file is not None:
            await self.inner.close()
            self.inner, self._opened = SqliteStore(self.file), None

    async def close(self) -> None:
        """Close the real store."""
        if self._opened is not None:
            await self.inner.close()

    async def column(self, sql: str) -> list[Any]:
        """Read one column of what is stored."""
        read = Column(sql)
        await self.inner.setup(read)
        return read.found

    def submit(self, item: Decision | Work) -> None:
        """Hand something over to the real store."""
        self.under_way += 1
        self._handed_over += 1
        if isinstance(item, Decision):
            self.inner.submit(item)
        else:
            self.inner.submit_work(item)

    def record(self, decision: Decision, then: Callable[[], object]) -> None:
        """Record something past the participant, as if it had come before; call `then` when it is durable."""
        self._then[id(decision)] = then
        self.submit(decision)

    async def counted(self, coroutine: Any) -> Any:
        """Wait for something that the store does, such that one can see that it is busy."""
        self.under_way += 1
        try:
            return await coroutine
        finally:
            self.under_way -= 1
            self._tell_change()

    async def next_commit(self) -> None:
        """Wait until something more is durable, if something is to become so."""
        await asyncio.sleep(0)
        if self._handed_over or (self.life is not None and self.life.is_holding):
            if self._commit is None or self._commit.done():
                self._commit = asyncio.get_running_loop().create_future()
            await self._commit

    def tell_commit(self) -> None:
        """Let go on who waits for a commit: there was one, or there will be none."""
        if self._commit is not None and not self._commit.done():
            self._commit.set_result(None)

    def _tell_change(self) -> None:
        if self.when_changed is not None and not self.when_changed.done():
            self.when_changed.set_result(None)

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        self.under_way -= len(outcomes)
        self._handed_over -= len(outcomes)
        for decision, work, error in outcomes:
            if error is None and decision is not None:
                self.log.take(self.name, decision, self._now_ms())
            elif error is not None and work is None:
                self.log.wrong_anywhere.append(f"{self.name}: {error!r}")
            if (then := self._then.pop(id(decision), None)) is not None:
                then()
        if self.life is not None:
            self.life.tell(outcomes)
        self.tell_commit()
        self._tell_change()


class Life:
    """A `Store` for one participant, from its opening to its end or crash."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._told: TellOutcomes | None = None
        self._own: set[int] = set()
        self._held: list[Decision | Work] = []
        self._r = random.Random(shelf.name)
        self.is_over = False

    @property
    def is_holding(self) -> bool:
        """Whether something was not handed over yet."""
        return bool(self._held)

    @property
    def backlog(self) -> int:
        """See `Store.backlog`."""
        return self._shelf.inner.backlog

    async def open(self, on_outcomes: TellOutcomes) -> Opened:
        """See `Store.open`."""
        self._told = on_outcomes
        return await self._shelf.open()

    async def close(self) -> None:
        """Hand over what is held, and end."""
        self._hand_over()
        self.is_over = True

    def crash(self) -> None:
        """End at once."""
        self.is_over = True
        self._held.clear()
        self._shelf.tell_commit()

    def submit(self, decision: Decision) -> None:
        """See `Store.submit`."""
        self._hold(decision)

    def submit_work(self, work: Work) -> None:
        """See `Store.submit_work`."""
        self._hold(work)

    def _hold(self, item: Decision | Work) -> None:
        if self.is_over:
            return
        if not self._held:
            asyncio.get_running_loop().call_soon(self._hand_over, self._r.randrange(TURNS_HELD))
        self._held.append(item)

    def _hand_over(self, turns: int = 0) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._hand_over, turns - 1)
            return
        held, self._held = self._held, []
        for item in held:
            self._own.add(id(item))
            self._shelf.submit(item)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the participant what became of what it has handed over; nothing, after its end."""
        if self.is_over or self._told is None:
            return
        own = [o for o in outcomes if id(o.work if o.work is not None else o.decision) in self._own]
        self._own.difference_update(id(o.work if o.work is not None else o.decision) for o in own)
        self._told(own)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._shelf.inner, name)

        async def counted(*given: Any, **named: Any) -> Any:
            if self.is_over:
                raise StoreUnavailable("the process is dead", remedy="None")
            return await self._shelf.counted(self.slowly(method(*given, **named)))

        return counted

    async def slowly(self, read: Any) -> Any:
        """Wait for a read; it may be old when it comes, since others became durable meanwhile."""
        found = await read
        if self._r.random() < SLOW_READS:
            for _ in range(self._r.randrange(COMMITS_LATE)):
                await self._shelf.next_commit()
        return found


class Column:
    """A query as a work of the store."""

    def __init__(self, sql: str) -> None:
        self.first = Statement("fetch", sql, ())
        self.basis: Basis | None = None
        self.found: list[Any] = []

    def next(self, answer: Any) -> Statement | None:
        """Take the rows."""
        self.found = [row[0] for row in answer]
        return None

    def fail(self, error: Exception) -> Statement | None:
        """Pass an error on."""
        raise error

    def keeps_writes(self) -> bool:
        """There is nothing to keep."""
        return True

    def finish(self, *, undo: bool) -> Decision | None:
        """There is nothing to record."""
        return None
