"""W2 by DBOS: the third step rejects, and the workflow's own text compensates the two in reverse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contest import Figures
from benchmarks.meter import Meter
from benchmarks.peer.program import DBOS, configure, launched
from benchmarks.peer.w1_sequence import AT_ONCE


class OutOfReach(Exception):
    """Nobody drives there."""


def at_once(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Perform `size` runs, as many at once as serves best."""
    configure(folder / "w2.db", wal=wal)

    @DBOS.step()
    def reserve(order: str) -> str:
        return f"{order} {'n' * 90}"

    @DBOS.step()
    def release(reserved: str) -> None: ...

    @DBOS.step()
    def charge(reserved: str) -> str:
        return reserved

    @DBOS.step()
    def refund(charged: str) -> None: ...

    @DBOS.step()
    def ship(charged: str) -> str:
        raise OutOfReach("too far away")

    @DBOS.workflow()
    def saga(order: str) -> str:
        reserved = reserve(order)
        charged = charge(reserved)
        try:
            return ship(charged)
        except OutOfReach:
            refund(charged)
            release(reserved)
            return "compensated"

    with launched(), ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(saga, ["w"] * 3))
        with Meter() as meter:
            ends = list(pool.map(saga, [f"{i:08}" for i in range(size)]))
    assert set(ends) == {"compensated"}
    return meter.figures(size)
