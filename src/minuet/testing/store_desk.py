"""A desk at which a store is tried: opens it, hands things in, waits for what became of them; and rows to hand in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from minuet.engine.basis import Basis
from minuet.engine.port import Opened, Outcome, Statement, Store, Work
from minuet.engine.row import (
    AttemptRow,
    Decision,
    FactRow,
    InboxRow,
    RunChange,
    RunRow,
    TimerRow,
    WaitRow,
    slot_of,
)

NOW_MS = 1_700_000_000_000
Script = Generator[Statement, Any, "Decision | None"]


class Desk:
    """An open store, whose outcomes are given to whoever handed in what they are about."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.groups: list[list[Outcome]] = []
        self._expected: dict[int, asyncio.Future[Outcome]] = {}

    async def open(self) -> Opened:
        """Open the store, outcomes arriving here."""
        return await self.store.open(self._on_outcomes)

    def hand_in(self, item: Decision | Work) -> asyncio.Future[Outcome]:
        """Submit a decision or a work, and give what will become of it."""
        outcome = asyncio.get_running_loop().create_future()
        self._expected[id(item)] = outcome
        if isinstance(item, Decision):
            self.store.submit(item)
        else:
            self.store.submit_work(item)
        return outcome

    async def outcomes(self, *items: Decision | Work) -> list[Outcome]:
        """Submit several at once, and give what became of each, in the same order."""
        return [await outcome for outcome in [self.hand_in(item) for item in items]]

    async def record(self, *items: Decision | Work) -> None:
        """Submit several at once, and see that each is recorded."""
        for outcome in await self.outcomes(*items):
            if outcome.error is not None:
                raise outcome.error

    async def refused(self, item: Decision | Work) -> Exception:
        """Submit something that cannot be recorded, and give the error."""
        (outcome,) = await self.outcomes(item)
        assert outcome.error is not None, "it was recorded"
        return outcome.error

    def _on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self.groups.append(list(outcomes))
        for outcome in outcomes:
            item = outcome.work if outcome.work is not None else outcome.decision
            self._expected.pop(id(item)).set_result(outcome)


@asynccontextmanager
async def desk_of(store: Store) -> AsyncIterator[Desk]:
    """Open a store, and close it in the end."""
    desk = Desk(store)
    await desk.open()
    try:
        yield desk
    finally:
        await store.close()


class ScriptedWork:
    """A handler as a generator: it yields statements, and returns the decision that goes with its writes.

    An exception that leaves it undoes its writes; then `otherwise` is what is recorded.
    """

    def __init__(self, script: Callable[[], Script], otherwise: Decision | None = None) -> None:
        self._script = script()
        self._otherwise = otherwise
        self._decision: Decision | None = None
        self.error: BaseException | None = None
        self.was_undone: bool | None = None
        self.first = next(self._script)
        self.basis: Basis | None = None

    def next(self, answer: Any) -> Statement | None:
        """Take the answer of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._script.send(answer))

    def fail(self, error: Exception) -> Statement | None:
        """Take the error of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._script.throw(error))

    def keeps_writes(self) -> bool:
        """Say whether the script came to its end."""
        return self.error is None

    def finish(self, *, undo: bool) -> Decision | None:
        """Give the script's decision, or what is recorded otherwise."""
        self.was_undone = undo
        return self._otherwise if undo else self._decision

    def _go(self, step: Callable[[], Statement]) -> Statement | None:
        try:
            return step()
        except StopIteration as end:
            self._decision = end.value
        except Exception as error:  # noqa: BLE001 - whatever a script raises is its answer, as with a handler
            self.error = error
        return None


def execute(sql: str, *arguments: Any) -> Statement:
    """Make a statement that changes rows."""
    return Statement("execute", sql, arguments)


def fetch(sql: str, *arguments: Any) -> Statement:
    """Make a query."""
    return Statement("fetch", sql, arguments)


def one_statement(statement: Statement, decision: Decision | None = None) -> ScriptedWork:
    """Make a handler of one statement."""

    def script() -> Script:
        yield statement
        return decision

    return ScriptedWork(script)


def statements(*several: Statement, decision: Decision | None = None) -> ScriptedWork:
    """Make a handler of several statements."""

    def script() -> Script:
        for statement in several:  # noqa: UP028 - a tuple takes no answers
            yield statement
        return decision

    return ScriptedWork(script)


def run_row(run: int, **other: Any) -> RunRow:
    """Make a run that is running."""
    return RunRow(
        run=run,
        workflow="place_order",
        digest="7c1e03d5",
        key=None,
        input='{"id": "o-1"}',
        state="running",
        load=1,
        paused=0,
        dirty=0,
        reason=None,
        result=None,
        started_at_ms=NOW_MS,
        ended_at_ms=None,
    )._replace(**other)


def run_change(run: int, **other: Any) -> RunChange:
    """Make a change of a run: it has completed."""
    return RunChange(
        state="completed",
        load=None,
        paused=0,
        dirty=0,
        reason=None,
        result='"p-1"',
        ended_at_ms=NOW_MS + 50,
        run=run,
    )._replace(**other)


def fact_row(run: int, position: str, label: str = "ok", value: str | None = '"v"', **other: Any) -> FactRow:
    """Make a fact."""
    return FactRow(
        run=run,
        position=position,
        round="",
        slot=slot_of(label),
        label=label,
        value=value,
        seq=1,
        at_ms=NOW_MS,
    )._replace(**other)


def attempt_row(run: int, position: str = "2a", **other: Any) -> AttemptRow:
    """Make an attempt that waits for its next time."""
    return AttemptRow(
        run=run,
        position=position,
        round="",
        direction="forward",
        state="waiting",
        attempts=1,
        next_at_ms=NOW_MS + 1_000,
        first_at_ms=NOW_MS,
        last_at_ms=NOW_MS,
        error="ConnectionRefusedError",
    )._replace(**other)


def timer_row(run: int, position: str = "4", **other: Any) -> TimerRow:
    """Make a timer."""
    return TimerRow(run=run, position=position, round="", purpose="sleep", due_at_ms=NOW_MS + 60_000)._replace(**other)


def wait_row(run: int, key: str, **other: Any) -> WaitRow:
    """Make an armed wait."""
    return WaitRow(event="carrier.picked-up", key=key, run=run, position="5", round="", since_ms=NOW_MS)._replace(
        **other
    )


def inbox_row(message: str, key: str = "p-1", **other: Any) -> InboxRow:
    """Make an event that nobody has taken."""
    return InboxRow(
        source="carrier",
        message=message,
        event="carrier.picked-up",
        version=1,
        key=key,
        body='{"parcel": "p-1"}',
        state="kept",
        run=None,
        position=None,
        round=None,
        received_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 1_000_000,
    )._replace(**other)


def decision(run: int = 0, **rows: Iterable[Any]) -> Decision:
    """Make a decision of rows by noun: `decision(1, runs=[…], facts=[…])`."""
    made = Decision(run)
    for noun, of_noun in rows.items():
        setattr(made, noun, list(of_noun))
    return made


def start(run: int, **other: Any) -> Decision:
    """Make the decision that begins a run."""
    return decision(run, runs=[run_row(run, **other)])
