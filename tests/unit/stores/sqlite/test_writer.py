"""Groups when things go wrong: what sinks a handler, what sinks a group, and how the store goes on."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from minuet.engine.row import Decision
from minuet.errors import StatementFailed, StatementRefused, StoreDamaged, StoreFull, StoreUnavailable
from minuet.stores.sqlite import connection as connection_module
from minuet.stores.sqlite import group as group_module
from minuet.stores.sqlite import guard as guard_module
from minuet.stores.sqlite import work as work_module
from minuet.stores.sqlite.checkpoint import checkpoint_all
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.rows import RowWriter
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import (
    Desk,
    Script,
    ScriptedWork,
    decision,
    desk_of,
    execute,
    fact_row,
    fetch,
    one_statement,
    start,
    statements,
)


def perform(file: Path | None, test: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with desk_of(SqliteStore(file)) as desk:
            await test(desk)

    asyncio.run(asyncio.wait_for(main(), 60))


def error_of(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    error.sqlite_errorname = f"CODE_{code}"
    return error


class FailingCommits:
    """Makes commits of a store fail: before or after they were done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: list[tuple[int, bool]] = []
        original = Groups._execute

        def execute(groups: Groups, query: str) -> None:
            if query != "commit" or not self.errors:
                original(groups, query)
                return
            code, is_done = self.errors.pop(0)
            if is_done:
                original(groups, query)
            raise error_of(code)

        monkeypatch.setattr(Groups, "_execute", execute)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> FailingCommits:
    return FailingCommits(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.parametrize("is_done", [True, False])
def test_a_failed_sync_leaves_it_unknown_and_the_store_is_opened_again(
    file: Path, commits: FailingCommits, *, is_done: bool
) -> None:
    async def test(desk: Desk) -> None:
        store = desk.store
        assert isinstance(store, SqliteStore)
        await desk.store.setup(one_statement(execute("create table t (n integer)")))
        await desk.record(start(1))
        before = store._writer._groups._connection if store._writer else None
        commits.errors.append((sqlite3.SQLITE_IOERR_FSYNC, is_done))
        work = one_statement(execute("insert into t values (1)"), start(3))
        outcomes = await desk.outcomes(start(2), work)
        assert [type(outcome.error) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
        assert (await desk.store.load_run(2) is not None) == is_done
        await desk.record(start(2), start(4))
        assert await desk.store.runs_to_load(0, 10) == ([1, 2, 3, 4] if is_done else [1, 2, 4])
        assert store._writer is not None
        assert store._writer._groups._connection is not before
        with pytest.raises(sqlite3.ProgrammingError):
            assert before
            before.execute("select 1")

    perform(file, test)


def test_a_new_connection_brings_the_whole_log_into_the_file_before_anything_is_acknowledged(
    file: Path, commits: FailingCommits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that failed once may say nothing the second time, while the kernel has dropped the pages."""
    tries: list[str] = []

    async def test(desk: Desk) -> None:
        await desk.record(start(1))
        commits.errors.append((sqlite3.SQLITE_IOERR_FSYNC, False))
        assert isinstance(await desk.refused(start(2)), StoreUnavailable)

        def checkpoint(connection: sqlite3.Connection) -> None:
            tries.append("try")
            if len(tries) < 3:
                raise error_of(sqlite3.SQLITE_IOERR_FSYNC)
            checkpoint_all(connection)

        monkeypatch.setattr(group_module, "checkpoint_all", checkpoint)
        for _ in range(2):
            assert isinstance(await desk.refused(start(2)), StoreUnavailable)
        await desk.record(start(2))
        assert len(tries) == 3
        assert await desk.store.runs_to_load(0, 10) == [1, 2]

    perform(file, test)


def test_a_task_of_its_own_is_refused_while_the_store_cannot_be_opened_again(
    file: Path, commits: FailingCommits, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(desk: Desk) -> None:
        commits.errors.append((sqlite3.SQLITE_IOERR_FSYNC, False))
        assert isinstance(await desk.refused(start(1)), StoreUnavailable)

        def checkpoint(connection: sqlite3.Connection) -> None:
            raise error_of(sqlite3.SQLITE_IOERR_FSYNC)

        monkeypatch.setattr(group_module, "checkpoint_all", checkpoint)
        create = execute("create table t (n integer)")
        with pytest.raises(StoreUnavailable):
            await desk.store.setup(one_statement(create))
        monkeypatch.undo()
        await desk.store.setup(one_statement(create))

    perform(file, test)


def test_a_task_of_its_own_fails_alone_when_its_commit_fails(file: Path, commits: FailingCommits) -> None:
    async def test(desk: Desk) -> None:
        commits.errors.append((sqlite3.SQLITE_IOERR_WRITE, False))
        with pytest.raises(StoreUnavailable):
            await desk.store.setup(one_statement(execute("create table t (n integer)")))
        await desk.store.setup(one_statement(execute("create table t (n integer)")))
        await desk.record(start(1))

    perform(file, test)


def test_a_full_disk_refuses_a_group_and_the_store_stays_usable(file: Path) -> None:
    async def test(desk: Desk) -> None:
        store = desk.store
        assert isinstance(store, SqliteStore)
        assert store._writer
        await desk.record(start(1))
        connection = store._writer._groups._connection
        (pages,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {pages + 2}").fetchall()
        large = decision(2, facts=[fact_row(2, "1", value="x" * 100_000)])
        first, second = await desk.outcomes(start(2), large)
        assert [type(outcome.error) for outcome in (first, second)] == [StoreFull, StoreFull]
        assert await desk.store.runs_to_load(0, 10) == [1]
        await desk.record(start(3))
        connection.execute("pragma max_page_count = 1000000").fetchall()
        await desk.record(start(2), large)
        assert store._writer._groups._connection is connection
        assert await desk.store.runs_to_load(0, 10) == [1, 2, 3]

    perform(file, test)


def test_another_program_that_holds_the_file_is_waited_for_and_then_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "BUSY_TIMEOUT_S", 0.2)

    async def test(desk: Desk) -> None:
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("begin immediate")
        outcome = desk.hand_in(start(1))
        threading.Timer(0.05, lambda: other.execute("rollback")).start()
        assert (await outcome).error is None
        other.execute("begin immediate")
        error = await desk.refused(start(2))
        assert isinstance(error, StoreUnavailable)
        assert "another program" in str(error)
        other.execute("rollback")
        other.close()
        await desk.record(start(2))

    perform(file, test)


def test_a_statement_that_undoes_everything_harms_handlers_only(file: Path) -> None:
    """`insert or rollback` ends the transaction: decisions are written anew, handlers before it are to be repeated."""

    async def test(desk: Desk) -> None:
        await desk.store.setup(one_statement(execute("create table t (n integer primary key)")))
        before = one_statement(execute("insert into t values (1)"), start(2))
        after = one_statement(execute("insert into t values (3)"), start(4))
        culprit = ScriptedWork(
            lambda: _twice("insert or rollback into t values (2)"), otherwise=decision(3, audit=[], runs=start(3).runs)
        )
        outcomes = await desk.outcomes(start(1), before, culprit, after)
        assert [type(outcome.error) for outcome in outcomes] == [type(None), StoreUnavailable, type(None), type(None)]
        assert isinstance(culprit.error, StatementFailed)
        assert culprit.was_undone is True
        assert await desk.store.runs_to_load(0, 10) == [1, 3, 4]
        assert await _numbers(desk) == [3]

    perform(file, test)


def test_a_handler_that_will_not_take_no_for_an_answer_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "STATEMENTS_MAX", 50)

    def stubborn(sql: str) -> Script:
        while True:
            try:
                yield execute(sql)
            except StatementFailed:
                continue

    async def test(desk: Desk) -> None:
        await desk.store.setup(one_statement(execute("create table t (n integer primary key)")))
        for sql in ("insert into t values (1)", "insert or rollback into t values (1)"):
            work = ScriptedWork(lambda sql=sql: stubborn(sql), otherwise=decision())  # type: ignore[misc]
            await desk.record(work, start(1))
            assert work.was_undone is True
            assert await _numbers(desk) == []

    perform(file, test)


def test_a_constraint_that_is_checked_at_the_commit_fails_its_handler_only(file: Path) -> None:
    async def test(desk: Desk) -> None:
        await desk.store.setup(
            statements(
                execute("create table a (id integer primary key)"),
                execute("create table b (a integer references a (id) deferrable initially deferred)"),
            )
        )
        culprit = one_statement(execute("insert into b values (9)"), start(2))
        neighbour = one_statement(execute("insert into a values (1)"), start(3))
        outcomes = await desk.outcomes(start(1), culprit, neighbour)
        assert [type(outcome.error) for outcome in outcomes] == [type(None), StoreUnavailable, StoreUnavailable]
        again = one_statement(execute("insert into b values (9)"), start(2))
        other = one_statement(execute("insert into a values (1)"), start(3))
        kept = statements(execute("insert into b values (5)"), execute("insert into a values (5)"), decision=start(5))
        first, second, third, fourth = await desk.outcomes(again, other, kept, start(4))
        assert isinstance(first.error, StatementFailed)
        assert first.error.constraint == "foreign-key"
        assert (second.error, third.error, fourth.error) == (None, None, None)
        assert await desk.store.runs_to_load(0, 10) == [1, 3, 4, 5]

    perform(file, test)


def test_a_statement_that_is_cut_off_harms_handlers_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite undoes the whole transaction when it interrupts a statement that writes."""
    monkeypatch.setattr(guard_module, "STEPS_MAX", 20_000_000)
    endless = "with recursive n (i) as (select 1 union all select i + 1 from n) insert into t select i % 9 from n"

    async def test(desk: Desk) -> None:
        await desk.store.setup(one_statement(execute("create table t (n integer)")))
        work = one_statement(execute(endless))
        await desk.record(start(1), work)
        assert isinstance(work.error, StatementRefused)
        with pytest.raises(StatementFailed, match="checked at the commit"):
            await desk.store.setup(
                statements(
                    execute("create table a (id integer primary key)"),
                    execute("create table b (a integer references a (id) deferrable initially deferred)"),
                    execute("insert into b values (9)"),
                )
            )
        lost = one_statement(execute(endless))
        await desk.store.setup(lost)
        assert lost.was_undone is True
        assert await desk.store.runs_to_load(0, 10) == [1]
        assert await _numbers(desk) == []

    perform(file, test)


def test_damage_that_is_met_while_writing_is_told_as_damage(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        def damaged(*_: object) -> None:
            raise error_of(sqlite3.SQLITE_CORRUPT)

        with monkeypatch.context() as patch:
            patch.setattr(RowWriter, "write", damaged)
            assert isinstance(await desk.refused(start(1)), StoreDamaged)
        await desk.record(start(1))

    perform(file, test)


def test_a_mistake_of_ours_ends_its_group_and_not_the_writer(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        def broken(*_: object) -> None:
            raise KeyError("mistake")

        with monkeypatch.context() as patch:
            patch.setattr(RowWriter, "write", broken)
            error = await desk.refused(start(1))
            assert isinstance(error, StoreUnavailable)
            assert "mistake" in str(error)
        await desk.record(start(1))

    perform(file, test)


def test_a_store_in_memory_outlives_errors_too(commits: FailingCommits) -> None:
    async def test(desk: Desk) -> None:
        await desk.record(start(1))
        commits.errors.append((sqlite3.SQLITE_NOMEM, False))
        assert isinstance(await desk.refused(start(2)), StoreUnavailable)
        await desk.record(start(2))
        assert await desk.store.runs_to_load(0, 10) == [1, 2]

    perform(None, test)


def test_groups_are_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "GROUP_DECISIONS_MAX", 10)
    monkeypatch.setattr(group_module, "GROUP_WORKS_MAX", 3)

    async def test(desk: Desk) -> None:
        await desk.store.setup(one_statement(execute("create table t (n integer)")))
        items: list[Decision | ScriptedWork] = [start(run) for run in range(1, 26)]
        items += [one_statement(execute("insert into t values (?)", n)) for n in range(7)]
        await desk.record(*items)
        sizes = [
            (sum(outcome.work is None for outcome in group), sum(outcome.work is not None for outcome in group))
            for group in desk.groups
        ]
        assert max(decisions for decisions, _ in sizes) <= 10
        assert max(works for _, works in sizes) <= 3
        assert sum(works for _, works in sizes) == 7

    perform(file, test)


def test_a_loop_that_is_never_idle_does_not_starve_the_writer(file: Path) -> None:
    """Turns shorter than the switch interval give the interpreter lock back too briefly for a thread to wake up."""

    async def test(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        is_over = False

        def spin() -> None:
            sum(range(20_000))  # some tenths of a millisecond, in which the lock is not asked for
            if not is_over:
                loop.call_soon(spin)

        loop.call_soon(spin)
        async with asyncio.timeout(60):
            for run in range(1, 21):
                await desk.record(start(run))
        is_over = True

    perform(file, test)


def test_a_loop_that_died_leaves_a_store_that_can_be_opened_again(file: Path) -> None:
    async def leave() -> None:
        store = SqliteStore(file)
        await store.open(lambda _: None)
        for run in range(1, 101):
            store.submit(start(run))
        left.append(store)

    left: list[SqliteStore] = []
    asyncio.run(leave())
    store = left.pop()
    store._close()  # what the end of the process does, for this test
    del store
    gc.collect()

    async def test(desk: Desk) -> None:
        assert len(await desk.store.runs_to_load(0, 1000)) == 100

    perform(file, test)


def _twice(sql: str) -> Script:
    yield execute(sql)
    yield execute(sql)
    return None


async def _numbers(desk: Desk) -> list[int]:
    numbers: list[int] = []

    def script() -> Script:
        rows = yield fetch("select n from t order by n")
        numbers.extend(row["n"] for row in rows)
        return None

    await desk.record(ScriptedWork(script))
    return numbers
