"""The log is brought into the file between groups, and does not grow without bound."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from minuet.stores.sqlite import checkpoint as module
from minuet.stores.sqlite.checkpoint import Checkpointer, checkpoint_all, lengthen_log
from minuet.stores.sqlite.connection import open_reader, open_writer
from minuet.stores.sqlite.log import log_of
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import decision, desk_of, fact_row, run_row, start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def write(connection: sqlite3.Connection, rows: int, size: int = 1_000) -> None:
    connection.execute("begin immediate")
    connection.execute(
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?2)"
        " insert into t select zeroblob(?1) from n",
        (size, rows),
    )
    connection.execute("commit")


@pytest.fixture
def connection(file: Path) -> sqlite3.Connection:
    connection = open_writer(file)
    connection.execute("create table t (b blob)")
    return connection


def test_the_log_is_begun_anew_when_it_has_grown(file: Path, connection: sqlite3.Connection) -> None:
    checkpointer = Checkpointer(connection, file)
    sizes = []
    for _ in range(40):
        write(connection, 2_000)
        checkpointer.consider()
        sizes.append(log_of(file).stat().st_size)
    assert max(sizes) < 12 * 1024 * 1024, "40 times 2 MB went through it"
    assert file.stat().st_size > 60 * 1024 * 1024
    connection.close()


def test_a_log_that_a_reader_holds_is_cut_when_the_reader_has_left(
    file: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 8 * 1024 * 1024)
    monkeypatch.setattr(module, "TRUNCATE_TIMEOUT_S", 0.01)
    checkpointer = Checkpointer(connection, file)
    reader = open_reader(file)
    reader.execute("begin")
    reader.execute("select count(*) from t").fetchone()
    for _ in range(20):
        write(connection, 2_000)
        checkpointer.consider()
    grown = log_of(file).stat().st_size
    assert grown > 30 * 1024 * 1024, "a snapshot keeps the log"
    assert reader.execute("select count(*) from t").fetchone() == (0,)
    reader.execute("commit")
    for _ in range(6):
        write(connection, 2_000)
        checkpointer.consider()
    assert log_of(file).stat().st_size < 12 * 1024 * 1024
    reader.close()
    connection.close()


def test_the_log_stays_bounded_under_steady_reading(file: Path) -> None:
    async def main() -> None:
        async with desk_of(SqliteStore(file)) as desk:
            await desk.record(start(1))
            is_over = False

            async def read() -> None:
                while not is_over:
                    await desk.store.runs_to_load(0, 1_000)

            readers = [asyncio.create_task(read()) for _ in range(3)]
            for n in range(60):
                await desk.record(
                    *(decision(1, facts=[fact_row(1, f"{n}.{m}", value="x" * 500, seq=m)]) for m in range(1_000))
                )
            is_over = True
            await asyncio.gather(*readers)
            assert log_of(file).stat().st_size < 2 * module.LOG_BYTES_MAX
            assert file.stat().st_size > 20 * 1024 * 1024

    asyncio.run(main())


def test_a_lengthened_log_reads_as_before_and_survives_a_copy(file: Path, tmp_path: Path) -> None:
    """The copy of file and log, taken while the store is open, is what a crash leaves behind."""

    async def main() -> None:
        async with desk_of(SqliteStore(file)) as desk:
            assert log_of(file).stat().st_size >= module.PASSIVE_PAGES * 4096
            for run in range(1, 30):
                await desk.record(decision(run, runs=[run_row(run)], facts=[fact_row(run, "1")]))
            copy = tmp_path / "copy.db"
            copy.write_bytes(file.read_bytes())
            log_of(copy).write_bytes(log_of(file).read_bytes())
            async with desk_of(SqliteStore(copy)) as other:
                assert len(await other.store.runs_to_load(0, 100)) == 29
            check = sqlite3.connect(copy)
            assert check.execute("pragma integrity_check").fetchone() == ("ok",)
            check.close()

    asyncio.run(main())


def test_lengthening_a_log_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    lengthen_log(tmp_path / "nowhere.db")
    assert list(tmp_path.iterdir()) == []


def test_bringing_all_of_the_log_into_the_file_fails_while_somebody_reads_it(
    file: Path, connection: sqlite3.Connection
) -> None:
    reader = open_reader(file)
    reader.execute("begin")
    reader.execute("select count(*) from t").fetchone()
    write(connection, 10)
    connection.execute("pragma busy_timeout = 10").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="somebody reads"):
        checkpoint_all(connection)
    reader.close()
    checkpoint_all(connection)
    assert log_of(file).stat().st_size == 0
    connection.close()
