"""A file that is not what it should be gives a clear error, and never a wrong answer."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from minuet.errors import MinuetError, StoreDamaged, StoreError
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import decision, desk_of, fact_row, run_row, start

RUNS = 400


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"

    async def main() -> None:
        async with desk_of(SqliteStore(file)) as desk:
            await desk.record(
                *(
                    decision(run, runs=[run_row(run)], facts=[fact_row(run, str(n), value="x" * 200) for n in range(3)])
                    for run in range(1, RUNS + 1)
                )
            )

    asyncio.run(main())
    return file


async def use(file: Path) -> None:
    """Read everything and write something."""
    async with desk_of(SqliteStore(file)) as desk:
        runs = await desk.store.runs_to_load(0, 10_000)
        for stored in await desk.store.load_runs(runs):
            assert len(stored.facts) <= 3
        await desk.record(start(10_000), start(10_001))


def damage_of(file: Path) -> MinuetError | None:
    try:
        asyncio.run(use(file))
    except MinuetError as error:
        return error
    return None


def test_flipped_bytes_are_told_as_damage_or_do_no_harm(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    told = 0
    for seed in range(40):
        chance = random.Random(seed)
        damaged = bytearray(whole)
        start_at = chance.randrange(0, len(damaged), 4096)
        for _ in range(chance.choice([1, 16, 256])):
            damaged[min(len(damaged) - 1, start_at + chance.randrange(4096))] ^= 1 << chance.randrange(8)
        copy = tmp_path / f"copy-{seed}.db"
        copy.write_bytes(damaged)
        error = damage_of(copy)
        if error is not None:
            assert isinstance(error, StoreError)
            assert error.remedy
            assert copy.name in str(error)
            told += 1
    assert told > 5, "too little damage to mean anything"


def test_a_file_that_was_cut_off_is_told_as_damage(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    with pytest.raises(StoreDamaged) as caught:
        asyncio.run(use(file))
    assert "backup" in str(caught.value)


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.touch()
    asyncio.run(use(file))


def test_a_store_of_a_later_release_is_refused_and_left_as_it_is(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("insert into minuet_migration (number, checksum, applied_at_ms) values (99, 'x', 0)")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreDamaged, match="schema 99") as caught:
        asyncio.run(use(file))
    assert "later one" in caught.value.remedy
    assert file.read_bytes() == before


def test_a_store_whose_tables_were_dropped_is_told_as_unavailable(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("drop table minuet_fact")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="minuet_fact"):
        asyncio.run(use(file))
