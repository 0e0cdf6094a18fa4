"""W3 by DBOS: one workflow gathers a step for each item."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.contest import Figures
from benchmarks.meter import Meter
from benchmarks.peer.program import DBOS, configure, launched


def one_run(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Perform one run over `size` items."""
    configure(folder / "w3.db", wal=wal)

    @DBOS.step()
    async def double(item: int) -> int:
        return 2 * item

    @DBOS.workflow()
    async def fan_out(items: list[int]) -> list[int]:
        return await asyncio.gather(*(double(item) for item in items))

    async def measured() -> Figures:
        await fan_out([1, 2, 3])
        with Meter() as meter:
            assert await fan_out(list(range(size))) == [2 * i for i in range(size)]
        return meter.figures(size)

    with launched():
        return asyncio.run(measured())
