"""A store as a file among processes: opened, read beside, forked, left, read by others."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from minuet.engine.row import Lease
from minuet.errors import AlreadyOpen, NotFound, SettingsError, StoreDamaged, StoreError, StoreUnavailable
from minuet.stores.sqlite import connection as connection_module
from minuet.stores.sqlite.lock import read_lock
from minuet.stores.sqlite.store import SqliteReader, SqliteStore
from minuet.testing.store_desk import Desk, decision, desk_of, execute, fact_row, one_statement, run_row, start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def perform(file: Path | None, test: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with desk_of(SqliteStore(file)) as desk:
            await test(desk)

    asyncio.run(asyncio.wait_for(main(), 60))


async def nothing(desk: Desk) -> None:
    """Open and close."""


def test_an_open_store_is_locked_and_says_where_its_api_is(file: Path) -> None:
    async def test(desk: Desk) -> None:
        assert isinstance(desk.store, SqliteStore)
        holder = read_lock(file)
        assert holder is not None
        assert holder.pid == os.getpid()
        desk.store.publish_address("http://127.0.0.1:8640")
        again = read_lock(file)
        assert again is not None
        assert again.address == "http://127.0.0.1:8640"

    perform(file, test)
    assert read_lock(file) is None


def test_two_names_of_one_file_are_one_store(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(file)

    async def test(desk: Desk) -> None:
        other = SqliteStore(link)
        with pytest.raises(AlreadyOpen):
            await other.open(lambda _: None)
        await other.close()

    perform(file, test)


def test_a_closed_store_is_one_file_and_its_lock(file: Path) -> None:
    async def test(desk: Desk) -> None:
        await desk.record(start(1))
        await desk.store.load_run(1)

    perform(file, test)
    assert sorted(path.name for path in file.parent.iterdir()) == ["store.db", "store.db.lock"]


def test_a_failed_opening_leaves_nothing_locked(file: Path) -> None:
    file.write_text("no database" * 1_000)

    async def main() -> None:
        for _ in range(2):
            store = SqliteStore(file)
            with pytest.raises(StoreDamaged, match="not a SQLite database"):
                await store.open(lambda _: None)
            await store.close()
        assert read_lock(file) is None

    asyncio.run(main())
    assert file.read_text() == "no database" * 1_000


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "no" / "where" / "store.db")
        with pytest.raises(StoreError) as caught:
            await store.open(lambda _: None)
        assert caught.value.remedy
        await store.close()

    asyncio.run(main())


def test_a_network_file_system_is_refused_before_anything_is_made(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(connection_module, "_MOUNTS", mounts)

    async def main() -> None:
        store = SqliteStore(file)
        with pytest.raises(SettingsError):
            await store.open(lambda _: None)
        await store.close()

    asyncio.run(main())
    assert [path.name for path in tmp_path.iterdir()] == ["mounts"]


def test_users_keep_their_own_tables_in_the_same_file(file: Path) -> None:
    own = sqlite3.connect(file)
    own.execute("create table orders (id text)")
    own.execute("insert into orders values ('o-1')")
    own.execute("pragma user_version = 7")
    own.commit()
    own.close()

    async def test(desk: Desk) -> None:
        await desk.record(one_statement(execute("insert into orders values ('o-2')"), start(1)))

    perform(file, test)
    own = sqlite3.connect(file)
    assert own.execute("select id from orders order by id").fetchall() == [("o-1",), ("o-2",)]
    assert own.execute("pragma user_version").fetchone() == (7,)
    own.close()


def test_an_opening_that_is_cancelled_leaves_nothing_open(file: Path) -> None:
    async def main() -> None:
        store = SqliteStore(file)
        opening = asyncio.create_task(store.open(lambda _: None))
        await asyncio.wait([opening], timeout=0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert read_lock(file) is None

    asyncio.run(main())
    perform(file, nothing)


def test_a_forked_child_cannot_use_the_store_and_does_not_hold_it(file: Path) -> None:
    async def test(desk: Desk) -> None:
        await desk.record(start(1))
        await desk.store.load_run(1)
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:  # only what the test is about, and no way back into pytest
            try:
                desk.store.submit(start(2))
            except StoreUnavailable:
                os.write(told, b"refused")
            else:
                os.write(told, b"taken")
            signal.pause()
            os._exit(0)
        try:
            assert os.read(ready, 10) == b"refused"
            await desk.record(start(3))
            await desk.store.close()
            assert read_lock(file) is None, "the child, which still lives, holds the lock"
            async with desk_of(SqliteStore(file)) as again:
                assert await again.store.runs_to_load(0, 10) == [1, 3]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(told)

    perform(file, test)


# Reading a store that nobody holds


async def read(file: Path, test: Callable[[SqliteReader], Coroutine[Any, Any, None]]) -> None:
    reader = SqliteReader(file)
    try:
        await reader.open()
        await test(reader)
    finally:
        await reader.close()


def test_a_reader_reads_what_is_there_and_changes_nothing(file: Path) -> None:
    async def write(desk: Desk) -> None:
        await desk.record(decision(1, runs=[run_row(1, key="k")], facts=[fact_row(1, "1")]))

    perform(file, write)
    before = file.read_bytes()

    async def test(reader: SqliteReader) -> None:
        stored = await reader.load_run(1)
        assert stored is not None
        assert stored.facts == [fact_row(1, "1")]
        found = await reader.find_run(None, "k")
        assert found is not None
        assert await reader.count_runs() == {("place_order", "running"): 1}

    asyncio.run(read(file, test))
    assert file.read_bytes() == before
    perform(file, nothing)


def test_a_reader_sees_what_a_crash_left_in_the_log(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    async def write(desk: Desk) -> None:
        await desk.record(start(1))
        copy.write_bytes(file.read_bytes())
        copy.with_name("copy.db-wal").write_bytes(file.with_name("store.db-wal").read_bytes())

    perform(file, write)

    async def test(reader: SqliteReader) -> None:
        assert await reader.runs_to_load(0, 10) == [1]

    asyncio.run(read(copy, test))


def test_a_reader_says_what_is_not_a_store(file: Path) -> None:
    async def test(reader: SqliteReader) -> None:
        pytest.fail("it was opened")

    with pytest.raises(NotFound, match="no store at"):
        asyncio.run(read(file, test))
    file.write_text("no database" * 1_000)
    with pytest.raises(StoreDamaged, match="not a SQLite database"):
        asyncio.run(read(file, test))
    file.unlink()
    other = sqlite3.connect(file)
    other.execute("create table t (n)")
    other.close()
    with pytest.raises(StoreDamaged, match="no store of Minuet"):
        asyncio.run(read(file, test))


def test_who_holds_the_file_owns_everything_and_takes_no_leases(file: Path) -> None:
    async def main() -> None:
        desk = Desk(SqliteStore(file))
        assert (await desk.open()).shards is None
        store = desk.store
        assert await store.claim("a", 9, 1_000) == []
        assert await store.renew("a", [Lease(0, 1)], 1_000) == [Lease(0, 1)]
        await store.give_back("a", [Lease(0, 1)])
        assert await store.owners() == {}
        store.on_news(lambda shards: pytest.fail(f"nobody left anything for {shards}"))
        await desk.record(start(1))
        await store.close()

    asyncio.run(main())


def test_a_closed_reader_says_so(file: Path) -> None:
    perform(file, nothing)

    async def main() -> None:
        reader = SqliteReader(file)
        with pytest.raises(StoreUnavailable):
            await reader.plans()
        await reader.open()
        assert await reader.plans() == []
        await reader.close()
        await reader.close()
        with pytest.raises(StoreUnavailable):
            await reader.plans()

    asyncio.run(main())
