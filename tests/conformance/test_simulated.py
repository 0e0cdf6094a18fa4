"""The simulated database: without faults it is a store like any other, on a simulated loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from minuet.engine.port import Capability, Store
from minuet.testing.clock import START_MS
from minuet.testing.message_suite import MessageSuite
from minuet.testing.outbox_suite import OutboxSuite
from minuet.testing.owner_suite import OwnerSuite
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.database import SimulatedDatabase
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop
from minuet.testing.store_suite import MakeStore, StoreSuite

SHARDS = 16


class SmallWorld:
    """A loop and a database, in which nothing goes wrong."""

    def __init__(self, shards: int | None) -> None:
        chance = Chance(1)
        self.loop = SimulationLoop(chance)
        self.process = Process(self.loop, "p")
        self._passed_ms = 0
        self._database = SimulatedDatabase(self.loop, chance, Faults(), "home", shards=shards, now_ms=self._now_ms)

    def run(self, test: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(self.process.spawn(test))

    def store(self) -> Store:
        return self._database.store(self.process)

    def another_store(self) -> Store:
        return self._database.store(Process(self.loop, f"p{len(self.loop.processes)}"))

    def pass_ms(self, duration_ms: int) -> None:
        self._passed_ms += duration_ms

    def close(self) -> None:
        self.loop.close()
        self._database.close()

    def _now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1000) + self._passed_ms


def worlds(shards: int | None) -> Iterator[SmallWorld]:
    """Give a world, and see in the end that nothing in it failed unseen."""
    world = SmallWorld(shards)
    yield world
    assert world.loop.failures == []
    world.close()


class TestSimulatedExclusive(StoreSuite, OutboxSuite, MessageSuite):
    capabilities = frozenset(Capability) - {Capability.SHARED}

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStore]:
        for world in worlds(None):
            monkeypatch.setattr(asyncio, "run", world.run)  # what the suites run their tests with
            yield world.store


class TestSimulatedShared(StoreSuite, OutboxSuite, MessageSuite, OwnerSuite):
    capabilities = frozenset(Capability) - {Capability.EXCLUSIVE}

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStore]:
        for world in worlds(SHARDS):
            monkeypatch.setattr(asyncio, "run", world.run)
            yield world.store

    @pytest.fixture
    def database(self) -> Iterator[SmallWorld]:
        yield from worlds(SHARDS)
