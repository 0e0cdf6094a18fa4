"""The invariants give no false alarm: real participants perform random workflows in every placement, and break none."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from minuet.engine.invariant import History
from minuet.engine.port import StoredRun
from minuet.engine.row import Decision
from tests.property.acting import Performance
from tests.property.batch import Batch, How
from tests.property.hosted import how, performances
from tests.property.watched_store import Log

WORKFLOWS = 3  # of one batch, each performed 20 times


class Watching(Log):
    """A log that also hands on what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.violations: list[str] = []

    def take(self, where: str, decision: Decision, now_ms: int) -> None:
        super().take(where, decision, now_ms)
        self.violations += self.history.take(where, decision)


async def violations(way: How, given: Sequence[Performance]) -> list[str]:
    """Perform runs together; say which invariants were broken."""
    batch = Batch(way, given)
    log = batch.log = batch.world.log = Watching()
    log.last_ms = batch.clock.now_ms()
    for shelf in batch.shelves.values():
        shelf.log = log
    try:
        await batch.perform()
        stores: dict[int, dict[str, StoredRun]] = {}
        for name, shelf in batch.shelves.items():
            for stored in await shelf.inner.load_runs([p.run for p in given]):
                stores.setdefault(stored.run.run, {})[name] = stored
    finally:
        await batch.close()
    assert len(stores) == len(given)
    return log.violations + log.history.at_the_end(stores, {p.plan.digest: p.plan for p in given})


@pytest.mark.parametrize("seed", range(4, 10))
def test_random_workflows_in_every_style_break_no_invariant(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        way = how(seed, Path(folder))
        given = [
            p for i in range(WORKFLOWS) for p in performances(seed * WORKFLOWS + i, hangs=not way.is_short_of_memory)
        ]
        assert not asyncio.run(violations(way, given))
