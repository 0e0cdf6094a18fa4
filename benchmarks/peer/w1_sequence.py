"""W1 by DBOS: three steps, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contest import Figures
from benchmarks.meter import Meter, percentiles
from benchmarks.peer.program import DBOS, configure, launched

AT_ONCE = 1
"""As many as serve DBOS best on SQLite: with 1, 4 and 20 threads it did 154, 131 and 109 runs/s with the write-ahead
log, 88, 88 and 82 without; as coroutines 101, 95 and 80; 72, 65 and 62."""


def declared(folder: Path, wal: bool) -> Callable[[str], str]:
    configure(folder / "w1.db", wal=wal)

    @DBOS.step()
    def reserve(order: str) -> str:
        return f"{order} {'n' * 90}"

    @DBOS.step()
    def charge(reserved: str) -> str:
        return reserved

    @DBOS.step()
    def ship(charged: str) -> str:
        return charged

    @DBOS.workflow()
    def sequence(order: str) -> str:
        return ship(charge(reserve(order)))

    return sequence


def at_once(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Perform `size` runs, as many at once as serves best."""
    sequence = declared(folder, wal)
    with launched(), ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(sequence, ["w"] * 5))
        with Meter() as meter:
            list(pool.map(sequence, [f"{i:08}" for i in range(size)]))
    return meter.figures(size)


def one_at_a_time(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Perform `size` runs, each after the last."""
    sequence = declared(folder, wal)
    taken = []
    with launched():
        for _ in range(5):
            sequence("w")
        with Meter() as meter:
            for i in range(size):
                began = time.perf_counter()
                sequence(f"{i:08}")
                taken.append(time.perf_counter() - began)
    return {**meter.figures(size), **percentiles(taken)}
