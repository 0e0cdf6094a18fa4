"""A short record without a program: groups of decisions and works by hand, so that it can be repeated for each fault.

What is not acknowledged is handed in again, as a participant does it: the same again is to be safe.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

from minuet.engine.port import Statement, Work
from minuet.engine.row import Decision, EventRow
from minuet.errors import StoreError
from minuet.ids import first_run, op_key
from minuet.stores.sqlite.checkpoint import lengthen_log
from minuet.stores.sqlite.connection import open_writer, translate
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.schema import open_schema
from minuet.testing.store_desk import NOW_MS, Script, ScriptedWork, decision, fact_row, run_change, run_row, timer_row
from tests.powercut.disk import Disk
from tests.powercut.driver import file_of
from tests.powercut.images import load_all_queries, steps_of_sell
from tests.powercut.recording import Record
from tests.powercut.trade import NOTE
from tests.powercut.vfs import reseed

RUNS = 4
TOGETHER = 2  # runs that go on in one group
PASSIVE_PAGES = 12  # a checkpoint after every third group
ATTEMPTS_MAX = 20

"""How often it may fail before it is said that it does not go on."""
Make = Callable[[], Decision | Work]
Hear = Callable[[StoreError], None]


class Scripted:
    """The script over one disk. `hear` is told of every failure, as whoever handed something in is told."""

    def __init__(self, disk: Disk, hear: Hear = lambda _: None, *, runs: int = RUNS, note: str = NOTE * 20) -> None:
        self.disk = disk
        self.record = Record(disk)
        self.failures: list[StoreError] = []
        self._file = file_of(disk.folder)
        self._queries = load_all_queries()
        self._hear = hear
        self._groups_to_come = script(runs, note)
        self._groups: Groups | None = None

    @property
    def groups(self) -> Groups:
        """What writes; opened, if it is not."""
        while self._groups is None:
            self._open()
        return self._groups

    def perform(self) -> None:
        """Perform all of it, and close."""
        reseed(0)
        while not self._set_up():
            pass
        for makes in self._groups_to_come:
            while makes:
                makes = self._run(makes)
        self.groups.close()

    def _open(self) -> None:
        self.record.begins()
        try:
            connection = open_writer(self._file)
            try:
                open_schema(connection, self._queries, self._file.name)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            self._failed(translate(error, self._file))
        except StoreError as error:
            self._failed(error)
        else:
            self.record.done(connection)
            lengthen_log(self._file)
            self._groups = Groups(connection, self._file, self._queries, nullcontext())

    def _set_up(self) -> bool:
        groups = self.groups
        self.record.begins()
        try:
            groups.perform(lambda connection: connection.execute("create table if not exists booking (op_key, note)"))
        except StoreError as error:
            self._failed(error)
            return False
        self.record.done(groups._connection)
        return True

    def _run(self, makes: list[Make]) -> list[Make]:
        """Have a group recorded; give what is to be handed in again."""
        groups = self.groups
        self.record.begins()
        outcomes = groups.run(groups.take(deque(make() for make in makes)))
        errors = [outcome.error for outcome in outcomes]
        if isinstance(failure := errors[0], StoreError):
            assert all(isinstance(error, type(failure)) for error in errors), "a group is recorded whole, or not at all"
            self._failed(failure)
            return makes
        assert not any(errors), errors
        assert all(outcome.decision for outcome in outcomes), "a handler failed"
        self.record.done(groups._connection)
        groups.consider_checkpoint()
        return []

    def _failed(self, error: StoreError) -> None:
        self.failures.append(error)
        assert len(self.failures) < ATTEMPTS_MAX, f"it does not go on: {error!r}"
        if self.disk.is_dead and self._groups is not None:
            self._groups.close()
            self._groups = None
        self.disk.is_dead = False
        self._hear(error)


def script(number: int, note: str) -> Iterator[list[Make]]:
    """Give groups: runs begin, hold, wait, charge and end; each handler writes the note."""
    runs = [first_run(NOW_MS) + n for n in range(number)]
    for first in range(0, number, TOGETHER):
        some = runs[first : first + TOGETHER]
        yield [partial(_begin, run) for run in some]
        yield [partial(_hold, run, note) for run in some]
        yield [partial(_wake, run) for run in some]
        yield [*(partial(_charge, run, note) for run in some), *(partial(_end, run) for run in some)]


def _begin(run: int) -> Decision:
    return decision(run, runs=[run_row(run, key=f"o-{run}", input=f'"{NOTE * 8}"')], timers=[timer_row(run, "0")])


def _hold(run: int, note: str) -> Work:
    _, hold = steps_of_sell()
    made = decision(run, facts=[fact_row(run, hold, seq=1)])
    made.ensure_messages().outbox = [
        EventRow(None, "trade", f"{run}", "trade.held", 1, f"o-{run}", "{}", 0, "", NOW_MS, NOW_MS)
    ]
    return _booked(run, hold, note, made)


def _wake(run: int) -> Decision:
    timer = timer_row(run, "0")
    return decision(run, facts=[fact_row(run, "0", "fired", seq=2)], timers_done=[timer[:-1]])


def _charge(run: int, note: str) -> Work:
    steps, hold = steps_of_sell()
    charge = min(steps - {hold})
    return _booked(run, charge, note, decision(run, facts=[fact_row(run, charge, seq=3)]))


def _end(run: int) -> Decision:
    return decision(run, changes=[run_change(run)])


def _booked(run: int, position: str, note: str, made: Decision) -> Work:
    """Make a handler that writes a row under its operation key, in two statements."""

    def handler() -> Script:
        key = op_key(run, position, (), "forward")
        yield Statement("fetch", "select count(*) from booking where op_key = ?", (key,))
        yield Statement("execute", "insert into booking values (?, ?)", (key, note))
        return made

    return ScriptedWork(handler)
