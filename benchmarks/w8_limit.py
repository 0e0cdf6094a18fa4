"""W8: what this machine can do at most: syncs a second of the disk, and rows a second in group commits."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from benchmarks.contest import Bar, Entry, Figures, Work, ratio
from benchmarks.meter import Disk, Meter, percentiles

ROW_BYTES = 300
ROWS_A_STATEMENT = 128
BATCHES = (1, 10, 100, 1_000)


def syncs(folder: Path, shared: Path, size: int, *, grows: bool) -> Figures:
    """Sync `size` frames of a log, each by itself."""
    disk = Disk(folder, size, grows=grows)
    for _ in range(size):
        disk.sync()
    disk.close()
    return {"per_s": size / sum(disk.taken_s), **percentiles(disk.taken_s)}


def rows(folder: Path, shared: Path, size: int, *, seconds: float = 1.0) -> Figures:
    """Write rows in commits of `size` rows each, with the settings of our store, as fast as SQLite does."""
    connection = sqlite3.connect(folder / "w8.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table rows (id integer primary key, value blob) strict")
    value = os.urandom(ROW_BYTES)
    texts = {n: "insert into rows (value) values " + ", ".join(["(?)"] * n) for n in _parts(size)}
    commits = 0
    with Meter() as meter:
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < seconds:
            connection.execute("begin immediate")
            for n in _parts(size):
                connection.execute(texts[n], [value] * n)
            connection.execute("commit")
            commits += 1
    connection.close()
    return {**meter.figures(commits * size), "commits_per_s": commits / meter.secs}


def _parts(size: int) -> list[int]:
    return [ROWS_A_STATEMENT] * (size // ROWS_A_STATEMENT) + (
        [size % ROWS_A_STATEMENT] if size % ROWS_A_STATEMENT else []
    )


WORK = Work(
    name="W8",
    title="limit: syncs a second; rows a second by the size of a commit",
    entries=(
        Entry(
            system="machine",
            what="syncs of the disk",
            durability="fdatasync of a frame of a log that grows",
            program=f"{__name__}:syncs",
            sizes=(1_000, 4_000),
            quick=(10, 20),
            options={"grows": True},
        ),
        Entry(
            system="machine",
            what="syncs of a file of its length",
            durability="fdatasync of a frame that is written over another",
            program=f"{__name__}:syncs",
            sizes=(1_000, 4_000),
            quick=(10, 20),
            options={"grows": False},
        ),
        Entry(
            system="machine",
            what="rows of 300 bytes",
            durability="SQLite WAL, synchronous=FULL, a sync a commit",
            program=f"{__name__}:rows",
            sizes=BATCHES,
            quick=(1, 10),
            quick_options={"seconds": 0.05},
        ),
    ),
    bars=(
        Bar(
            what="W1 runs/s, of rows/s in commits of 1,000",
            value=lambda f: ratio(
                f("per_s", "W1", "minuet", "at once"), f("per_s", "W8", "machine", "rows of 300 bytes", 1_000)
            ),
        ),
        Bar(
            what="W1 runs/s, of rows/s in commits of 100",
            value=lambda f: ratio(
                f("per_s", "W1", "minuet", "at once"), f("per_s", "W8", "machine", "rows of 300 bytes", 100)
            ),
        ),
        Bar(
            what="W1 runs/s, of syncs/s",
            value=lambda f: ratio(
                f("per_s", "W1", "minuet", "at once"), f("per_s", "W8", "machine", "syncs of the disk")
            ),
        ),
    ),
)
